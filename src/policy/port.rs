use std::fmt;
use std::num::NonZeroU16;

use crate::Reason;

/// Reads a port: one to five decimal digits without a sign or a leading zero, 1 to 65535.
///
/// # Errors
/// [`Reason::NamePortInvalid`].
pub fn parse_port(text: &str) -> Result<NonZeroU16, Reason> {
    if text.is_empty() || text.len() > 5 || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::NamePortInvalid);
    }
    text.parse().map_err(|_| Reason::NamePortInvalid)
}

/// Ports of a rule, as ranges without overlap in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// One port.
    pub fn one(port: u16) -> Self {
        Self(vec![(port, port)])
    }

    /// All of them, 1 to 65535.
    pub fn any() -> Self {
        Self(vec![(1, u16::MAX)])
    }

    /// Whether these are all ports.
    pub fn is_any(&self) -> bool {
        self.0 == [(1, u16::MAX)]
    }

    /// The ranges, both ends included.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether a port is among them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }

    /// Whether all ports of `other` are among these.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(low, high)| self.0.iter().any(|(from, to)| from <= low && high <= to))
    }

    /// Reads `443`, `80,443`, `8000-8100`, `*`.
    ///
    /// # Errors
    /// [`Reason::NamePortInvalid`].
    pub fn parse(text: &str) -> Result<Self, Reason> {
        if text == "*" {
            return Ok(Self::any());
        }
        let mut ranges = Vec::new();
        for item in text.split(',') {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            let (low, high) = (parse_port(low)?.get(), parse_port(high)?.get());
            if low > high {
                return Err(Reason::NamePortInvalid);
            }
            ranges.push((low, high));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Ok(Self(merged))
    }
}

/// Where the ports of rules begin and end, in ascending order: the port, whose it is, and whether it is the first one of a range or
/// the first one behind it.
pub(crate) fn edges<'a>(ports: impl Iterator<Item = (usize, &'a Ports)>) -> Vec<(u16, usize, bool)> {
    let ranges = ports.flat_map(|(owner, ports)| ports.ranges().iter().map(move |range| (owner, *range)));
    let both = |(owner, (low, high)): (usize, (u16, u16))| {
        [Some((low, owner, true)), high.checked_add(1).map(|behind| (behind, owner, false))]
    };
    let mut edges: Vec<_> = ranges.flat_map(both).flatten().collect();
    edges.sort_unstable();
    edges
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("*");
        }
        for (index, (low, high)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if low == high { write!(f, "{low}")? } else { write!(f, "{low}-{high}")? }
        }
        Ok(())
    }
}
