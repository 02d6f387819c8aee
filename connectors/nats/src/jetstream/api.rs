//! Questions to the server's JetStream interface.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind};
use portcullis_connector_api::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// Where the questions of a domain go, with a dot at the end.
pub(super) fn prefix(domain: Option<&str>) -> String {
    match domain {
        Some(domain) => format!("$JS.{domain}.API."),
        None => "$JS.API.".to_owned(),
    }
}

/// Why there is no answer, or none that helps.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The server's own error.
    Error(ApiError),
    /// Nobody listens: JetStream is off, not ready, or behind a domain.
    NoResponders,
    /// Anything else: no connection, no answer in time, an answer that is not JSON.
    Failed(String),
}

/// An error as the server writes it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ApiError {
    /// As in HTTP.
    #[serde(default)]
    pub(super) code: u16,
    /// The error itself.
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => write!(f, "{} ({})", error.description, error.err_code),
            Self::NoResponders => f.write_str("JetStream does not answer: it is not enabled or not ready"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Asks, for at most `timeout`.
pub(super) async fn ask(
    client: &Client,
    subject: String,
    question: Option<Value>,
    timeout: Duration,
) -> Result<Value, Unanswered> {
    let payload = question.map_or_else(Bytes::new, |question| Bytes::from(question.to_string()));
    let answer = tokio::time::timeout(timeout, client.request(subject, payload)).await;
    let answer = match answer {
        Err(_) => return Err(Unanswered::Failed("JetStream did not answer in time".to_owned())),
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => return Err(Unanswered::NoResponders),
        Ok(Err(error)) => return Err(Unanswered::Failed(format!("JetStream did not answer: {error}"))),
        Ok(Ok(answer)) => answer,
    };
    let answer: Value = serde_json::from_slice(&answer.payload)
        .map_err(|error| Unanswered::Failed(format!("JetStream's answer cannot be read: {error}")))?;
    match answer.get("error") {
        Some(error) => Err(Unanswered::Error(serde_json::from_value(error.clone()).unwrap_or_default())),
        None => Ok(answer),
    }
}
