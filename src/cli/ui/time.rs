//! Times as other tools print them: RFC 3339 for scripts, and Go's durations for people who know Ollama's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds, as Ollama's JSON has them.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A point in time in UTC: `2026-02-03T04:05:06.123456789Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// Year, month and day of a day after 1970-01-01. Years are counted from March, so that a leap day is the last of its year.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A duration as Go prints it: `1m2.5s`, `4.1s`, `12.345678ms`, `900ns`.
pub fn go(time: Duration) -> String {
    let nanos = time.as_nanos();
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 6)),
        _ => {
            let seconds = decimal(u128::from(seconds) * 1_000_000_000 + u128::from(time.subsec_nanos()), 9);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// How long ago something was, in words: `3 weeks ago`.
pub fn ago(time: Duration) -> String {
    const UNITS: [(u64, &str); 7] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let seconds = time.as_secs();
    match UNITS.iter().find(|(unit, _)| seconds >= *unit) {
        None => "now".to_owned(),
        Some((unit, name)) => {
            let count = seconds / unit;
            format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
        }
    }
}

/// `value / 10^places` without trailing zeros.
fn decimal(value: u128, places: usize) -> String {
    let one = 10u128.pow(places as u32);
    let text = format!("{}.{:0places$}", value / one, value % one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_gregorian_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000005Z"),
            (951_782_400, "2000-02-29T00:00:00.000000005Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000005Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000005Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000005Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, 5)), expected);
        }
    }

    #[test]
    fn the_past_is_told_in_its_largest_unit() {
        for (seconds, expected) in [
            (0, "now"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (7_200, "2 hours ago"),
            (6 * 86_400, "6 days ago"),
            (21 * 86_400, "3 weeks ago"),
            (64 * 86_400, "2 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (time, expected) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(900), "900ns"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::from_nanos(12_345_678), "12.345678ms"),
            (Duration::from_millis(4_100), "4.1s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_millis(62_500), "1m2.5s"),
            (Duration::from_secs(3_600), "1h0m0s"),
        ] {
            assert_eq!(go(time), expected);
        }
    }
}
