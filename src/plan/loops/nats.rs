//! Subjects that a pipeline sends to and another, or the same, reads.

use portcullis_config::{
    JetStreamSink, JetStreamSource, Located, Location, NatsConnection, NatsSink, Node, Part, Sink, Source, Template,
};

use super::endpoint::{Endpoint, NATS_PORT, Near};
use super::glob::Glob;
use super::{Reach, come_back};

/// The servers of a connection, whoever names them. A profile that is not declared is refused elsewhere, at its place.
pub(super) fn servers(node: &Node, connection: &NatsConnection) -> Vec<Endpoint> {
    let resolved = node.resolve_nats(connection);
    let servers = resolved.iter().flat_map(|resolved| resolved.servers());
    servers.map(|server| Endpoint::of(server, NATS_PORT)).collect()
}

/// Where messages are sent on NATS.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) connection: &'a NatsConnection,
    pub(super) subject: &'a Located<Template>,
    allow: &'a [Located<String>],
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

impl<'a> Destination<'a> {
    pub(super) fn of(sink: &'a Sink) -> Option<Self> {
        match sink {
            Sink::JetStream(sink) => {
                let JetStreamSink { connection, subject, allow, stream, .. } = &**sink;
                let stream = stream.as_ref().map(|stream| stream.as_str());
                Some(Self { connection, subject, allow, stream, is_jetstream: true })
            }
            Sink::Nats(sink) => {
                let NatsSink { connection, subject, allow, .. } = &**sink;
                Some(Self { connection, subject, allow, stream: None, is_jetstream: false })
            }
            _ => None,
        }
    }

    /// Whether a source of servers that are that near reads it.
    pub(super) fn reach(&self, source: &Located<Source>, servers: Near, is_own: bool) -> Option<Reach> {
        // Another port of a host is another server: NATS has one port for all clients.
        if servers != Near::Same {
            return None;
        }
        match self.subject.value.fixed() {
            Some(subject) => self.fixed(subject, source),
            None => self.chosen(source, is_own),
        }
    }

    fn fixed(&self, subject: &str, source: &Located<Source>) -> Option<Reach> {
        let reads = match &source.value {
            Source::Nats(nats) => Reads::of(&nats.subjects, subject),
            Source::JetStream(read) => self.reaches(read, subject),
            _ => return None,
        };
        match reads {
            Reads::No => None,
            Reads::Yes => Some(Reach::certain(
                come_back(subject, &source.at),
                "name another subject, or give the source `filter_subjects` that leave it out",
            )),
            Reads::Unknown => Some(Reach::unknown(
                format!(
                    "messages sent to `{subject}` may come back without end: the source at {} reads all of its stream, and whether `{subject}` is in that stream is not said",
                    source.at
                ),
                self.what_to_write(),
            )),
        }
    }

    /// Of a template. One that is the channel alone sends each message to where it came from.
    fn chosen(&self, source: &Located<Source>, is_own: bool) -> Option<Reach> {
        let subjects = match &source.value {
            Source::Nats(nats) => Some(nats.subjects.as_slice()),
            Source::JetStream(read) if self.stream.is_some_and(|stream| stream != read.stream.as_str()) => return None,
            Source::JetStream(read) => {
                let made = read.create_stream.as_ref().map(|stream| stream.subjects.as_slice());
                read.filter_subjects.as_deref().or(made)
            }
            _ => return None,
        };
        let template = Glob::of_template(&self.subject.value, None);
        let meets = |subject: &Located<String>| {
            let read = Glob::of_subject(subject);
            template.meets(&read) && self.allow.iter().any(|pattern| Glob::of_allow(pattern).meets(&read))
        };
        let at = &source.at;
        let (text, is_met) = match subjects {
            Some(subjects) => {
                subjects.iter().find(|subject| meets(subject)).map(|found| (found.value.clone(), true))?
            }
            None => ("any subject of its stream".to_owned(), false),
        };
        Some(match (self.subject.value.parts(), is_met) {
            ([Part::Channel], _) if is_own => {
                Reach::certain(sent_back(at), "put something before or behind `{{channel}}`")
            }
            (_, true) => Reach::possible(
                format!(
                    "this template may give a subject that the source at {at} reads as `{text}`: such a message comes back"
                ),
                "let `allow` leave those subjects out",
            ),
            (_, false) => Reach::possible(
                format!(
                    "this template may give a subject of the stream that the source at {at} reads: such a message comes back"
                ),
                self.what_to_write(),
            ),
        })
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

fn sent_back(at: &Location) -> String {
    format!(
        "`{{{{channel}}}}` sends each message back to where it came from, and the source at {at} reads it again, without end"
    )
}

impl Reads {
    fn of(patterns: &[Located<String>], subject: &str) -> Self {
        let subject = Glob::exactly(subject);
        if patterns.iter().any(|pattern| Glob::of_subject(pattern).meets(&subject)) { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::{Flags, NoEnvironment, load_node, load_pipeline};

    use crate::plan::loops::find;

    fn places(text: &str) -> Vec<(usize, usize)> {
        let pipeline = load_pipeline(std::path::Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap();
        let node = "brokers: { main: { nats: { servers: [nats://a, nats://b] } } }\n";
        let node = load_node(Some((std::path::Path::new("n.yaml"), node.as_bytes())), &NoEnvironment, &Flags::new());
        let found = find(&node.unwrap(), &[pipeline], false);
        found.wrong.iter().map(|found| (found.at.line, found.at.col)).collect()
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
