use std::borrow::{Borrow, Cow};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use idna::AsciiDenyList;

use crate::Reason;

const MAX_LABEL: usize = 63;
/// 253 with the dot at the end that every name has in the DNS: the vectors (C26) count it, and a name this long is nobody's.
const MAX_NAME: usize = 252;
/// Longer text is not read at all.
const MAX_TEXT: usize = 1024;

/// A host name in its one form: letters, digits and hyphens in lower case, labels of 1 to 63 bytes, at most 252 in all, no dot at the
/// end, the last label not a number. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a request goes, in its one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name that must be looked up.
    Name(Name),
    /// An address that was written as such.
    Address(IpAddr),
}

impl fmt::Display for Host {
    /// As in an authority: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Reads a host as it stands in an authority or a rule: a name, an IPv4 address in four decimal numbers, an IPv6 address in
/// brackets. One dot at the end of a name is passed over.
///
/// # Errors
/// [`Reason::NameInvalid`], [`Reason::NameNumeric`] for text that some parser reads as an address,
/// [`Reason::NameSpecial`] for `localhost` and its like.
pub fn parse_host(text: &str) -> Result<Host, Reason> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(Reason::NameInvalid)?;
        return inner.parse::<Ipv6Addr>().map(|address| Host::Address(address.into())).map_err(|_| Reason::NameInvalid);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    parse_name(text.strip_suffix('.').unwrap_or(text)).map(Host::Name)
}

/// Reads a name without a dot at the end.
///
/// # Errors
/// As [`parse_host`].
pub(crate) fn parse_name(text: &str) -> Result<Name, Reason> {
    let shape = shape(text).filter(|_| text.len() <= MAX_NAME).ok_or(Reason::NameInvalid)?;
    if ends_in_number(text) {
        return Err(if numeric_address(text).is_some() { Reason::NameNumeric } else { Reason::NameInvalid });
    }
    let name = Name(if shape.upper { text.to_ascii_lowercase().into() } else { text.into() });
    if shape.hyphens && has_a_label(name.as_str()) && a_labels(name.as_str()).as_deref() != Some(name.as_str()) {
        return Err(Reason::NameInvalid);
    }
    if is_special(name.as_str()) { Err(Reason::NameSpecial) } else { Ok(name) }
}

/// What a name needs beyond being looked at once.
struct Shape {
    upper: bool,
    /// Two in a row: there may be an A-label.
    hyphens: bool,
}

/// None for what is not labels of letters, digits and inner hyphens.
fn shape(text: &str) -> Option<Shape> {
    let mut shape = Shape { upper: false, hyphens: false };
    let mut length = 0_usize;
    let mut last = b'.';
    for byte in text.bytes().chain([b'.']) {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => length += 1,
            b'A'..=b'Z' => {
                shape.upper = true;
                length += 1;
            }
            b'-' if last != b'.' => {
                shape.hyphens |= last == b'-';
                length += 1;
            }
            b'.' if (1..=MAX_LABEL).contains(&length) && last != b'-' => length = 0,
            _ => return None,
        }
        last = byte;
    }
    Some(shape)
}

/// Whether a parser may take the text for an IPv4 address: that is decided by its last label.
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The address that lenient parsers read in one to four decimal, octal or hexadecimal numbers, with or without a dot at the end.
/// For the audit: nobody dials it.
pub(crate) fn numeric_address(text: &str) -> Option<IpAddr> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let parts = text.split('.').map(number).collect::<Option<Vec<u64>>>()?;
    let (last, leading) = parts.split_last()?;
    let free = u32::try_from(4_usize.checked_sub(leading.len()).filter(|free| *free > 0)?).ok()?;
    if leading.iter().any(|part| *part > 255) || *last >= 1_u64 << (8 * free) {
        return None;
    }
    let high = leading.iter().fold(0_u64, |bits, part| bits << 8 | part);
    let bits = high.checked_shl(8 * free).unwrap_or(0) | last;
    u32::try_from(bits).ok().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 64 || text.starts_with('+') {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return if hex.is_empty() { Some(0) } else { u64::from_str_radix(hex, 16).ok() };
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Names that no name server is asked for: this machine, multicast DNS, Tor, and what never exists. The cluster domain of
/// Kubernetes is an ordinary zone of its name servers in spite of its end.
fn is_special(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "localhost" | "localdomain" | "onion" | "invalid" => true,
        "local" => !(name == "cluster.local" || name.ends_with(".cluster.local")),
        _ => false,
    }
}

fn has_a_label(name: &str) -> bool {
    name.split('.').any(|label| label.starts_with("xn--"))
}

/// The name in A-labels; none where it has no such form.
fn a_labels(text: &str) -> Option<Cow<'_, str>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::STD3).ok()
}

/// Reads what `resolve-addresses` gets: IPv6 addresses stand without brackets there. What is not ASCII never becomes a query.
pub(crate) fn parse_lookup(text: &str) -> Result<Host, Unreadable> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    if text.is_ascii() {
        return match parse_host(text) {
            Ok(Host::Name(name)) => Ok(Host::Name(name)),
            // Brackets belong to authorities.
            Ok(Host::Address(_)) => Err(Reason::NameInvalid.into()),
            Err(reason) => Err(Unreadable::new(reason, text)),
        };
    }
    let mapped = a_labels(text).ok_or(Reason::NameInvalid)?;
    match parse_host(&mapped) {
        Ok(Host::Name(name)) => Err(Unreadable { reason: Reason::RuleNoMatch, name: Some(name), address: None }),
        Ok(Host::Address(address)) => {
            Err(Unreadable { reason: Reason::NameNumeric, name: None, address: Some(address) })
        }
        Err(reason) => Err(Unreadable::new(reason, &mapped)),
    }
}

/// Why host text was refused, and what it seems to mean.
pub(crate) struct Unreadable {
    pub(crate) reason: Reason,
    pub(crate) name: Option<Name>,
    pub(crate) address: Option<IpAddr>,
}

impl Unreadable {
    pub(crate) fn new(reason: Reason, text: &str) -> Self {
        let address = if reason == Reason::NameNumeric { numeric_address(text) } else { None };
        Self { reason, name: None, address }
    }
}

impl From<Reason> for Unreadable {
    fn from(reason: Reason) -> Self {
        Self { reason, name: None, address: None }
    }
}

/// A text that an audit event may show for a host that could not be read: A-labels where there are any, else the text with
/// everything escaped that is not printable ASCII, at most 256 bytes.
pub fn ascii_form(text: &str) -> String {
    if let Some(name) = a_labels(text)
        && name.len() <= MAX_NAME
    {
        return name.into_owned();
    }
    let mut shown = String::new();
    for character in text.chars() {
        let before = shown.len();
        match character {
            '!'..='~' => shown.push(character),
            _ => shown.extend(character.escape_unicode()),
        }
        if shown.len() > MAX_NAME {
            shown.truncate(before);
            shown.push_str("...");
            break;
        }
    }
    shown
}
