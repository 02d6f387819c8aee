//! Pipelines that would send their messages round for ever: a destination that is also what a source of them reads.

use portcullis_config::{
    Code, Diagnostic, JetStreamSink, JetStreamSource, Located, NatsConnection, NatsSink, Node, Pipeline, Sink, Source,
    Template,
};

/// What is wrong with the destinations of a pipeline on NATS. What a template gives is known for each message only, and left
/// to its `allow`.
pub(super) fn on_nats(node: &Node, pipeline: &Pipeline) -> Vec<Diagnostic> {
    let ends = std::iter::once(&pipeline.sink).chain(&pipeline.dead_letter);
    let destinations = ends.filter_map(|end| match &end.value {
        Sink::JetStream(sink) => {
            let JetStreamSink { connection, subject, stream, .. } = &**sink;
            let stream = stream.as_ref().map(|stream| stream.as_str());
            Some(Destination { connection, subject, stream, is_jetstream: true })
        }
        Sink::Nats(sink) => {
            let NatsSink { connection, subject, .. } = &**sink;
            Some(Destination { connection, subject, stream: None, is_jetstream: false })
        }
        _ => None,
    });
    destinations.filter_map(|to| pipeline.sources.iter().find_map(|source| to.is_read_by(node, source))).collect()
}

struct Destination<'a> {
    connection: &'a NatsConnection,
    subject: &'a Located<Template>,
    stream: Option<&'a str>,
    is_jetstream: bool,
}

/// Whether a source reads what is sent to a destination.
enum Reads {
    Yes,
    No,
    /// Only the server knows which stream has the subject.
    Unknown,
}

impl Destination<'_> {
    fn is_read_by(&self, node: &Node, source: &Located<Source>) -> Option<Diagnostic> {
        let subject = self.subject.fixed()?;
        let (connection, reads) = match &source.value {
            Source::Nats(nats) => (&nats.connection, Reads::of(&nats.subjects, subject)),
            Source::JetStream(read) => (&read.connection, self.reaches(read, subject)),
            _ => return None,
        };
        if !share_a_server(node, connection, self.connection) {
            return None;
        }
        let (message, help) = match reads {
            Reads::No => return None,
            Reads::Yes => (
                format!("messages sent to `{subject}` come back to the source at {}, without end", source.at),
                "name another subject, or give the source `filter_subjects` that leave it out",
            ),
            Reads::Unknown => (
                format!(
                    "messages sent to `{subject}` may come back without end: the source at {} reads all of its stream, and whether `{subject}` is in that stream is not said",
                    source.at
                ),
                self.what_to_write(),
            ),
        };
        Some(self.subject.at.diagnostic(Code::KeyConflict, message).help(help))
    }

    /// A subject is in one stream at most, and a stream that is named takes the message or refuses it.
    fn reaches(&self, read: &JetStreamSource, subject: &str) -> Reads {
        match (&read.filter_subjects, self.stream, &read.create_stream) {
            (Some(filters), ..) => Reads::of(filters, subject),
            (None, Some(stream), _) if stream == read.stream.as_str() => Reads::Yes,
            (None, Some(_), _) => Reads::No,
            (None, None, Some(stream)) => Reads::of(&stream.subjects, subject),
            (None, None, None) => Reads::Unknown,
        }
    }

    fn what_to_write(&self) -> &'static str {
        if self.is_jetstream {
            "write `stream: NAME` of another stream here, or give the source `filter_subjects` that leave the subject out"
        } else {
            "give the source `filter_subjects` that leave the subject out"
        }
    }
}

impl Reads {
    fn of(patterns: &[Located<String>], subject: &str) -> Self {
        if patterns.iter().any(|pattern| covers(pattern, subject)) { Self::Yes } else { Self::No }
    }
}

/// Whoever names them. A profile that is not declared is refused elsewhere, at its place.
fn share_a_server(node: &Node, one: &NatsConnection, other: &NatsConnection) -> bool {
    let (Ok(one), Ok(other)) = (node.resolve_nats(one), node.resolve_nats(other)) else { return false };
    one.servers().iter().any(|server| other.servers().iter().any(|known| place(known) == place(server)))
}

