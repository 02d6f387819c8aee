use std::fmt;
use std::time::Duration;

use portcullis_config::{parse_duration, parse_size};

use crate::pipeline::tap::{At, MOST_PAYLOAD_BYTES};

/// Bytes of one message's payload that are shown, and the most that may be.
pub(crate) const PAYLOAD_BYTES: usize = 1024;
/// A tap that nobody ends.
const LONGEST: Duration = Duration::from_secs(3600);

/// What somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// None where the process has one.
    pub(super) pipeline: Option<String>,
    pub(super) at: Point,
    /// Each so many-th message of a partition.
    pub(super) sample: u64,
    pub(super) payload: bool,
    bytes: usize,
    pub(super) limit: Option<u64>,
    pub(super) lasts: Duration,
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Source,
    Plugin(String),
    Sink,
}

impl Point {
    pub(super) fn is(&self, at: At<'_>) -> bool {
        match (self, at) {
            (Self::Source, At::Source) | (Self::Sink, At::Sink) => true,
            (Self::Plugin(wanted), At::Plugin(plugin)) => wanted == plugin,
            _ => false,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Plugin(plugin) => f.write_str(plugin),
            Self::Sink => f.write_str("sink"),
        }
    }
}

impl Asked {
    /// Reads the query of the address. Names have no character that an address would escape.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut asked = Self {
            pipeline: None,
            at: Point::Source,
            sample: 1,
            payload: false,
            bytes: PAYLOAD_BYTES,
            limit: None,
            lasts: LONGEST,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |allowed: &str| format!("`{key}={value}`: allowed is {allowed}");
            let positive =
                || value.parse().ok().filter(|number| *number > 0).ok_or_else(|| wrong("a number from 1 up"));
            match key {
                "pipeline" => asked.pipeline = Some(value.to_owned()),
                "at" => {
                    asked.at = match value {
                        "source" => Point::Source,
                        "sink" => Point::Sink,
                        "" => return Err(wrong("source, sink or the name of a plugin")),
                        // For a plugin that is called as an end of the pipeline is.
                        plugin => Point::Plugin(plugin.strip_prefix("plugin/").unwrap_or(plugin).to_owned()),
                    }
                }
                "sample" => asked.sample = positive()?,
                "limit" => asked.limit = Some(positive()?),
                "payload" => {
                    asked.payload = match value {
                        "true" => true,
                        "false" => false,
                        _ => return Err(wrong("true or false")),
                    }
                }
                "bytes" => {
                    let bytes = parse_size(value).ok().and_then(|bytes| usize::try_from(bytes).ok());
                    let fits = bytes.filter(|bytes| (1..=MOST_PAYLOAD_BYTES).contains(bytes));
                    asked.bytes = fits.ok_or_else(|| wrong("1 to 64KiB"))?;
                }
                "for" => {
                    let fits = parse_duration(value).ok().filter(|lasts| !lasts.is_zero() && *lasts <= LONGEST);
                    asked.lasts = fits.ok_or_else(|| wrong("a time up to 1h, such as 30s"))?;
                }
                _ => {
                    let keys = "pipeline, at, sample, payload, bytes, limit, for";
                    return Err(format!("`{key}` is not known; allowed are {keys}"));
                }
            }
        }
        Ok(asked)
    }

    pub(super) fn payload_bytes(&self) -> Option<usize> {
        self.payload.then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_bound_and_what_is_not_known_is_refused() {
        let asked =
            Asked::parse("pipeline=p&at=plugin/sink&sample=10&payload=true&bytes=4KiB&limit=5&for=30s").unwrap();
        assert_eq!((asked.at, asked.sample, asked.limit), (Point::Plugin("sink".to_owned()), 10, Some(5)));
        assert_eq!((asked.bytes, asked.lasts), (4096, Duration::from_secs(30)));
        assert_eq!(Asked::parse("").unwrap().payload_bytes(), None);
        for wrong in [
            "sample=0",
            "sample=x",
            "limit=0",
            "bytes=1MiB",
            "bytes=0",
            "for=2h",
            "for=0s",
            "payload=yes",
            "at=",
            "x=1",
        ] {
            assert!(Asked::parse(wrong).unwrap_err().contains("allowed"), "{wrong}");
        }
    }
}
