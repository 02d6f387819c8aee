use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Located, Location, Plugin, Setting, Sink, Source};

/// A pipeline file.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The beginning of the file, for what concerns the whole.
    pub at: Location,
    /// `[a-z0-9][a-z0-9-]*`, at most 63 characters.
    pub name: Located<String>,
    /// Whose it is.
    pub tenant: Option<Located<String>>,
    /// What is promised.
    pub delivery: Setting<Delivery>,
    /// Which messages keep their order.
    pub order: Setting<Order>,
    /// Ordered workers; as many as cores when absent.
    pub lanes: Option<Located<NonZeroU32>>,
    /// At least one.
    pub sources: Vec<Located<Source>>,
    /// In the order of the chain; may be empty.
    pub plugins: Vec<Plugin>,
    /// Where messages go.
    pub sink: Located<Sink>,
    /// Where messages go that were rejected or failed. A Kafka one without brokers has those of the Kafka source.
    pub dead_letter: Option<Located<Sink>>,
    /// Messages between intake and lanes, for the whole pipeline.
    pub queue: Window,
    /// Unfinished messages of one source partition; past it that partition pauses.
    pub window: Window,
    /// How long a shutdown or a revocation waits for what is in work.
    pub drain: Setting<Duration>,
}

impl Pipeline {
    /// How many lanes each of its sources has: as typed, otherwise as many as this process has cores.
    pub fn lane_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.lanes.as_ref().map_or_else(cores, |lanes| lanes.get() as usize)
    }
}

/// What a pipeline promises about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Nothing is lost; a message may come twice.
    AtLeastOnce,
}

/// Which messages leave in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those of one partition and key.
    Key,
    /// Those of one partition.
    Partition,
    /// None.
    None,
}

/// A bound in messages and in bytes; the first that is reached holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages.
    pub messages: Setting<u32>,
    /// Bytes of keys, values and headers.
    pub bytes: Setting<u64>,
}
