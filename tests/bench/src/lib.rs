//! What the benches share: contestants, CPU time of a process, statistics and the table.

pub mod bare;
pub mod batch;
pub mod bridge;
pub mod ends;
pub mod from_jetstream;
pub mod load;
pub mod nats;
pub mod open_loop;
pub mod process;
pub mod table;
pub mod to_jetstream;
