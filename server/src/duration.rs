//! Durations as people write them: `500ms`, `30s`, `2m`, `1h30m`, `7d`. Used by the configuration and the command line.
use std::time::Duration;

/// Units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads one or more numbers with a unit each (`ms`, `s`, `m`, `h`, `d`), whole to the millisecond; a bare `0` is fine.
/// Errors are sentences that say what would have been right.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write a number and a unit, as 500ms, 30s, 2m, 1h30m or 7d");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut millis = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        millis += number * unit.1 as f64;
        rest = &rest[letters..];
    }
    // 100 years: far beyond every limit, and far from overflow.
    if millis > 3_155_760_000_000.0 {
        return Err(format!("`{text}` is longer than 100 years"));
    }
    Ok(Duration::from_millis(millis.round() as u64))
}

/// The shortest exact spelling: `1h30m`, `1s500ms`, `0s`. Parts below a millisecond are left out.
pub fn format(duration: Duration) -> String {
    let mut millis = duration.as_millis() as u64;
    let mut text = String::new();
    for (unit, size) in UNITS {
        if millis >= size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_back() {
        for (text, millis, written) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("2m", 120_000, "2m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1.5s", 1_500, "1s500ms"),
            ("7d", 604_800_000, "7d"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format(Duration::from_millis(millis)), written);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for bad in ["", "30", "s", "-1s", "1 s", "3x", "1h30", "1..5s", "2000000d", "1S"] {
            let error = parse(bad).expect_err(bad);
            assert!(error.contains("30s") || error.contains("100 years"), "{bad}: {error}");
        }
    }
}
