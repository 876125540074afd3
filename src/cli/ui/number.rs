//! Sizes and counts, short enough to read.

/// Bytes in decimal units: `98.4 MB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, &[" B", " kB", " MB", " GB", " TB"])
}

/// A count in short: `134.5M`.
pub fn count(count: u64) -> String {
    scaled(count, &["", "K", "M", "B", "T"])
}

fn scaled(value: u64, units: &[&str]) -> String {
    let (mut rest, mut unit) = (value as f64, 0);
    // What would be rounded to 1000.0 belongs to the next unit.
    while rest >= 999.95 && unit + 1 < units.len() {
        (rest, unit) = (rest / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{value}{}", units[0]) } else { format!("{rest:.1}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_decimal_units() {
        for (value, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (98_362_432, "98.4 MB"),
            (999_949_999, "999.9 MB"),
            (999_950_000, "1.0 GB"),
            (4_700_000_000, "4.7 GB"),
        ] {
            assert_eq!(bytes(value), expected);
        }
        assert_eq!(count(134_515_008), "134.5M");
        assert_eq!(count(900), "900");
    }
}
