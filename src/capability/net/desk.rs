//! For whoever asks about a decision at a desk, without a plugin: what a plugin would be told, and a lookup of its own.

use std::net::IpAddr;

use portcullis_policy::{Granted, Reason};

use crate::http::Failure;
use crate::resolver::{Kind, Resolver};
use crate::sockets::{code_name, refusal_name};

/// What a plugin calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A raw connect or datagram.
    Socket,
    /// A lookup by name.
    Lookup,
    /// The answers of a lookup by name.
    Answers,
    /// An HTTP request, its lookup and its dial.
    Http,
}

/// The error code that the plugin gets for a refusal, by its WIT name.
pub fn guest_code(call: Call, reason: Reason) -> &'static str {
    match call {
        Call::Socket => code_name(reason),
        Call::Lookup => refusal_name(reason),
        Call::Answers => "name-unresolvable",
        Call::Http => Failure::of(reason).code.as_str(),
    }
}

impl Resolver {
    /// Asks the name servers for the name of a lookup or HTTP request that was granted, and waits for the answer. Nothing is
    /// filtered, kept or recorded. Must not run on the resolver's own runtime.
    ///
    /// # Errors
    /// Why there is no address, and the code that a plugin's own lookup would get.
    pub fn ask(&self, granted: &Granted) -> Result<Vec<IpAddr>, (Reason, &'static str)> {
        let found = self.handle().block_on(self.lookup(granted));
        found.map(|found| found.addresses).map_err(|not_found| {
            let code = match not_found.kind {
                Kind::Name => "name-unresolvable",
                Kind::Temporary => "temporary-resolver-failure",
                Kind::Permanent => "permanent-resolver-failure",
            };
            (not_found.reason, code)
        })
    }
}
