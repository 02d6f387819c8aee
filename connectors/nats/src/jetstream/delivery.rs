/// What the reply subject of a delivered message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// How often it was delivered, this time included.
    pub(super) count: u64,
    /// Its place in the stream.
    pub(super) sequence: i64,
    /// When the stream took it, in milliseconds.
    pub(super) stored_ms: i64,
    /// How many wait behind it.
    pub(super) pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.STREAM.CONSUMER.COUNT.SEQUENCE.CONSUMER-SEQUENCE.NANOSECONDS.PENDING`, or the same with domain and
    /// account before the stream and perhaps more at the end.
    pub(super) fn read(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?;
        // By bytes: a search for the next of so near dots would begin anew each time.
        let names = match tokens.bytes().filter(|byte| *byte == b'.').count() + 1 {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut tokens = tokens.as_bytes().split(|byte| *byte == b'.').skip(names);
        let mut number = || std::str::from_utf8(tokens.next()?).ok()?.parse::<u64>().ok();
        let count = number()?;
        let sequence = i64::try_from(number()?).ok()?;
        number()?;
        let stored_ms = i64::try_from(number()? / 1_000_000).ok()?;
        let pending = number()?;
        Some(Self { count, sequence, stored_ms, pending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let expected = Delivery { count: 3, sequence: 100, stored_ms: 1_700_000_000_000, pending: 42 };
        for begin in ["$JS.ACK.events.durable", "$JS.ACK._.szMpdrwD.events.durable", "$JS.ACK.hub.acc.events.durable"] {
            let reply = format!("{begin}.3.100.7.1700000000000000000.42");
            assert_eq!(Delivery::read(&reply), Some(expected), "{reply}");
        }
        let more = "$JS.ACK.hub.acc.events.durable.3.100.7.1700000000000000000.42.random.more";
        assert_eq!(Delivery::read(more), Some(expected));
        for reply in ["", "$JS.ACK.a.b.1.2.3", "$JS.ACK.a.b.1.x.3.4.5", "_INBOX.a.b.c.d.e.f.g.h"] {
            assert_eq!(Delivery::read(reply), None, "{reply}");
        }
    }
}
