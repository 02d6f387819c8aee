//! What a plugin may reach: rules, addresses, names and one pure decision. No runtime, no socket, no clock: whoever asks
//! brings the facts along, so that every answer can be had again at a desk.

mod address;
mod bucket;
mod case;
mod check;
mod chunk;
mod decide;
mod decision;
mod error;
mod explain;
mod hash;
mod host;
mod index;
mod nets;
mod own;
mod parse;
mod path;
mod paths;
mod policy;
mod port;
mod reason;
mod request;
mod rule;
mod search;
mod set;
mod suggest;
mod text;

pub use ipnet::IpNet;

pub use address::{Class, Special, classify};
pub use check::{check_rules, covers};
pub use decide::decide;
pub use decision::{Decision, Denied, Effect, Granted, HttpTarget, Target};
pub use error::RuleError;
pub use explain::{Step, Verdict, explain};
pub use host::{Host, Name, ascii_form, parse_host};
pub use parse::{MAX_TTL, MIN_TTL, RuleText};
pub use path::canonical_path;
pub use policy::{Mode, OwnEndpoints, Policy, PolicyParts};
pub use port::{Ports, parse_port};
pub use reason::Reason;
pub use request::{Facts, Hello, Pin, Quota, Request, Transport};
pub use rule::{Deny, Proto, Rule, RuleHost};
pub use suggest::{Smallest, smallest, smallest_for_name};
pub use text::parse_net;
