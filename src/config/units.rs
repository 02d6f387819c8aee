use std::time::Duration;

use thiserror::Error;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// A duration.
    #[error("a duration is a whole number with ms, s, m or h, such as 250ms")]
    Duration,
    /// A size.
    #[error("a size is a whole number of bytes, or one with KiB, MiB or GiB (powers of 1024), such as 16MiB")]
    Size,
    /// A rate.
    #[error("a rate is a whole number with /s, /min or /h, such as 5/min")]
    Rate,
    /// Past 64 bits.
    #[error("the number is too large")]
    TooLarge,
}

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how much time: a second, a minute or an hour.
    pub per: Duration,
}

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Reads `250ms`, `2s`, `5m`, `1h`.
///
/// # Errors
/// Anything else, among it a number without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text, UnitError::Duration)?;
    let factor = match unit {
        "ms" => 1,
        "s" => SECOND_MS,
        "m" | "min" => MINUTE_MS,
        "h" => HOUR_MS,
        _ => return Err(UnitError::Duration),
    };
    number.checked_mul(factor).map(Duration::from_millis).ok_or(UnitError::TooLarge)
}

/// Writes what [`parse_duration`] reads, in the largest unit that has no fraction; what is finer than a millisecond is cut.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match millis {
        0 => "0ms".to_owned(),
        ms if ms % HOUR_MS == 0 => format!("{}h", ms / HOUR_MS),
        ms if ms % MINUTE_MS == 0 => format!("{}m", ms / MINUTE_MS),
        ms if ms % SECOND_MS == 0 => format!("{}s", ms / SECOND_MS),
        ms => format!("{ms}ms"),
    }
}

/// Reads `64KiB`, `16MiB`, `1GiB` or plain bytes, as bytes.
///
/// # Errors
/// Anything else. `KB` and `MB` are refused, since half of the world means 1000 by them.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text, UnitError::Size)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(UnitError::Size),
    };
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

/// Writes what [`parse_size`] reads, in the largest unit that has no fraction.
pub fn format_size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = units.into_iter().find(|(factor, _)| bytes != 0 && bytes.is_multiple_of(*factor));
    fits.map_or_else(|| bytes.to_string(), |(factor, unit)| format!("{}{unit}", bytes / factor))
}

/// Reads `100/s`, `5/min`, `10/h`.
///
/// # Errors
/// Anything else.
pub fn parse_rate(text: &str) -> Result<Rate, UnitError> {
    let (count, unit) = split(text, UnitError::Rate)?;
    let per = match unit {
        "/s" => SECOND_MS,
        "/min" | "/m" => MINUTE_MS,
        "/h" => HOUR_MS,
        _ => return Err(UnitError::Rate),
    };
    let count = u32::try_from(count).map_err(|_| UnitError::TooLarge)?;
    Ok(Rate { count, per: Duration::from_millis(per) })
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/min", self.count),
            3600 => write!(f, "{}/h", self.count),
            seconds => write!(f, "{}/{seconds}s", self.count),
        }
    }
}

/// A whole number and what follows it, white space between them allowed.
fn split(text: &str, error: UnitError) -> Result<(u64, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).ok_or(error)?;
    if digits.is_empty() {
        return Err(error);
    }
    let number = digits.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, unit.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2 s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("100"), Ok(100));
        assert_eq!(parse_rate("5/min"), Ok(Rate { count: 5, per: Duration::from_secs(60) }));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in ["", "5", "ms", "1.5s", "-1s", "1m30s", "5 µs", "1_000ms", " 1s"] {
            assert_eq!(parse_duration(text), Err(UnitError::Duration), "{text:?}");
        }
        for text in ["", "MiB", "1MB", "1kb", "1mib", "1.5GiB", "1_000"] {
            assert_eq!(parse_size(text), Err(UnitError::Size), "{text:?}");
        }
        assert_eq!(parse_size("99999999999GiB"), Err(UnitError::TooLarge));
        assert_eq!(parse_duration("99999999999999999999ms"), Err(UnitError::TooLarge));
        assert_eq!(parse_rate("5000000000/s"), Err(UnitError::TooLarge));
        assert_eq!(parse_rate("5"), Err(UnitError::Rate));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), digits in "[0-9]{0,25}", unit in "[ a-zA-Z/µ]{0,4}") {
            for text in [text, format!("{digits}{unit}")] {
                prop_assert!(parse_duration(&text).is_err() || parse_size(&text).is_err() || parse_rate(&text).is_err());
            }
        }

        #[test]
        fn what_is_written_is_read_back(number in any::<u64>(), small in 0..10_000_u64, shift in 0..40_u32, count in any::<u32>()) {
            for number in [number, small << shift, small * MINUTE_MS] {
                let duration = Duration::from_millis(number);
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
                prop_assert_eq!(parse_size(&format_size(number)), Ok(number));
            }
            for per in [1, 60, 3600] {
                let rate = Rate { count, per: Duration::from_secs(per) };
                prop_assert_eq!(parse_rate(&rate.to_string()), Ok(rate));
            }
        }
    }
}
