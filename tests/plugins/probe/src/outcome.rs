//! What came of an op, and how it is written down.

use serde_json::{Map, Value, json};

/// The members of a result beside `ok`.
pub(crate) type Outcome = Result<Map<String, Value>, Failure>;

#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static str,
    at: &'static str,
    detail: Option<String>,
}

impl Failure {
    pub(crate) const fn new(code: &'static str, at: &'static str) -> Self {
        Self { code, at, detail: None }
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }

    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) const fn at(&self) -> &'static str {
        self.at
    }
}

/// A success with a detail alone.
pub(crate) fn detail(detail: Value) -> Map<String, Value> {
    Map::from_iter([("detail".to_owned(), detail)])
}

pub(crate) fn report(outcome: Outcome) -> Value {
    match outcome {
        Ok(mut members) => {
            members.insert("ok".to_owned(), Value::Bool(true));
            Value::Object(members)
        }
        Err(Failure { code, at, detail: None }) => json!({"ok": false, "code": code, "at": at}),
        Err(Failure { code, at, detail: Some(detail) }) => {
            json!({"ok": false, "code": code, "at": at, "detail": detail})
        }
    }
}
