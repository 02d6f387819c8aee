/// A stretch of the file that holds a secret: from (line, column) to (line, column), lines from 1, columns from 0.
pub(super) type Stretch = ((usize, usize), (usize, usize));

const MASK: char = '*';
const MASK_LENGTH: usize = 8;

/// Whether the value under this key may be a secret. `parent` is the key of the map around it.
pub(super) fn is_secret(key: &str, parent: Option<&str>) -> bool {
    // Values under `librdkafka` may be certificates or tokens under any of hundreds of names.
    match parent {
        Some("librdkafka") => return true,
        Some("sasl") => return !matches!(key, "mechanism" | "username"),
        _ => {}
    }
    key == "sasl" || names_a_secret(key)
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "credential", "apikey", "api_key", "api-key", "private", ".pem"]
        .iter()
        .any(|word| key.contains(word))
}

/// The lines of a file as they may be shown: what lies in a stretch is masked. In a file with a syntax error, which has no
/// stretches past it, also what follows a key that names a secret.
pub(super) fn masked_lines(text: &str, stretches: &[Stretch], broken: bool) -> Vec<String> {
    let line = |line: &str| if broken { mask_by_name(line) } else { line.to_owned() };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    for ((first, from), (last, to)) in stretches {
        for (number, line) in lines.iter_mut().enumerate().map(|(index, line)| (index + 1, line)) {
            if number >= *first && number <= *last {
                let from = if number == *first { *from } else { 0 };
                let to = if number == *last { *to } else { usize::MAX };
                mask_columns(line, from, to);
            }
        }
    }
    lines
}

/// Keeps the columns of what follows, so that a caret still points at it.
fn mask_columns(line: &mut String, from: usize, to: usize) {
    *line = line.chars().enumerate().map(|(col, c)| if col >= from && col < to { MASK } else { c }).collect();
}

fn mask_by_name(line: &str) -> String {
    let mut start = 0;
    while let Some(colon) = line.get(start..).and_then(|rest| rest.find(':')).map(|at| start + at) {
        let (before, after) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        let key = before.trim_end_matches(['"', '\'', ' ']);
        let key = key.rsplit([' ', '{', ',', '"', '\'']).next().unwrap_or_default();
        let value = after.trim_start();
        // `{ env: NAME }` and `{ file: path }` are no secrets but where one is.
        if names_a_secret(key) && !value.is_empty() && !value.starts_with('{') {
            return format!("{before}: {}", String::from(MASK).repeat(MASK_LENGTH));
        }
        start = colon + 1;
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_key_that_names_a_secret_is_masked() {
        for line in [
            "password: hunter2",
            "  sasl: { username: u, password: hunter2, mechanism: X",
            "\"Password\" : 'hunter2",
            "ssl.key.password: hunter2",
            "- api_key: \"hunter2",
        ] {
            assert!(!masked_lines(line, &[], true)[0].contains("hunter2"), "{line}");
        }
        assert_eq!(masked_lines("password: { env: NAME }", &[], true)[0], "password: { env: NAME }");
        assert_eq!(masked_lines("a: b:c", &[], true)[0], "a: b:c");
    }

    #[test]
    fn a_stretch_is_masked_over_its_lines_and_keeps_the_columns() {
        let lines = masked_lines("x: \"hün\nter\" # y\nz", &[((1, 3), (2, 4))], false);
        assert_eq!(lines, ["x: ****", "**** # y", "z"]);
    }
}