/// Host and port. With TLS or without, it is one server; so is `localhost` by its usual addresses.
fn place(server: &str) -> (String, &str) {
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') => (host, port.trim_start_matches('0')),
        _ => (address, "4222"),
    };
    match host.trim_end_matches('.').to_ascii_lowercase() {
        host if matches!(host.as_str(), "127.0.0.1" | "[::1]") => ("localhost".to_owned(), port),
        host => (host, port),
    }
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
    use portcullis_config::{Flags, NoEnvironment, load_node, load_pipeline};

    use super::*;

    fn places(text: &str) -> Vec<(usize, usize)> {
        let pipeline = load_pipeline(std::path::Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap();
        let node = "brokers: { main: { nats: { servers: [nats://a, nats://b] } } }\n";
        let node = load_node(Some((std::path::Path::new("n.yaml"), node.as_bytes())), &NoEnvironment, &Flags::new());
        on_nats(&node.unwrap(), &pipeline).iter().map(|found| (found.at.line, found.at.col)).collect()
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
            (core, "nats: { profile: main, subject: x.1 }"),
        ] {
            assert_eq!(with(source, sink).len(), 1, "{source} {sink}");
        }
        for (source, sink) in [
            (core, "nats: { servers: nats://c, subject: x.1 }"),
            (core, "nats: { profile: none, subject: x.1 }"),
            (core, "nats: { servers: nats://a, subject: x.1.2 }"),
            (core, "nats: { servers: nats://a, subject: y }"),
            (stream, "jetstream: { servers: nats://a, stream: T, subject: z }"),
            (filtered, "jetstream: { servers: nats://a, stream: S, subject: clean.a }"),
        ] {
            assert_eq!(with(source, sink), [], "{source} {sink}");
        }
    }

    #[test]
    fn an_unfiltered_source_is_held_against_the_subjects_of_its_stream_and_refused_where_they_are_not_known() {
        let with =
            |source: &str, sink: &str| places(&format!("pipeline: p\nsource: {{ {source} }}\nsink: {{ {sink} }}\n"));
        let made =
            "jetstream: { servers: nats://a, stream: S, consumer: c, create_stream: { subjects: [orders.>, x] } }";
        let unknown = "jetstream: { servers: nats://a, stream: S, consumer: c }";
        let filtered = "jetstream: { servers: nats://a, stream: S, consumer: c, filter_subjects: orders.raw }";
        for (source, sink) in [
            (made, "jetstream: { servers: nats://a, subject: orders.out }"),
            (made, "nats: { servers: nats://a, subject: x }"),
            (unknown, "jetstream: { servers: nats://a, subject: orders.out }"),
            (unknown, "nats: { servers: nats://a, subject: orders.out }"),
        ] {
            assert_eq!(with(source, sink).len(), 1, "{source} {sink}");
        }
        for (source, sink) in [
            (made, "jetstream: { servers: nats://a, subject: clean.out }"),
            (made, "jetstream: { servers: nats://a, subject: orders }"),
            (made, "jetstream: { servers: nats://a, subject: orders.out, stream: T }"),
            (unknown, "jetstream: { servers: nats://a, subject: orders.out, stream: T }"),
            (unknown, "jetstream: { servers: nats://b, subject: orders.out }"),
            (filtered, "jetstream: { servers: nats://a, subject: orders.out }"),
            (filtered, "nats: { servers: nats://a, subject: orders.out }"),
        ] {
            assert_eq!(with(source, sink), [], "{source} {sink}");
        }
    }

    #[test]
    fn one_server_is_known_by_other_spellings() {
        let with = |one: &str, other: &str| {
            let text = format!(
                "pipeline: p\nsource: {{ nats: {{ servers: '{one}', subjects: x }} }}\nsink: {{ nats: {{ servers: '{other}', subject: x }} }}\n"
            );
            places(&text).len()
        };
        for (one, other) in [
            ("nats://a", "nats://a:4222"),
            ("nats://a:4222", "tls://A"),
            ("nats://[::2]", "nats://[::2]:4222"),
            ("nats://localhost", "nats://127.0.0.1:4222"),
        ] {
            assert_eq!(with(one, other), 1, "{one} {other}");
        }
        for (one, other) in [("nats://a", "nats://a:4223"), ("nats://a", "nats://b"), ("nats://a:42220", "nats://a")] {
            assert_eq!(with(one, other), 0, "{one} {other}");
        }
    }

    #[test]
    fn a_dead_letter_does_not_come_back_either() {
        let text = "pipeline: p\nsource: { nats: { servers: nats://a, subjects: '>' } }\nsink: { stdio: }\ndead_letter: { jetstream: { servers: nats://a, subject: dlq } }\n";
        assert_eq!(places(text), [(4, 57)]);
    }
}
