//! NATS servers: whether they answer, whether the streams and consumers are there or will be made, and what we may do.

use std::time::Duration;

use portcullis_config::{format_duration, format_size};
use portcullis_connector_nats::{
    ClockReading, Connection, Greeting, Inspector, JetStreamSinkSettings, JetStreamSourceSettings, Permissions,
    Retention, ServerFacts, Storage, StreamFacts, SubjectRule,
};

use super::at_once::ask_all;
use super::finding::Report;
use super::needs::{NatsUse, ServerNeeds};
use crate::cli::words::some;

/// Past this, times in events of two machines no longer tell what came first.
const LARGE_DIFFERENCE: Duration = Duration::from_secs(2);
/// Past this, certificates and tokens begin to be refused.
const TOO_LARGE_DIFFERENCE: Duration = Duration::from_secs(300);

/// Asks all servers at the same time.
pub(super) fn check(servers: &[ServerNeeds], report: &mut Report) {
    let answers = ask_all(servers, |needs: &ServerNeeds| Inspector::connect(&needs.connection));
    for (needs, answer) in servers.iter().zip(answers) {
        let name = format!("nats {}", needs.connection.servers.join(","));
        match answer {
            Ok((facts, inspector)) => {
                greetings(&facts, needs, report);
                if let Some(inspector) = inspector {
                    uses(&inspector, &name, needs, report);
                }
            }
            Err(error) => report.fail("nats.reachable", name, error.to_string(), "correct the connection"),
        }
    }
}

fn greetings(facts: &[ServerFacts], needs: &ServerNeeds, report: &mut Report) {
    let any = facts.iter().any(|server| server.found.is_ok());
    for ServerFacts { server, found } in facts {
        let what = format!("nats {server}");
        match found {
            Ok(Greeting { lame_duck: true, name, .. }) => {
                let found = format!("{name} answers, and is about to shut down (lame duck)");
                report.warn("nats.reachable", what, found, "name other servers too");
            }
            Ok(Greeting { version, name, max_payload, .. }) => {
                let size = format_size(*max_payload as u64);
                let found = format!("answers as {name}, nats-server {version}, messages up to {size}");
                report.ok("nats.reachable", what, found);
            }
            Err(why) if any => {
                report.warn("nats.reachable", what, why, "start it, or take it out of `servers`: another one answers");
            }
            Err(why) => {
                let ends: Vec<&str> = needs.uses.iter().map(|(role, _)| role.as_str()).collect();
                let found = format!("{why}; not looked at: {}", ends.join(", "));
                report.fail("nats.reachable", what, found, "start it, or correct `servers`, `tls` or `auth`");
            }
        }
    }
}

fn uses(inspector: &Inspector, name: &str, needs: &ServerNeeds, report: &mut Report) {
    let wants_streams = needs.uses.iter().any(|(_, used)| matches!(used, NatsUse::Consumer(_) | NatsUse::Stream(_)));
    let mut has_streams = false;
    if wants_streams {
        match inspector.jetstream() {
            Ok(()) => {
                has_streams = true;
                report.ok("nats.jetstream", format!("{name} JetStream"), "answers for this account");
            }
            Err(error) => {
                let advice = "enable it in the server's configuration and for the account, or correct `domain`";
                report.fail("nats.jetstream", format!("{name} JetStream"), error.to_string(), advice);
            }
        }
    }
    let permissions = inspector.permissions();
    if permissions.is_none() {
        let found = "the server does not say what we may publish and subscribe to; not checked";
        report.skip("nats.rights", format!("{name} rights"), found);
    }
    let mut clock = None;
    for (role, used) in &needs.uses {
        match used {
            NatsUse::Consumer(settings) if has_streams => consumer(inspector, role, settings, &mut clock, report),
            NatsUse::Stream(settings) if has_streams => destination(inspector, role, settings, &mut clock, report),
            _ => {}
        }
        if let Some(permissions) = &permissions {
            rights(role, used, permissions, &needs.connection, report);
        }
    }
    if let Some(clock) = clock {
        tell_clock(name, &clock, report);
    }
}

