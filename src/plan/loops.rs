//! Pipelines that would send their messages round for ever: a destination that is also what a source reads, of the same
//! pipeline or round over others of this process. What is certain is refused; what depends on a message, or on what only the
//! brokers know, is a warning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portcullis_config::{Code, Diagnostic, KafkaConnection, Location, Node, Pipeline, Sink, Source};

mod endpoint;
mod file;
mod glob;
mod kafka;
mod nats;

use self::endpoint::{Endpoint, Near, near};
use self::file::File;
use self::nats::Destination;

/// What goes round.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) wrong: Vec<Diagnostic>,
    /// Each with the pipeline that it is said of, by its place among them.
    pub(super) warnings: Vec<(usize, Diagnostic)>,
}

/// How a destination reaches a source.
struct Reach {
    /// Every message that is sent there is read by it.
    is_certain: bool,
    /// Where it is the sender's own source, nothing starts.
    is_refused: bool,
    text: String,
    help: &'static str,
}

impl Reach {
    fn certain(text: String, help: &'static str) -> Self {
        Self { is_certain: true, is_refused: true, text, help }
    }

    /// Only the server knows, and it can be typed so that everybody does.
    fn unknown(text: String, help: &'static str) -> Self {
        Self { is_certain: false, is_refused: true, text, help }
    }

    fn possible(text: String, help: &'static str) -> Self {
        Self { is_certain: false, is_refused: false, text, help }
    }
}

fn come_back(name: &str, at: &Location) -> String {
    format!("messages sent to `{name}` come back to the source at {at}, without end")
}

/// Whether two connections are to one cluster, as far as what was typed tells.
pub(super) fn is_one_cluster(node: &Node, one: &KafkaConnection, other: &KafkaConnection) -> bool {
    near(&kafka::brokers(node, one), &kafka::brokers(node, other)) == Near::Same
}

/// Looks at all pipelines of a process. With `one_kafka` every Kafka connection goes to one cluster.
pub(super) fn find(node: &Node, pipelines: &[Pipeline], one_kafka: bool) -> Found {
    let writers: Vec<Writer<'_>> =
        pipelines.iter().enumerate().flat_map(|(index, pipeline)| Writer::of(node, index, pipeline)).collect();
    let readers: Vec<Reader<'_>> =
        pipelines.iter().enumerate().flat_map(|(index, pipeline)| Reader::of(node, index, pipeline)).collect();
    let mut found = Found::default();
    let mut edges = Vec::new();
    for writer in &writers {
        let mut own: Vec<Reach> = Vec::new();
        for reader in &readers {
            match writer.reach(reader, one_kafka) {
                Some(reach) if writer.index == reader.index => own.push(reach),
                Some(reach) => edges.push(Edge { writer, reader, is_hard: reach.is_certain && !writer.is_letters }),
                None => {}
            }
        }
        // One place to change, so it is said once: the worst of it.
        if let Some(reach) = own.into_iter().max_by_key(|reach| (reach.is_refused, reach.is_certain)) {
            let diagnostic = writer.at.diagnostic(Code::KeyConflict, reach.text).help(reach.help);
            match reach.is_refused {
                true => found.wrong.push(diagnostic),
                false => found.warnings.push((writer.index, diagnostic)),
            }
        }
    }
    rounds(pipelines, &edges, &mut found);
    found
}

/// A place where a pipeline sends to.
struct Writer<'a> {
    index: usize,
    pipeline: &'a Pipeline,
    is_letters: bool,
    sink: &'a Sink,
    at: &'a Location,
    name: String,
    servers: Vec<Endpoint>,
    file: Option<File>,
}

/// A source.
struct Reader<'a> {
    index: usize,
    source: &'a portcullis_config::Located<Source>,
    servers: Vec<Endpoint>,
    file: Option<File>,
}

impl<'a> Writer<'a> {
    fn of(node: &Node, index: usize, pipeline: &'a Pipeline) -> Vec<Self> {
        let ends = [(false, Some(&pipeline.sink)), (true, pipeline.dead_letter.as_ref())];
        let of = |(is_letters, end): (bool, Option<&'a portcullis_config::Located<Sink>>)| {
            let sink = &end?.value;
            let (at, name, servers, file) = match (sink, Destination::of(sink)) {
                (Sink::Kafka(kafka), _) => {
                    let servers = kafka::brokers(node, &kafka.connection);
                    (&kafka.topic.at, kafka.topic.value.to_string(), servers, None)
                }
                (Sink::File(file), _) => {
                    (&file.path.at, file.path.display().to_string(), Vec::new(), Some(File::of(&file.path)))
                }
                (_, Some(Destination { connection, subject, .. })) => {
                    (&subject.at, subject.value.to_string(), nats::servers(node, connection), None)
                }
                _ => return None,
            };
            Some(Self { index, pipeline, is_letters, sink, at, name, servers, file })
        };
        ends.into_iter().filter_map(of).collect()
    }

