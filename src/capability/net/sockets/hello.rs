//! The server name in the first bytes of a TLS connection. Reads what is needed for that and no more; what it is not sure of
//! is no ClientHello.

use portcullis_policy::Hello;

/// Bytes that a ClientHello with its records may take. Post-quantum key shares make about two thousand.
pub(crate) const MAX_HELLO_BYTES: usize = 16 << 10;

const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
/// Encrypted ClientHello: the name outside is then not the one that the server acts on.
const EXTENSION_ENCRYPTED: u16 = 0xfe0d;
const NAME_HOST: u8 = 0;
/// A record's payload without encryption is at most this.
const MAX_RECORD_BYTES: usize = 16 << 10;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a ClientHello; more must come.
    Incomplete,
    NotTls,
    NoName,
    Name(String),
}

impl Parsed {
    /// For a decision; none while it is incomplete.
    pub(crate) fn hello(&self) -> Option<Hello<'_>> {
        match self {
            Self::Incomplete => None,
            Self::NotTls => Some(Hello::NotTls),
            Self::NoName => Some(Hello::NoName),
            Self::Name(name) => Some(Hello::Name(name)),
        }
    }
}

/// Reads the bytes from the begin of the connection.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    match message(bytes) {
        Step::Done(message) => client_hello(&message).unwrap_or(Parsed::NotTls),
        Step::More if bytes.len() >= MAX_HELLO_BYTES => Parsed::NotTls,
        Step::More => Parsed::Incomplete,
        Step::Wrong => Parsed::NotTls,
    }
}

enum Step {
    Done(Vec<u8>),
    More,
    Wrong,
}

/// The first handshake message, out of one or more records.
fn message(bytes: &[u8]) -> Step {
    let mut rest = bytes;
    let mut body = Vec::new();
    loop {
        if let Some(header) = body.first_chunk::<4>() {
            let [kind, length @ ..] = *header;
            let length = number(&length);
            if kind != MESSAGE_CLIENT_HELLO || length > MAX_HELLO_BYTES {
                return Step::Wrong;
            }
            if let Some(message) = body.get(4..4 + length) {
                return Step::Done(message.to_vec());
            }
        }
        // Each byte that is there must fit already: what is no TLS is refused at once, not when more has come.
        let expected = [Some(RECORD_HANDSHAKE), Some(3), None];
        let fits = |(byte, expected): (&u8, &Option<u8>)| expected.is_none_or(|expected| *byte == expected);
        if !rest.iter().zip(&expected).all(fits) || rest.get(2).is_some_and(|minor| *minor > 4) {
            return Step::Wrong;
        }
        let Some((header, after)) = rest.split_first_chunk::<5>() else { return Step::More };
        let [_, _, _, length @ ..] = *header;
        let length = number(&length);
        if length == 0 || length > MAX_RECORD_BYTES {
            return Step::Wrong;
        }
        let here = after.len().min(length);
        let (part, after) = after.split_at(here);
        body.extend_from_slice(part);
        if part.first().is_some_and(|_| body.first() != Some(&MESSAGE_CLIENT_HELLO)) {
            return Step::Wrong;
        }
        if here < length {
            return Step::More;
        }
        rest = after;
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// None where the message is malformed.
fn client_hello(message: &[u8]) -> Option<Parsed> {
    let mut reader = Reader(message);
    reader.take(2 + 32)?;
    let _session = reader.list(1)?;
    let _ciphers = reader.list(2)?;
    let _compression = reader.list(1)?;
    if reader.0.is_empty() {
        return Some(Parsed::NoName);
    }
    let mut extensions = Reader(reader.list(2)?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut name = None;
    let mut encrypted = false;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let body = extensions.list(2)?;
        match u16::try_from(kind).ok()? {
            EXTENSION_SERVER_NAME if name.is_some() => return None,
            EXTENSION_SERVER_NAME => name = Some(server_name(body)?),
            EXTENSION_ENCRYPTED => encrypted = true,
            _ => {}
        }
    }
    Some(match name {
        Some(name) if !encrypted => Parsed::Name(name),
        _ => Parsed::NoName,
    })
}

/// Exactly one host name: with two, servers differ about which counts.
fn server_name(body: &[u8]) -> Option<String> {
    let mut body = Reader(body);
    let mut names = Reader(body.list(2)?);
    let kind = names.take(1)?;
    let name = names.list(2)?;
    if kind != [NAME_HOST] || !names.0.is_empty() || !body.0.is_empty() || !name.is_ascii() {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(number)
    }

    /// What follows its own length.
    fn list(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
#[path = "../tests/hello.rs"]
mod tests;
