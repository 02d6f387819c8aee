use crate::Reason;

/// Longer is no path that a server takes.
const MAX_PATH: usize = 16 * 1024;

/// The path of a request target, without its query, where every server reads it the same way. An empty one is `/`.
///
/// # Errors
/// [`Reason::HttpPathNoncanonical`] for what servers, proxies and frameworks read in different ways: empty, `.` and `..` segments,
/// `%2e`, `%2f`, `%5c`, `%00` and a percent sign encoded before two digits, a backslash, a `;`, a `#`, white space, anything that
/// is not ASCII or not allowed in a path.
pub fn canonical_path(path: &str) -> Result<String, Reason> {
    const NO: Result<String, Reason> = Err(Reason::HttpPathNoncanonical);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path.len() + query.len() > MAX_PATH || !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return NO;
    }
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    let Some(rest) = path.strip_prefix('/') else { return NO };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if (segment.is_empty() && !last) || segment == "." || segment == ".." || !is_segment(segment) {
            return NO;
        }
    }
    Ok(path.to_owned())
}

fn is_segment(segment: &str) -> bool {
    let mut bytes = segment.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let fine = match byte {
            b'%' => match (bytes.next().copied().and_then(nibble), bytes.next().copied().and_then(nibble)) {
                (Some(high), Some(low)) => is_harmless(high << 4 | low, bytes.as_slice()),
                _ => false,
            },
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':'
            | b'@' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Whether an encoded byte changes nothing for a server that decodes it too early, or twice.
fn is_harmless(byte: u8, rest: &[u8]) -> bool {
    match byte {
        b'.' | b'/' | b'\\' | b';' | 0..=0x1f | 0x7f => false,
        // The digits behind it may be encoded themselves, so the first of them is enough.
        b'%' => !matches!(rest, [next, ..] if *next == b'%' || nibble(*next).is_some()),
        _ => true,
    }
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
