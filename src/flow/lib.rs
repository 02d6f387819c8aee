//! What must never lose or reorder a message, without I/O. In the order of a message's way:
//!
//! - [`Tracker`] holds what was received until it is done and knows the committable offset; [`Window`] bounds it;
//! - [`order_key`] and [`lane_of`] choose the lane, [`LaneQueues`] carries messages there;
//! - [`Holdback`] lets a key wait for its retry, after [`Backoff`];
//! - [`Completions`] brings back what is finished;
//! - [`Rate`] is tokens in a time, of log bytes and of what a plugin does on the network;
//! - [`FaultKind`] is the closed list of what can go wrong with a message.
#![forbid(unsafe_code)]

mod backoff;
mod completions;
mod fault;
mod full;
mod holdback;
mod lane;
mod queue;
mod rate;
mod tracker;
mod window;

pub use backoff::Backoff;
pub use completions::Completions;
pub use fault::{FaultKind, UnknownFaultKind};
pub use full::{Full, QueueLevel};
pub use holdback::Holdback;
pub use lane::{Order, OrderKey, channel_hash, lane_of, order_key};
pub use queue::{Amount, Bounds, LaneQueues, PushError, QueueSum, SizeBytes, Taken};
pub use rate::{Rate, clock_ns};
pub use tracker::{Tracker, TrackerError};
pub use window::Window;
