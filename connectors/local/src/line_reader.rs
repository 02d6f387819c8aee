use std::io::{self, BufRead};

/// Splits a stream into lines. A line without end cannot eat the memory: what is past the bound is counted and thrown away.
pub(crate) struct LineReader<R> {
    reader: R,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    next_byte: u64,
    number: u64,
}

/// One line.
pub(crate) struct RawLine<'a> {
    /// Without the newline, and not longer than the bound.
    pub(crate) bytes: &'a [u8],
    /// Where it begins in the stream, in bytes.
    pub(crate) start: u64,
    /// From 1.
    pub(crate) number: u64,
    /// How long it was, where that is more than the bound.
    pub(crate) cut_from_bytes: Option<u64>,
}

impl<R: BufRead> LineReader<R> {
    /// A reader that stands at this byte, behind this many lines.
    pub(crate) fn new(reader: R, max_line_bytes: usize, next_byte: u64, lines: u64) -> Self {
        Self { reader, max_line_bytes, buffer: Vec::new(), next_byte, number: lines }
    }

    /// The next line; the last one may lack its newline. `None` at the end.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.buffer.clear();
        let start = self.next_byte;
        let mut length: u64 = 0;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let newline = available.iter().position(|byte| *byte == b'\n');
            let content = available.get(..newline.unwrap_or(available.len())).unwrap_or_default();
            let room = self.max_line_bytes.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(content.get(..room).unwrap_or(content));
            length += content.len() as u64;
            let used = content.len() + usize::from(newline.is_some());
            let at_end = available.is_empty();
            self.reader.consume(used);
            self.next_byte += used as u64;
            if newline.is_some() || at_end {
                break;
            }
        }
        if self.next_byte == start {
            return Ok(None);
        }
        self.number += 1;
        let cut_from_bytes = (length > self.buffer.len() as u64).then_some(length);
        Ok(Some(RawLine { bytes: &self.buffer, start, number: self.number, cut_from_bytes }))
    }

    /// Where the next line begins, and how many lines are behind.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.next_byte, self.number)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn lines(bytes: &[u8], buffer: usize, max: usize) -> Vec<(Vec<u8>, u64, u64, Option<u64>)> {
        let mut reader = LineReader::new(BufReader::with_capacity(buffer, bytes), max, 0, 0);
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push((line.bytes.to_vec(), line.start, line.number, line.cut_from_bytes));
        }
        lines
    }

    #[test]
    fn a_last_line_without_newline_is_a_line_and_an_empty_end_is_none() {
        assert_eq!(lines(b"", 8, 9), []);
        let expected = [(b"a".to_vec(), 0, 1, None), (b"".to_vec(), 2, 2, None), (b"b\r".to_vec(), 3, 3, None)];
        assert_eq!(lines(b"a\n\nb\r", 8, 9), expected);
        assert_eq!(lines(b"a\n\nb\r\n", 2, 9), expected);
    }

    #[test]
    fn a_line_past_the_bound_is_cut_and_its_length_is_told() {
        let expected = [(b"abc".to_vec(), 0, 1, Some(5)), (b"xyz".to_vec(), 6, 2, None)];
        assert_eq!(lines(b"abcde\nxyz\n", 2, 3), expected);
    }

    proptest! {
        #[test]
        fn the_lines_put_together_are_the_stream(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            buffer in 1..20_usize,
        ) {
            let lines = lines(&bytes, buffer, 1000);
            let mut joined = lines.iter().map(|(line, ..)| line.as_slice()).collect::<Vec<_>>().join(&b'\n');
            if bytes.ends_with(b"\n") {
                joined.push(b'\n');
            }
            for (line, start, ..) in &lines {
                prop_assert!(bytes[*start as usize..].starts_with(line));
            }
            prop_assert_eq!(joined, bytes);
        }
    }
}
