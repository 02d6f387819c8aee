//! What the benches share: contestants, CPU time of a process, statistics and the table.

pub mod bare;
pub mod batch;
pub mod load;
pub mod process;
pub mod table;
