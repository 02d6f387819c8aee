use super::tree::Scalar;

/// What a scalar is by the core schema of YAML 1.2: `no` is text, and `_` is in no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(&'a str),
}

impl Plain<'_> {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Unsigned(_) | Self::Negative(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
        }
    }
}

impl Scalar {
    /// The typed value; quotes make it text.
    pub(crate) fn resolve(&self) -> Plain<'_> {
        if self.plain { resolve_plain(&self.text) } else { Plain::Text(&self.text) }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.plain && self.typed.is_none() && resolve_plain(&self.text) == Plain::Null
    }

    /// As messages may show it: shortened, and never what a variable held.
    pub(crate) fn shown(&self) -> String {
        const LENGTH_MAX: usize = 60;
        let text = self.typed.as_deref().unwrap_or(&self.text);
        let mut shown: String = text.chars().take(LENGTH_MAX).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        shown
    }
}

fn resolve_plain(text: &str) -> Plain<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or(Plain::Text(text))
}

fn integer(text: &str) -> Option<Plain<'_>> {
    let radix = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        all.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16).map(Plain::Unsigned);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8).map(Plain::Unsigned);
    }
    if let Some(digits) = text.strip_prefix('-') {
        radix(digits, 10)?;
        return text.parse().ok().map(|number| if number == 0 { Plain::Unsigned(0) } else { Plain::Negative(number) });
    }
    radix(text.strip_prefix('+').unwrap_or(text), 10).map(Plain::Unsigned)
}

fn float(text: &str) -> Option<Plain<'_>> {
    // Rust also reads `inf`, `nan` and `infinity`, which are words in YAML.
    let digits = text.chars().any(|c| c.is_ascii_digit());
    let others = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
    (digits && others).then(|| text.parse().ok().map(Plain::Float)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_scalar_has_the_type_of_the_core_schema() {
        for (text, expected) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("yes", Plain::Text("yes")),
            ("no", Plain::Text("no")),
            ("12", Plain::Unsigned(12)),
            ("+12", Plain::Unsigned(12)),
            ("-12", Plain::Negative(-12)),
            ("-0", Plain::Unsigned(0)),
            ("0x1f", Plain::Unsigned(31)),
            ("0o17", Plain::Unsigned(15)),
            ("0x", Plain::Text("0x")),
            ("0x+1", Plain::Text("0x+1")),
            ("1_000", Plain::Text("1_000")),
            ("1.5", Plain::Float(1.5)),
            ("1e3", Plain::Float(1000.0)),
            ("inf", Plain::Text("inf")),
            ("1.2.3", Plain::Text("1.2.3")),
            ("50ms", Plain::Text("50ms")),
            ("18446744073709551616", Plain::Float(18_446_744_073_709_551_616.0)),
        ] {
            assert_eq!(resolve_plain(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_scalar_makes_it_panic(text in any::<String>(), numeric in "[-+0-9a-fxo._]{0,24}") {
            let _ = (resolve_plain(&text), resolve_plain(&numeric));
        }
    }
}
