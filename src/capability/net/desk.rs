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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/egress.md");

    /// Cells of the table of reasons, by reason: what each kind of call is told.
    fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
        let table = PAGE.split("\n## ").find(|part| part.starts_with("Reasons and what the plugin is told")).unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        rows.map(|(reason, rest)| (reason, rest.split('|').map(str::trim).collect())).collect()
    }

    #[test]
    fn the_manual_lists_every_reason_once_and_no_other() {
        let rows = rows();
        let listed: BTreeSet<&str> = rows.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(listed.len(), rows.len());
        assert_eq!(listed, Reason::ALL.iter().map(|reason| reason.as_str()).collect());
        assert!(rows.iter().all(|(_, cells)| cells[0].len() > 5), "each says when");
    }

    #[test]
    fn the_manual_names_the_code_that_the_plugin_gets() {
        for (reason, cells) in rows() {
            let known = Reason::ALL.iter().find(|known| known.as_str() == reason).unwrap();
            let kinds = if reason.starts_with("addr.") { Call::Answers } else { Call::Lookup };
            for (cell, call) in cells[1..].iter().zip([Call::Socket, kinds, Call::Http]) {
                // A cell without a code of its own says in words where the code comes from.
                let Some(code) = cell.strip_prefix('`').and_then(|cell| cell.split('`').next()) else { continue };
                if !reason.starts_with("dns.") && !reason.starts_with("time.") || call == Call::Http {
                    assert_eq!(code, guest_code(call, *known), "{reason} of {call:?}");
                }
            }
        }
    }
}
