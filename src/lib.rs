//! Portcullis, a message-broker plugin bridge. Reading order is the way of a message: what was typed (`portcullis_config`)
//! becomes a [`plan`], which a [`pipeline`] runs: from a source through the [`plugin`] sandbox, with the host interfaces in
//! [`capability`], to a sink. What happens leaves evidence in the audit and [`telemetry`].

pub mod audit_store;
pub mod capability;
pub mod cli;
pub mod connectors;
pub mod pipeline;
pub mod plan;
pub mod plugin;
pub mod telemetry;
