use bytes::{Bytes, BytesMut};
use portcullis_audit::Attempt;
use portcullis_policy::{Granted, Request};

use super::hello::{MAX_HELLO_BYTES, parse};
use crate::gate::Gate;

/// Keeps the first bytes of a connection back until it is known which server they ask for. A rule for `tls` or with `sni_pin`
/// allows the server that it names, and many servers may share its address.
pub(super) struct Sniff {
    gate: Gate,
    granted: Granted,
    kept: BytesMut,
}

/// What is to be done with the bytes.
pub(super) enum Verdict {
    /// More must come first.
    Wait,
    /// All that was kept may go.
    Pass(Bytes),
    /// Nothing goes any more. The refusal is recorded.
    Refuse,
}

impl Sniff {
    pub(super) fn new(gate: Gate, granted: Granted) -> Self {
        Self { gate, granted, kept: BytesMut::new() }
    }

    /// Bytes that may still be kept; never 0, since past the bound there is a verdict.
    pub(super) fn room(&self) -> usize {
        MAX_HELLO_BYTES.saturating_sub(self.kept.len())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Verdict {
        self.kept.extend_from_slice(bytes);
        let parsed = parse(&self.kept);
        let Some(hello) = parsed.hello() else { return Verdict::Wait };
        let request = Request::ClientHello { connect: &self.granted, hello };
        match self.gate.ask(&request, Attempt::Connect, |_| "connection-reset") {
            Ok(_) => Verdict::Pass(self.kept.split().freeze()),
            Err(_) => Verdict::Refuse,
        }
    }
}
