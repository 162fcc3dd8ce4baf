//! Durations as they are written in specs: Go text (`90m`, `24h`), parsed once.

use std::time::Duration;

/// Parses a Go duration made of whole numbers with the units `ms`, `s`, `m` and `h`.
///
/// Returns `None` for anything else: signs, fractions, other units, numbers of over six digits
/// (so nothing can overflow), the empty text.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 6 {
            return None;
        }
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (unit, tail) = [
            ("ms", Duration::from_millis(1)),
            ("s", Duration::from_secs(1)),
            ("m", Duration::from_secs(60)),
            ("h", Duration::from_secs(3_600)),
        ]
        .into_iter()
        .find_map(|(suffix, unit)| tail.strip_prefix(suffix).map(|tail| (unit, tail)))?;
        total += unit * u32::try_from(number).ok()?;
        rest = tail;
    }
    Some(total)
}

/// Writes a duration the way Go does, in whole seconds: `1h30m0s` becomes `1h30m`, zero `0s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    for (amount, unit) in [(hours, "h"), (minutes, "m"), (rest, "s")] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_text_is_parsed() {
        for (text, seconds) in
            [("90m", 5_400), ("24h", 86_400), ("1h30m", 5_400), ("0s", 0), ("999999h", 3_599_996_400)]
        {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        for text in ["", "-1h", "1d", "ten", "10", "1e9h", "1.5h", "1000000h", "h", "1h 1m"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formatting_is_read_back() {
        for seconds in [0, 59, 60, 3_600, 5_430, 86_400] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
