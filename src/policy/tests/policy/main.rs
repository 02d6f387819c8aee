//! What the policy promises, seen from outside.

mod decisions;
mod grants;
mod hosts;
mod iana;
mod properties;
mod rules;
mod support;
mod vectors;