fn consumer(
    inspector: &Inspector,
    role: &str,
    settings: &JetStreamSourceSettings,
    clock: &mut Option<ClockReading>,
    report: &mut Report,
) {
    let JetStreamSourceSettings { stream, consumer, .. } = settings;
    let is_there = stream_line(inspector, (role, stream), settings.create_stream.is_some(), false, clock, report);
    let what = format!("consumer {consumer} of stream {stream} ({role})");
    match inspector.consumer(settings) {
        Ok(true) => report.ok("nats.consumer", what, "is there, as the source needs it"),
        Ok(false) if settings.create_consumer.is_some() => {
            report.ok("nats.consumer", what, "is not there: `create_consumer` makes it at the start");
        }
        // One cause, one line.
        Ok(false) if !is_there => {}
        Ok(false) => {
            report.fail(
                "nats.consumer",
                what,
                "does not exist",
                "make it, or let the source do it with `create_consumer`",
            );
        }
        Err(error) => {
            report.fail("nats.consumer", what, error.to_string(), "make one that fits, or correct the source")
        }
    }
}

fn destination(
    inspector: &Inspector,
    role: &str,
    settings: &JetStreamSinkSettings,
    clock: &mut Option<ClockReading>,
    report: &mut Report,
) {
    let creates = settings.create_stream.as_ref();
    if let Some(stream) = &settings.stream
        && !stream_line(inspector, (role, stream), creates.is_some(), true, clock, report)
    {
        return;
    }
    let Some(subject) = settings.subject.fixed() else {
        let found = "its subject is chosen for each message: whether a stream takes it is not known";
        return report.skip("nats.subject", role, found);
    };
    let what = format!("subject {subject} ({role})");
    match inspector.destination(settings) {
        Ok(true) => report.ok("nats.subject", what, "a stream takes it"),
        Ok(false) => {
            let advice =
                "add it to the subjects of a stream, or let the sink make one with `stream` and `create_stream`";
            report.fail("nats.subject", what, "no stream takes it", advice);
        }
        Err(error) => report.fail("nats.subject", what, error.to_string(), "correct `stream` or `subject`"),
    }
}

/// Whether the stream is there.
fn stream_line(
    inspector: &Inspector,
    (role, name): (&str, &str),
    creates: bool,
    is_written: bool,
    clock: &mut Option<ClockReading>,
    report: &mut Report,
) -> bool {
    let what = format!("stream {name} ({role})");
    match inspector.stream(name) {
        Ok(Some(facts)) => {
            *clock = clock.or(facts.clock);
            stream_facts(what, &facts, is_written, report);
            return true;
        }
        Ok(None) if creates => report.ok("nats.stream", what, "is not there: `create_stream` makes it at the start"),
        Ok(None) => {
            let advice =
                "make it, or let the bridge do it with `create_stream` (`--create-topics` makes Kafka topics only)";
            report.fail("nats.stream", what, "does not exist", advice);
        }
        Err(error) => {
            report.fail(
                "nats.stream",
                what,
                error.to_string(),
                "allow this user to ask for it, or look at the server's log",
            );
        }
    }
    false
}

fn stream_facts(what: String, facts: &StreamFacts, is_written: bool, report: &mut Report) {
    if is_written && facts.sealed {
        return report.fail("nats.stream", what, "is sealed: nothing can be added", "take another stream");
    }
    if is_written && facts.storage == Storage::Memory {
        let found = "is kept in memory: a restart of its server empties it";
        return report.warn("nats.stream", what, found, "make one with `storage: file`");
    }
    if is_written && facts.replicas == 1 {
        let found = "has one replica: what its server's disk loses is lost";
        return report.warn("nats.stream", what, found, "3 replicas where there are servers for them");
    }
    let retention = match facts.retention {
        Retention::Limits => "limits",
        Retention::Interest => "interest",
        Retention::WorkQueue => "work_queue",
    };
    let age = facts.max_age.map_or("no max_age".to_owned(), |age| format!("max_age {}", format_duration(age)));
    let window = format_duration(facts.duplicate_window);
    let found = format!(
        "{}, retention {retention}, {age}, duplicate window {window}, subjects {}",
        some(usize::try_from(facts.replicas).unwrap_or(usize::MAX), "replica"),
        facts.subjects.join(" ")
    );
    report.ok("nats.stream", what, found);
}

