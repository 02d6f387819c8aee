//! Bytes as visible ASCII: `%` and two digits for what is not visible or has a meaning where it stands.

/// Appends `bytes`, with `reserved` characters escaped beside what is never as it is.
pub(crate) fn encode_into(text: &mut String, bytes: &[u8], reserved: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).map_or('0', |digit| char::from(*digit));
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'%' && !reserved.contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
    }
}

/// The bytes, where the text is one that [`encode_into`] writes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte if byte.is_ascii_graphic() => byte,
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_become_visible_and_come_back(bytes: Vec<u8>) {
            let mut text = String::new();
            encode_into(&mut text, &bytes, b"=! /");
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"=! /".contains(&byte)));
            prop_assert_eq!(decode(&text), Some(bytes));
        }
    }

    #[test]
    fn half_an_escape_is_not_read() {
        for text in ["%", "%4", "%4g", "a b", "\u{e9}"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
