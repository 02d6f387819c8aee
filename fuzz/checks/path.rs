//! Any text as the path of a request: what is taken, every server reads in the same way, however often it decodes.

use portcullis_policy::canonical_path;

/// Runs text through the reader of paths.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = canonical_path(text) else { return };
    assert_eq!(canonical_path(&path).as_ref(), Ok(&path), "{text:?}");
    assert_eq!(
        path.as_str(),
        if text.is_empty() || text.starts_with('?') { "/" } else { before_query(text) },
        "{text:?}"
    );
    plain(&path);
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)), "{path:?}");
    let once = decoded(path.as_bytes());
    for reading in [&once, &decoded(&once)] {
        assert_eq!(separators(reading), separators(path.as_bytes()), "{path:?} has other segments when it is decoded");
        plain(&String::from_utf8_lossy(reading));
    }
    let lower = path.to_ascii_lowercase();
    for encoded in ["%2e", "%2f", "%5c", "%3b", "%00", "%0d", "%0a", "%252e", "%252f", "%255c"] {
        assert!(!lower.contains(encoded), "{path:?} holds {encoded}");
    }
}

fn before_query(text: &str) -> &str {
    text.split_once('?').map_or(text, |(path, _)| path)
}

/// From the root, no segment that means another one, nothing that some server takes for a separator.
fn plain(path: &str) {
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', ';']), "{path:?}");
    assert!(!path.chars().any(|character| character.is_ascii_control()), "{path:?}");
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{path:?}");
}

fn separators(path: &[u8]) -> usize {
    path.iter().filter(|byte| matches!(byte, b'/' | b'\\')).count()
}

/// As a server that decodes what it can and leaves the rest.
fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if let (b'%', [high, low, behind @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            bytes.push(high << 4 | low);
            rest = behind;
        } else {
            bytes.push(first);
        }
    }
    bytes
}
