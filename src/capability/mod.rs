//! What a plugin can reach beside its own memory: one file for each host interface, which says what imports it serves,
//! what grant links it, and what of it the audit counts. An import that is not decided here does not exist for a plugin.

mod clock;
mod edits;
pub(crate) mod inert;
mod log;
mod messages;
mod network;
mod random;

use wasmtime::component::Linker;

use crate::plugin::{Grants, Guest, interface, version};

/// What an import needs to be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it is the message in work.
    Always,
    /// The enricher's world.
    EnricherOnly,
    /// A grant.
    Grant(Capability),
    /// Nothing: toolchains import it whether used or not, and it leads nowhere.
    Inert,
    /// A later version of this host, for this reason.
    NotAvailable(&'static str),
    /// It is not known.
    Unknown,
}

/// What an operator can grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    Log,
    Clock,
    Random,
    Egress,
}

impl Capability {
    /// The key in `grants:`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Egress => "egress",
        }
    }

    /// What an operator writes under `grants:` to grant the least of it.
    pub(crate) const fn yaml(self) -> &'static str {
        match self {
            Self::Log => "log: info",
            Self::Clock => "clock: coarse",
            Self::Random => "random: true",
            Self::Egress => "egress: []",
        }
    }

    pub(crate) const fn is_granted(self, grants: &Grants) -> bool {
        match self {
            Self::Log => grants.log.is_some(),
            Self::Clock => grants.clock.is_some(),
            Self::Random => grants.random,
            Self::Egress => grants.egress,
        }
    }
}

/// Decides an import of the root by its name.
pub(crate) fn decide(import: &str) -> Need {
    let name = interface(import);
    if name.starts_with("wasi:") && !version(import).is_some_and(|version| version.starts_with("0.2.")) {
        return Need::NotAvailable("of WASI only version 0.2 is available");
    }
    match name {
        _ if messages::serves(name) => Need::Always,
        _ if edits::serves(name) => Need::EnricherOnly,
        _ if log::serves(name) => Need::Grant(Capability::Log),
        _ if clock::serves(name) => Need::Grant(Capability::Clock),
        _ if random::serves(name) => Need::Grant(Capability::Random),
        _ if inert::serves(name) => Need::Inert,
        _ if network::serves(name) => Need::Grant(Capability::Egress),
        "wasi:http/incoming-handler" => Need::NotAvailable("a plugin does not listen"),
        _ => Need::Unknown,
    }
}

/// Whether a component that imports this may wait inside a host call. Neither fuel nor epochs interrupt that, so such a
/// component is run where a time-out can: functions that block are never linked in their synchronous form.
pub(crate) fn may_wait(import: &str) -> bool {
    let name = interface(import);
    matches!(name, "wasi:io/poll" | "wasi:io/streams") || network::serves(name)
}

/// Links what is needed and nothing else.
pub(crate) fn link(linker: &mut Linker<Guest>, needs: &[Need]) -> wasmtime::Result<()> {
    type Link = fn(&mut Linker<Guest>) -> wasmtime::Result<()>;
    let links: [(Need, Link); 7] = [
        (Need::Always, messages::link),
        (Need::EnricherOnly, edits::link),
        (Need::Grant(Capability::Log), log::link),
        (Need::Grant(Capability::Clock), clock::link),
        (Need::Grant(Capability::Random), random::link),
        (Need::Inert, inert::link),
        (Need::Grant(Capability::Egress), network::link),
    ];
    links.into_iter().filter(|(need, _)| needs.contains(need)).try_for_each(|(_, link)| link(linker))
}

macro_rules! operations {
    ($($name:ident = $text:literal,)*) => {
        /// What the audit counts. Calls on the message itself are no effect outside the plugin and are not counted here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($name,)*
        }

        impl Operation {
            pub(crate) const NAMES: [&str; [$(Self::$name,)*].len()] = [$($text,)*];
        }
    };
}

operations! {
    LogWrite = "portcullis:plugin/log.write",
    WallClockNow = "wasi:clocks/wall-clock.now",
    WallClockResolution = "wasi:clocks/wall-clock.resolution",
    MonotonicClockNow = "wasi:clocks/monotonic-clock.now",
    MonotonicClockResolution = "wasi:clocks/monotonic-clock.resolution",
    MonotonicClockSubscribe = "wasi:clocks/monotonic-clock.subscribe",
    Random = "wasi:random/random",
    RandomInsecure = "wasi:random/insecure",
    RandomInsecureSeed = "wasi:random/insecure-seed",
    Environment = "wasi:cli/environment",
    Exit = "wasi:cli/exit",
    Stdio = "wasi:cli/stdio",
    CachedLookup = "wasi:sockets/ip-name-lookup.resolve-addresses from memory",
    Io = "wasi:io",
    Filesystem = "wasi:filesystem",
}

/// How often each operation was called: a plain array, since each host call passes here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperationCounts([u64; Operation::NAMES.len()]);

impl OperationCounts {
    pub(crate) fn count(&mut self, operation: Operation) {
        if let Some(count) = self.0.get_mut(operation as usize) {
            *count += 1;
        }
    }

    /// Calls that somebody else has counted.
    pub(crate) fn add(&mut self, operation: Operation, calls: u64) {
        if let Some(count) = self.0.get_mut(operation as usize) {
            *count += calls;
        }
    }

    /// Those that were called, by name.
    pub(crate) fn into_named(self) -> Vec<(&'static str, u64)> {
        Operation::NAMES.into_iter().zip(self.0).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_import_that_is_known_needs_what_its_file_says() {
        let granted = [
            ("portcullis:plugin/log@0.1.0", Capability::Log),
            ("wasi:clocks/wall-clock@0.2.0", Capability::Clock),
            ("wasi:clocks/monotonic-clock@0.2.12", Capability::Clock),
            ("wasi:random/random@0.2.3", Capability::Random),
            ("wasi:random/insecure-seed@0.2.3", Capability::Random),
            ("wasi:sockets/tcp@0.2.6", Capability::Egress),
            ("wasi:http/outgoing-handler@0.2.6", Capability::Egress),
        ];
        for (import, capability) in granted {
            assert_eq!(decide(import), Need::Grant(capability), "{import}");
        }
        assert_eq!(decide("portcullis:plugin/messages@0.1.0"), Need::Always);
        assert_eq!(decide("portcullis:plugin/edits@0.1.0"), Need::EnricherOnly);
        for inert in ["wasi:cli/environment@0.2.6", "wasi:io/streams@0.2.6", "wasi:filesystem/types@0.2.6"] {
            assert_eq!(decide(inert), Need::Inert, "{inert}");
        }
    }

    #[test]
    fn what_is_not_named_is_refused() {
        for import in
            ["wasi:http/incoming-handler@0.2.6", "wasi:sockets/types@0.3.0", "wasi:cli/stdout@0.3.0", "wasi:cli/stdout"]
        {
            assert!(matches!(decide(import), Need::NotAvailable(_)), "{import}");
        }
        for import in [
            "wasi:cli/run@0.2.0",
            "wasi:keyvalue/store@0.2.0",
            "portcullis:plugin/kv@0.1.0",
            "env",
            "",
            "wasi:cli@0.2.0",
        ] {
            assert_eq!(decide(import), Need::Unknown, "{import}");
        }
    }

    #[test]
    fn operations_are_counted_by_name() {
        let mut counts = OperationCounts::default();
        counts.count(Operation::LogWrite);
        counts.count(Operation::Filesystem);
        counts.count(Operation::Filesystem);
        assert_eq!(counts.into_named(), [("portcullis:plugin/log.write", 1), ("wasi:filesystem", 2)]);
    }
}
