use std::sync::Arc;

use crate::chain::hex;

/// The record in work, as events name it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `pipeline/topic-partition@offset`.
    pub coordinates: Arc<str>,
    /// The trace that the record says it is part of, in W3C Trace Context's numbers. Nobody vouches for it.
    pub trace_id: Option<[u8; 16]>,
}

impl Source {
    /// A trace's id as OCSF and everybody else writes it. From a number, so that it is nothing but digits.
    pub(crate) fn trace_uid(trace_id: [u8; 16]) -> String {
        hex(&trace_id)
    }
}

impl From<&str> for Source {
    fn from(coordinates: &str) -> Self {
        Self { coordinates: coordinates.into(), trace_id: None }
    }
}

impl From<String> for Source {
    fn from(coordinates: String) -> Self {
        Self { coordinates: coordinates.into(), trace_id: None }
    }
}