    fn reach(&self, reader: &Reader<'_>, one_kafka: bool) -> Option<Reach> {
        let is_own = self.index == reader.index;
        let read_at = &reader.source.at;
        match (self.sink, &reader.source.value) {
            (Sink::Kafka(sink), Source::Kafka(source)) => {
                let brokers = if one_kafka { Near::Same } else { near(&self.servers, &reader.servers) };
                kafka::reach(self.pipeline, sink, source, read_at, brokers, is_own)
            }
            (Sink::File(_), Source::File(_)) => {
                let is_one = self.file.as_ref().zip(reader.file.as_ref()).is_some_and(|(file, other)| file.is(other));
                is_one.then(|| Reach::certain(come_back(&self.name, read_at), "name another file"))
            }
            (sink, _) => Destination::of(sink)?.reach(reader.source, near(&self.servers, &reader.servers), is_own),
        }
    }
}

impl<'a> Reader<'a> {
    fn of(node: &Node, index: usize, pipeline: &'a Pipeline) -> Vec<Self> {
        let of = |source: &'a portcullis_config::Located<Source>| {
            let (servers, file) = match &source.value {
                Source::Kafka(kafka) => (kafka::brokers(node, &kafka.connection), None),
                Source::JetStream(stream) => (nats::servers(node, &stream.connection), None),
                Source::Nats(nats) => (nats::servers(node, &nats.connection), None),
                Source::File(file) => (Vec::new(), Some(File::of(&file.path))),
                Source::Stdio(_) | Source::Generator(_) => return None,
            };
            Some(Self { index, source, servers, file })
        };
        pipeline.sources.iter().filter_map(of).collect()
    }
}

/// From one pipeline to another.
struct Edge<'a> {
    writer: &'a Writer<'a>,
    reader: &'a Reader<'a>,
    /// Every message that passes goes this way. A dead letter does not: who repairs it and sends it back means that.
    is_hard: bool,
}

/// Rounds over several pipelines, each said once: at its first pipeline where all of it is certain, else at what is not.
fn rounds(pipelines: &[Pipeline], edges: &[Edge<'_>], found: &mut Found) {
    let mut said: BTreeSet<Vec<usize>> = BTreeSet::new();
    for only_hard in [true, false] {
        for edge in edges.iter().filter(|edge| edge.is_hard == only_hard) {
            let Some(back) = way(edges, edge.reader.index, edge.writer.index, only_hard) else { continue };
            let mut members: Vec<usize> =
                back.iter().map(|edge| edge.writer.index).chain([edge.writer.index]).collect();
            members.sort_unstable();
            if !said.insert(members) {
                continue;
            }
            let diagnostic = round(pipelines, edge, &back, only_hard);
            match only_hard {
                true => found.wrong.push(diagnostic),
                false => found.warnings.push((edge.writer.index, diagnostic)),
            }
        }
    }
}

fn round(pipelines: &[Pipeline], edge: &Edge<'_>, back: &[&Edge<'_>], is_certain: bool) -> Diagnostic {
    let name = |index: usize| pipelines.get(index).map_or("", |pipeline| pipeline.name.as_str());
    let steps: Vec<String> = std::iter::once(&edge)
        .chain(back)
        .map(|edge| {
            let what = if edge.writer.is_letters { "dead letters to" } else { "to" };
            let reader = name(edge.reader.index);
            format!(
                "{what} `{}` ({}), which `{reader}` reads ({})",
                edge.writer.name, edge.writer.at, edge.reader.source.at
            )
        })
        .collect();
    let (may, help) = match is_certain {
        true => ("go round", "name another destination in one of them"),
        false => {
            ("may go round", "make sure that what comes back is changed so that it ends, or name another destination")
        }
    };
    let message = format!(
        "messages of pipeline `{}` {may} without end: {}",
        name(edge.writer.index),
        steps.join(", and that sends ")
    );
    edge.writer.at.diagnostic(Code::KeyConflict, message).help(help)
}

/// The shortest way from one pipeline to another.
fn way<'e, 'a>(edges: &'e [Edge<'a>], from: usize, to: usize, only_hard: bool) -> Option<Vec<&'e Edge<'a>>> {
    let mut came: BTreeMap<usize, &Edge<'a>> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            break;
        }
        for edge in edges.iter().filter(|edge| edge.writer.index == at && (edge.is_hard || !only_hard)) {
            let target = edge.reader.index;
            if target != from && !came.contains_key(&target) {
                came.insert(target, edge);
                next.push_back(target);
            }
        }
    }
    let mut path = Vec::new();
    let mut at = to;
    while at != from {
        let edge = came.get(&at)?;
        path.push(*edge);
        at = edge.writer.index;
    }
    path.reverse();
    Some(path)
}

#[cfg(test)]
mod tests;
