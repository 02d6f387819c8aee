//! Plugins that misbehave, through the binary. What is looked at, in this order: the wire, for a guest that is refused may have
//! sent before it was; what the guest got; what the audit says; and last a neighbour, a plugin of another tenant in the same
//! process, whose messages must all have arrived in order and in time.
//!
//! `calls`: what a call may use up. `compile`: what compiling may use up. `refused`: what does not start. `network`: what wants
//! out. `http`: what it makes the host hold and send by HTTP. `ending`: what would hold the process. `tenants`: what plugins share.
//! `waits`: limits over which no call fails, and which are told all the same.
//! `vectors_*`: the vectors of `tests/attack/egress-vectors.jsonl` that have no executable half, named after their id. E15 (a
//! policy that changes while a connect is under way) and I08 (audit modes) are about what does not exist yet.

mod calls;
mod compile;
mod ending;
mod http;
mod network;
mod refused;
mod scene;
mod tenants;
mod vectors_http;
mod vectors_limits;
mod vectors_sockets;
mod waits;
