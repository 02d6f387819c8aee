//! One request, and what of its response is wanted.

use std::borrow::Cow;

use json_fields::RawValue;
use portcullis_plugin::http::{Error, Request, Response};

use crate::config::Config;

/// What was found for each rule of `take`, in their order.
pub(crate) type Answer = Vec<Option<Box<RawValue>>>;

/// Why there is no answer. The detail quotes nothing of the response.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) detail: Cow<'static, str>,
    /// Whether another attempt may end otherwise.
    pub(crate) may_pass: bool,
}

pub(crate) fn ask(config: &Config, url: &str) -> Result<Answer, Failure> {
    let mut request = Request::new("GET", url).timeout_ms(config.timeout_ms).max_body_bytes(config.max_body_bytes);
    for (name, value) in &config.headers {
        request = request.header(name, value.as_str());
    }
    let response = request.send().map_err(|error| unanswered(&error))?;
    match response.status() {
        200..=299 => taken(config, &response),
        404 => Ok(vec![None; config.take.len()]),
        status => Err(Failure {
            code: "http_status",
            detail: format!("status {status}").into(),
            may_pass: matches!(status, 408 | 425 | 429 | 500..=599),
        }),
    }
}

fn taken(config: &Config, response: &Response) -> Result<Answer, Failure> {
    let bad = || Failure { code: "bad_response", detail: "the response is not JSON".into(), may_pass: false };
    let body = json_fields::parse(response.body()).map_err(|_| bad())?;
    let field = |pointer| json_fields::get(body, pointer).map(|field| field.map(RawValue::to_owned)).map_err(|_| bad());
    config.take.keys().map(field).collect()
}

fn unanswered(error: &Error) -> Failure {
    let code = if error.is_denied() { "denied" } else { "no_answer" };
    // The host's own words stay out: they could quote what the server sent.
    let detail = format!("{} at {}", error.code(), error.at()).into();
    Failure { code, detail, may_pass: !error.is_denied() && error.code() != "HTTP-response-body-size" }
}
