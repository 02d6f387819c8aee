//! What NATS's errors mean for a pipeline.

use async_nats::{ConnectError, ConnectErrorKind};
use portcullis_connector_api::{ConnectorError, ErrorKind, Refusal, RefusalKind};

/// An error of an attempt to connect.
pub(crate) fn connecting(server: &str, error: &ConnectError) -> ConnectorError {
    let kind = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::ServerParse => {
            ErrorKind::Configuration
        }
        _ => ErrorKind::Retriable,
    };
    let what = match kind {
        ErrorKind::Configuration => format!("the server {server} does not accept who we are: {error}"),
        _ => format!("the server {server} cannot be reached: {error}"),
    };
    ConnectorError::new(kind, what)
}

/// What the server said without being asked, as far as it ends something.
pub(crate) enum Said {
    /// A subject that we must not publish to.
    NoPublish(String),
    /// A subject that we must not ask for answers on.
    NoReply(String),
    /// A subject that we must not subscribe to.
    NoSubscribe(String),
    /// Anything else.
    Other,
}

/// Reads a line of the server such as `Permissions Violation for Publish to "orders.eu"`.
pub(crate) fn said(line: &str) -> Said {
    let lower = line.to_ascii_lowercase();
    let quoted = || line.split_once('"').map(|(_, rest)| unquoted(rest)).unwrap_or_default();
    if lower.contains("permissions violation for publish with reply") {
        Said::NoReply(quoted())
    } else if lower.contains("permissions violation for publish") {
        Said::NoPublish(quoted())
    } else if lower.contains("permissions violation for subscription") {
        Said::NoSubscribe(quoted())
    } else {
        Said::Other
    }
}

/// Up to the closing quote, with the escapes of Go's `%q` undone: a subject with a quote or a backslash in it, which its
/// message's producer may have chosen, must be found again.
fn unquoted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        let digits = match chars.next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(escape) => {
                plain.push(match escape {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    itself => itself,
                });
                continue;
            }
            None => break,
        };
        let digits: String = chars.by_ref().take(digits).collect();
        plain.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
    }
    plain
}

/// What a stream said about a message that it did not take.
#[derive(Debug)]
pub(crate) enum NotStored {
    /// This message alone.
    Refused(Refusal),
    /// It may pass by itself.
    Later(String),
    /// All messages.
    Never(ConnectorError),
}

/// Judges a negative publish acknowledgement. `own_subject` says that the subject was chosen for this message, so that a
/// wrong one is the message's fault and not the configuration's.
pub(crate) fn not_stored(status: u16, code: u64, description: &str, subject: &str, own_subject: bool) -> NotStored {
    let said = format!("{description} ({code})");
    let refused = |kind, detail| NotStored::Refused(Refusal { kind, detail });
    match code {
        MESSAGE_TOO_LARGE | HEADERS_TOO_LARGE => {
            refused(RefusalKind::Oversize, format!("the stream of {subject} takes no message of this size: {said}"))
        }
        STREAM_DOES_NOT_MATCH if own_subject => {
            refused(RefusalKind::Rejected, format!("{subject} belongs to another stream than the expected: {said}"))
        }
        STREAM_DOES_NOT_MATCH => NotStored::Never(ConnectorError::new(
            ErrorKind::Configuration,
            format!("{subject} belongs to another stream than the expected: {said}"),
        )),
        NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => NotStored::Never(ConnectorError::new(
            ErrorKind::Configuration,
            format!("JetStream is not enabled for this account: {said}"),
        )),
        STREAM_SEALED if own_subject => {
            refused(RefusalKind::Rejected, format!("the stream of {subject} is sealed: {said}"))
        }
        STREAM_SEALED => NotStored::Never(ConnectorError::new(
            ErrorKind::Configuration,
            format!("the stream of {subject} is sealed: {said}"),
        )),
        // A stream at its limit that refuses new messages has room again when old ones leave it.
        STORE_FAILED => NotStored::Later(format!("the stream of {subject} takes nothing: {said}")),
        _ if status >= 500 || status == 429 || status == 408 => {
            NotStored::Later(format!("the stream of {subject} takes nothing: {said}"))
        }
        _ => refused(RefusalKind::Rejected, format!("the stream of {subject} does not take this message: {said}")),
    }
}

/// Error codes of the server's JetStream interface.
pub(crate) const STREAM_NOT_FOUND: u64 = 10_059;
pub(crate) const CONSUMER_NOT_FOUND: u64 = 10_014;
/// The stream has no message there.
pub(crate) const MESSAGE_NOT_FOUND: u64 = 10_037;
/// A stream or consumer of this name is there and is another.
pub(crate) const EXISTS: [u64; 3] = [10_013, 10_058, 10_148];
const MESSAGE_TOO_LARGE: u64 = 10_054;
const HEADERS_TOO_LARGE: u64 = 10_097;
const STREAM_DOES_NOT_MATCH: u64 = 10_060;
pub(crate) const NOT_ENABLED: u64 = 10_076;
pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10_039;
const STREAM_SEALED: u64 = 10_109;
const STORE_FAILED: u64 = 10_077;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_message_is_told_from_what_concerns_all() {
        let judged = |status, code, own| not_stored(status, code, "words", "s", own);
        let NotStored::Refused(refusal) = judged(400, MESSAGE_TOO_LARGE, false) else { panic!("not refused") };
        assert_eq!(refusal.kind, RefusalKind::Oversize);
        let NotStored::Refused(refusal) = judged(400, HEADERS_TOO_LARGE, false) else { panic!("not refused") };
        assert_eq!(refusal.kind, RefusalKind::Oversize);
        assert!(matches!(judged(400, STREAM_DOES_NOT_MATCH, true), NotStored::Refused(_)));
        assert!(matches!(judged(400, STREAM_DOES_NOT_MATCH, false), NotStored::Never(_)));
        assert!(matches!(judged(400, STREAM_SEALED, true), NotStored::Refused(_)));
        assert!(matches!(judged(400, STREAM_SEALED, false), NotStored::Never(_)));
        assert!(matches!(judged(503, STORE_FAILED, false), NotStored::Later(_)));
        assert!(matches!(judged(503, 10_008, false), NotStored::Later(_)));
        assert!(matches!(judged(400, 10_071, false), NotStored::Refused(_)));
    }

    #[test]
    fn a_violation_names_its_subject() {
        let line = "Permissions Violation for Publish to \"orders.eu\"";
        assert!(matches!(said(line), Said::NoPublish(subject) if subject == "orders.eu"));
        let line = "permissions violation for subscription to \"a.>\" using queue \"q\"";
        assert!(matches!(said(line), Said::NoSubscribe(subject) if subject == "a.>"));
        let line = "Permissions Violation for Publish with Reply of \"_INBOX.a\"";
        assert!(matches!(said(line), Said::NoReply(subject) if subject == "_INBOX.a"));
        let line = r#"Permissions Violation for Publish to "o.a\"b\\c\u00a0\U0001f600d\x7f""#;
        assert!(matches!(said(line), Said::NoPublish(subject) if subject == "o.a\"b\\c\u{a0}\u{1f600}d\x7f"));
        assert!(matches!(said("Maximum Payload Violation"), Said::Other));
    }
}
