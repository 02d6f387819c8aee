use async_nats::{Message, StatusCode};
use serde::Deserialize;

use crate::jetstream::api::ApiError;

/// What came back for a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// The stream has it, perhaps from before.
    Stored {
        /// Its place there.
        sequence: i64,
        /// The stream has known its id.
        duplicate: bool,
    },
    /// No stream listens to its subject.
    NoResponders,
    /// The stream did not take it.
    Error(ApiError),
    /// Something else than an acknowledgement: somebody who is no stream answers on this subject.
    Unreadable,
}

#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(default)]
    seq: i64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

/// The number of the message and what became of it.
pub(super) fn read(message: &Message) -> Option<(u64, Answer)> {
    let number = message.subject.rsplit('.').next()?.parse().ok()?;
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Some((number, Answer::NoResponders));
    }
    let answer = match serde_json::from_slice::<Acknowledgement>(&message.payload) {
        Ok(Acknowledgement { error: Some(error), .. }) => Answer::Error(error),
        Ok(Acknowledgement { seq, duplicate, .. }) if seq > 0 => Answer::Stored { sequence: seq, duplicate },
        _ => Answer::Unreadable,
    };
    Some((number, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &'static str) -> Answer {
        let message = Message {
            subject: "_INBOX.x.17".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let (number, answer) = read(&message).unwrap();
        assert_eq!(number, 17);
        answer
    }

    #[test]
    fn only_an_acknowledgement_with_a_sequence_says_that_a_message_is_stored() {
        let stored = answer(r#"{"stream":"S","seq":12,"duplicate":true}"#);
        assert!(matches!(stored, Answer::Stored { sequence: 12, duplicate: true }));
        assert!(matches!(answer(r#"{"stream":"S","seq":1,"domain":"d"}"#), Answer::Stored { duplicate: false, .. }));
        let error = r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"seq":0}"#;
        assert!(matches!(answer(error), Answer::Error(ApiError { code: 503, err_code: 10_077, .. })));
        for other in ["", "+OK", "{}", r#"{"stream":"S","seq":0}"#] {
            assert!(matches!(answer(other), Answer::Unreadable), "{other}");
        }
    }
}
