//! What an operator sees from outside: metrics, `/live`, `/ready` and the log.

pub mod admin;
pub mod log;
pub mod names;
pub mod readiness;
pub mod tap;