/// What an end publishes and subscribes to.
struct Subjects {
    publish: Vec<String>,
    subscribe: Vec<String>,
    /// Why there are subjects to publish to that are not among them.
    unknown: Option<&'static str>,
}

impl Subjects {
    fn of(used: &NatsUse, connection: &Connection) -> Self {
        let chosen =
            |subject: &SubjectRule| subject.fixed().is_none().then_some("its subject is chosen for each message");
        let inbox = || vec!["_INBOX.>".to_owned()];
        match used {
            NatsUse::Subscription(settings) => {
                Self { publish: Vec::new(), subscribe: settings.subjects.clone(), unknown: None }
            }
            NatsUse::Subject(settings) => {
                Self { publish: fixed(&settings.subject), subscribe: Vec::new(), unknown: chosen(&settings.subject) }
            }
            NatsUse::Stream(settings) => {
                Self { publish: fixed(&settings.subject), subscribe: inbox(), unknown: chosen(&settings.subject) }
            }
            NatsUse::Consumer(_) if connection.domain.is_some() => Self {
                publish: Vec::new(),
                subscribe: inbox(),
                unknown: Some("in a domain acknowledgements have subjects that only the server knows"),
            },
            NatsUse::Consumer(settings) => {
                let of = format!("{}.{}", settings.stream, settings.consumer);
                let publish = vec![format!("$JS.API.CONSUMER.MSG.NEXT.{of}"), format!("$JS.ACK.{of}.>")];
                Self { publish, subscribe: inbox(), unknown: None }
            }
        }
    }
}

/// What the server itself lists as allowed.
fn rights(role: &str, used: &NatsUse, permissions: &Permissions, connection: &Connection, report: &mut Report) {
    let Subjects { publish, subscribe, unknown } = Subjects::of(used, connection);
    let refused_publish = publish.iter().filter(|subject| !permissions.may_publish(subject));
    let refused_subscribe = subscribe.iter().filter(|subject| !permissions.may_subscribe(subject));
    let refused: Vec<String> = refused_publish
        .map(|subject| format!("publish to {subject}"))
        .chain(refused_subscribe.map(|subject| format!("subscribe to {subject}")))
        .collect();
    let what = format!("rights of the {role}");
    if let Some(why) = unknown {
        report.skip("nats.rights", &what, format!("publishing was not checked: {why}"));
    }
    if !refused.is_empty() {
        let found = format!("the server does not let us {}", refused.join(", "));
        return report.fail("nats.rights", what, found, "allow it for this user");
    }
    let all: Vec<String> = publish.into_iter().chain(subscribe).collect();
    if !all.is_empty() {
        report.ok("nats.rights", what, format!("allowed: {}", all.join(", ")));
    }
}

fn fixed(subject: &SubjectRule) -> Vec<String> {
    subject.fixed().map(str::to_owned).into_iter().collect()
}

fn tell_clock(name: &str, clock: &ClockReading, report: &mut Report) {
    let (difference, is_ahead) = clock.difference();
    let what = format!("clock against {name}");
    let side = if is_ahead { "ahead of" } else { "behind" };
    let found = format!("this machine's clock is at least {} ms {side} the server's", difference.as_millis());
    if difference >= TOO_LARGE_DIFFERENCE {
        report.fail("clock", what, found, "set the clocks by NTP: certificates and tokens are refused by such a clock");
    } else if difference >= LARGE_DIFFERENCE {
        report.warn("clock", what, found, "set the clocks by NTP: times of events do not tell what came first");
    } else {
        let way = clock.answered.duration_since(clock.asked).unwrap_or_default().as_millis();
        let found = format!("differs by less than {} ms", difference.as_millis().saturating_add(way).saturating_add(1));
        report.ok("clock", what, found);
    }
}
