//! Reads JSON (RFC 8259) strictly and gives it back as it is written. What another parser might read differently (a byte order mark, a
//! comment, a comma too many, half a surrogate pair) is refused: it would be a way around every rule.

use std::borrow::Cow;

use crate::rewrite::Refusal;

/// Objects and arrays within each other.
pub(crate) const MAX_DEPTH: usize = 128;

pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Refusal> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, at: 0, depth: 0 }),
            Err(error) => Err(Refusal::NotJson { at: error.valid_up_to() }),
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes past this byte where it is the next one.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at = self.at.saturating_add(usize::from(is_next));
        is_next
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    pub(crate) fn end(&self) -> Result<(), Refusal> {
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong()) }
    }

    /// Past the bracket that opens an object or array.
    pub(crate) fn open(&mut self, bracket: u8) -> Result<(), Refusal> {
        self.expect(bracket)?;
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH { Err(Refusal::TooDeep) } else { Ok(()) }
    }

    pub(crate) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// White space, which may be none.
    pub(crate) fn blank(&mut self) -> &'a str {
        let from = self.at;
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.since(from)
    }

    /// A string with its quotes.
    pub(crate) fn string(&mut self) -> Result<&'a str, Refusal> {
        let from = self.at;
        self.expect(b'"')?;
        loop {
            self.skip_while(|byte| byte != b'"' && byte != b'\\' && byte >= 0x20);
            if self.take(b'"') {
                return Ok(self.since(from));
            }
            self.expect(b'\\')?;
            self.escape()?;
        }
    }

    /// A whole value, without the white space around it.
    pub(crate) fn value(&mut self) -> Result<&'a str, Refusal> {
        let from = self.at;
        match self.peek() {
            Some(b'{') => self.members(b'{', b'}', |scanner| {
                scanner.string()?;
                scanner.blank();
                scanner.expect(b':')
            })?,
            Some(b'[') => self.members(b'[', b']', |_| Ok(()))?,
            Some(b'"') => drop(self.string()?),
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => self.number()?,
        }
        Ok(self.since(from))
    }

    fn members(&mut self, open: u8, close: u8, name: impl Fn(&mut Self) -> Result<(), Refusal>) -> Result<(), Refusal> {
        self.open(open)?;
        self.blank();
        if !self.take(close) {
            loop {
                self.blank();
                name(self)?;
                self.blank();
                self.value()?;
                self.blank();
                if !self.take(b',') {
                    break;
                }
            }
            self.expect(close)?;
        }
        self.close();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Refusal> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Refusal> {
        let from = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        if self.at == from { Err(self.wrong()) } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), Refusal> {
        word.bytes().try_for_each(|byte| self.expect(byte))
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Refusal> {
        let wrong = self.wrong();
        if !self.take(b'u') {
            let known = self.peek().is_some_and(|byte| b"\"\\/bfnrt".contains(&byte));
            self.at = self.at.saturating_add(usize::from(known));
            return if known { Ok(()) } else { Err(wrong) };
        }
        match self.unit()? {
            // The first half of a pair needs the second one behind it.
            0xd800..=0xdbff => {
                self.expect(b'\\')?;
                self.expect(b'u')?;
                if matches!(self.unit()?, 0xdc00..=0xdfff) { Ok(()) } else { Err(wrong) }
            }
            0xdc00..=0xdfff => Err(wrong),
            _ => Ok(()),
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, Refusal> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(|| self.wrong())?;
            unit = (unit << 4) | digit;
            self.at = self.at.saturating_add(1);
        }
        Ok(unit)
    }

    fn skip_while(&mut self, fits: impl Fn(u8) -> bool) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len());
        self.at = self.at.saturating_add(length);
    }

    fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn wrong(&self) -> Refusal {
        Refusal::NotJson { at: self.at }
    }
}

/// The contents of a string that was scanned.
pub(crate) fn contents(quoted: &str) -> Cow<'_, str> {
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    Cow::Owned(serde_json::from_str(quoted).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(text: &[u8]) -> bool {
        let Ok(mut scanner) = Scanner::new(text) else { return false };
        scanner.blank();
        let scanned = scanner.value();
        scanner.blank();
        scanned.is_ok() && scanner.end().is_ok()
    }

    #[test]
    fn what_is_json_is_taken_and_nothing_else_is() {
        for text in [
            "0",
            "-0",
            "10.50e-3",
            "1E+9",
            " [ ] ",
            "{\"a\" : [1 , {}]}\n",
            r#""\ud83d\ude00\/\u00e9""#,
            "null",
            "\"\u{7f}\"",
        ] {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        let not = [
            "",
            " ",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "nul",
            "nulll",
            "[1,]",
            "[,1]",
            "{,}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
        ];
        let more = [
            "[1 2]",
            "{\"a\" 1}",
            "[1]]",
            "[1",
            "\"a",
            "\"\\x\"",
            "\"\\u00g0\"",
            "\"a\nb\"",
            "/**/1",
            "1//",
            "\u{feff}1",
            "\u{a0}1",
        ];
        let halves = [r#""\ud800""#, r#""\ud800x""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800\n""#, "\"\\"];
        for text in not.into_iter().chain(more).chain(halves) {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(
            !is_json(b"\"\xff\"")
                && !is_json(b"\"\xc0\xaf\"")
                && !is_json("\"a\"".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice())
        );
    }

    #[test]
    fn depth_is_bounded_at_the_same_level_for_both_kinds() {
        let nested = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(is_json(nested(open, close, MAX_DEPTH).as_bytes()));
            let deeper = nested(open, close, MAX_DEPTH + 1);
            assert_eq!(
                Scanner::new(deeper.as_bytes()).and_then(|mut scanner| scanner.value().map(drop)),
                Err(Refusal::TooDeep)
            );
        }
        assert!(is_json(format!("[{}1]", "[],".repeat(1000)).as_bytes()), "siblings are not depth");
    }

    #[test]
    fn contents_have_their_escapes_resolved() {
        assert_eq!(contents(r#""\u0063ard""#), "card");
        assert_eq!(contents(r#""a\\\"\ud83d\ude00""#), "a\\\"\u{1f600}");
    }
}
