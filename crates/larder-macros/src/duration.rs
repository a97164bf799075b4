//! Durations as text: `"24h"`, `"1d 12h"`, `"500ms"`.

use std::time::Duration;

const FORM: &str = "write a number with `ms`, `s`, `m`, `h` or `d`, as in \"24h\", \"500ms\" or \"1d 12h\"";

/// The longest that a policy takes.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Reads a duration.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    let wrong = || format!("{text:?} is no duration: {FORM}");
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| c.is_alphabetic());
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        sum = sum.saturating_add(Duration::from_millis(number.saturating_mul(millis)));
        rest = after.trim_start();
    }
    if sum > LONGEST {
        return Err(format!("{text:?} is too long: at most \"3650d\""));
    }
    Ok(sum)
}

fn split(text: &str, is_part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_one_or_several() {
        for (text, millis) in [
            ("24h", 24 * 3_600_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("1d 12h", 36 * 3_600_000),
            ("1h30m", 5_400_000),
            (" 0s ", 0),
            ("3650d", 3650 * 24 * 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "24", "h", "-1s", "1.5h", "1 h", "1y", "1h,", "1sh", "3651d", "99999999999999999999s", "ünf"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("18446744073709551615d").is_err(), "no overflow");
    }
}
