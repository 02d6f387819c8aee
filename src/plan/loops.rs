//! Pipelines that would send their messages round for ever: a destination that is also what a source of them reads.

use portcullis_config::{
    Code, Diagnostic, JetStreamSink, Located, NatsConnection, NatsSink, Pipeline, Sink, Source, Template,
};

/// What is wrong with the destinations of a pipeline on NATS. What a template gives is known for each message only, and left
/// to its `allow`.
pub(super) fn on_nats(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let ends = std::iter::once(&pipeline.sink).chain(&pipeline.dead_letter);
    let destinations = ends.filter_map(|end| match &end.value {
        Sink::JetStream(sink) => {
            let JetStreamSink { connection, subject, stream, .. } = &**sink;
            Some(Destination { connection, subject, stream: stream.as_ref().map(|stream| stream.as_str()) })
        }
        Sink::Nats(sink) => {
            let NatsSink { connection, subject, .. } = &**sink;
            Some(Destination { connection, subject, stream: None })
        }
        _ => None,
    });
    destinations.filter_map(|to| pipeline.sources.iter().find_map(|source| to.is_read_by(source))).collect()
}

struct Destination<'a> {
    connection: &'a NatsConnection,
    subject: &'a Located<Template>,
    stream: Option<&'a str>,
}

impl Destination<'_> {
    fn is_read_by(&self, source: &Located<Source>) -> Option<Diagnostic> {
        let subject = self.subject.fixed()?;
        let matches = |patterns: &[Located<String>]| patterns.iter().any(|pattern| covers(pattern, subject));
        let (connection, is_read) = match &source.value {
            Source::Nats(nats) => (&nats.connection, matches(&nats.subjects)),
            Source::JetStream(read) => {
                let same_stream = self.stream == Some(read.stream.as_str());
                (&read.connection, read.filter_subjects.as_deref().map_or(same_stream, matches))
            }
            _ => return None,
        };
        let message = format!("messages sent to `{subject}` come back to the source at {}, without end", source.at);
        (is_read && share_a_server(connection, self.connection)).then(|| {
            let help = "name another subject, or give the source `filter_subjects` that leave it out";
            self.subject.at.diagnostic(Code::KeyConflict, message).help(help)
        })
    }
}

fn share_a_server(one: &NatsConnection, other: &NatsConnection) -> bool {
    one.servers.iter().any(|server| other.servers.iter().any(|known| known.value == server.value))
}

/// Whether a subject with wildcards covers one without.
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some(token), Some(other)) if token == "*" || token == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::{NoEnvironment, load_pipeline};

    use super::*;

    fn places(text: &str) -> Vec<(usize, usize)> {
        let pipeline = load_pipeline(std::path::Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap();
        on_nats(&pipeline).iter().map(|found| (found.at.line, found.at.col)).collect()
    }

    #[test]
    fn a_subject_that_a_source_reads_is_no_destination() {
        let with =
            |source: &str, sink: &str| places(&format!("pipeline: p\nsource: {{ {source} }}\nsink: {{ {sink} }}\n"));
        let core = "nats: { servers: [nats://a, nats://b], subjects: [x.*, y.>] }";
        let stream = "jetstream: { servers: nats://a, stream: S, consumer: c }";
        let filtered = "jetstream: { servers: nats://a, stream: S, consumer: c, filter_subjects: raw.> }";
        for (source, sink) in [
            (core, "nats: { servers: nats://b, subject: x.1 }"),
            (core, "jetstream: { servers: nats://a, subject: y.1.2 }"),
            (stream, "jetstream: { servers: nats://a, stream: S, subject: z }"),
            (filtered, "jetstream: { servers: nats://a, stream: S, subject: raw.a.b }"),
        ] {
            assert_eq!(with(source, sink).len(), 1, "{source} {sink}");
        }
        for (source, sink) in [
            (core, "nats: { servers: nats://c, subject: x.1 }"),
            (core, "nats: { servers: nats://a, subject: x.1.2 }"),
            (core, "nats: { servers: nats://a, subject: y }"),
            (stream, "jetstream: { servers: nats://a, stream: T, subject: z }"),
            (filtered, "jetstream: { servers: nats://a, stream: S, subject: clean.a }"),
        ] {
            assert_eq!(with(source, sink), [], "{source} {sink}");
        }
    }

    #[test]
    fn a_dead_letter_does_not_come_back_either() {
        let text = "pipeline: p\nsource: { nats: { servers: nats://a, subjects: '>' } }\nsink: { stdio: }\ndead_letter: { jetstream: { servers: nats://a, subject: dlq } }\n";
        assert_eq!(places(text), [(4, 57)]);
    }
}
