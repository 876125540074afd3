//! `datetime.strftime` in the C locale, as glibc has it.

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time of day in some time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::text) struct Moment {
    /// Since 1970-01-01 UTC.
    seconds: i64,
    micros: u32,
    /// How far local time is ahead of UTC, in seconds.
    offset: i64,
}

/// Year, month, day of the month and day of the year.
struct Date {
    year: i64,
    month: i64,
    day: i64,
    year_day: i64,
    /// 0 is Sunday.
    week_day: i64,
}

/// The widest field that `format` asks for.
pub(super) fn widest(format: &str) -> usize {
    let widths = format.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<usize>().ok());
    widths.max().unwrap_or(0)
}

impl Moment {
    /// The present in the local time zone, which `TZ` or the system names.
    pub(in crate::text) fn now() -> Moment {
        use chrono::Offset;
        let now = chrono::Local::now();
        let offset = now.offset().fix().local_minus_utc();
        Moment { seconds: now.timestamp(), micros: now.timestamp_subsec_micros().min(999_999), offset: offset.into() }
    }

    /// A time in UTC.
    pub(in crate::text) fn utc(seconds: i64) -> Moment {
        Moment { seconds, micros: 0, offset: 0 }
    }

    /// `strftime(format)` of the local time. Directives that it does not know stay as they are.
    pub(in crate::text) fn strftime(&self, format: &str) -> String {
        let local = self.seconds + self.offset;
        let date = civil(local.div_euclid(86_400));
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            let directive = &rest[at..];
            let flags = directive[1..].len() - directive[1..].trim_start_matches(['-', '_', '0', '^', '#']).len();
            let (flags, after) = directive[1..].split_at(flags);
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (width, after) = after.split_at(digits);
            let after = after.strip_prefix(['E', 'O']).unwrap_or(after);
            let Some(kind) = after.chars().next() else {
                out.push_str(directive);
                return out;
            };
            rest = &after[kind.len_utf8()..];
            match self.field(kind, &date, local.rem_euclid(86_400)) {
                Some((text, pad, least)) => pad_into(&text, (pad, least), flags, width, &mut out),
                None => out.push_str(&directive[..directive.len() - rest.len()]),
            }
        }
        out + rest
    }

    /// A directive's text, what fills it up, and how wide it is at least.
    fn field(&self, kind: char, date: &Date, second: i64) -> Option<(String, char, usize)> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let hour12 = (hour + 11) % 12 + 1;
        let month = MONTHS[usize::try_from(date.month - 1).unwrap_or(0) % 12];
        let day = DAYS[usize::try_from(date.week_day).unwrap_or(0) % 7];
        let half = if hour < 12 { "AM" } else { "PM" };
        let number = |n: i64, least: usize| Some((n.to_string(), '0', least));
        let text = |text: String| Some((text, ' ', 0));
        let clock = format!("{hour:02}:{minute:02}:{second:02}");
        let short = format!("{:02}/{:02}/{:02}", date.month, date.day, date.year.rem_euclid(100));
        match kind {
            'Y' => number(date.year, 0),
            'C' => number(date.year.div_euclid(100), 2),
            'y' => number(date.year.rem_euclid(100), 2),
            'm' => number(date.month, 2),
            'd' => number(date.day, 2),
            'e' => Some((date.day.to_string(), ' ', 2)),
            'j' => number(date.year_day, 3),
            'H' => number(hour, 2),
            'I' => number(hour12, 2),
            'k' => Some((hour.to_string(), ' ', 2)),
            'l' => Some((hour12.to_string(), ' ', 2)),
            'M' => number(minute, 2),
            'S' => number(second, 2),
            'f' => text(format!("{:06}", self.micros)),
            's' => number(self.seconds, 0),
            'w' => number(date.week_day, 0),
            'u' => number((date.week_day + 6) % 7 + 1, 0),
            'U' => number((date.year_day - 1 + 7 - date.week_day) / 7, 2),
            'W' => number((date.year_day - 1 + 7 - (date.week_day + 6) % 7) / 7, 2),
            'G' => number(week(date).0, 0),
            'g' => number(week(date).0.rem_euclid(100), 2),
            'V' => number(week(date).1, 2),
            'p' => text(half.into()),
            'P' => text(half.to_ascii_lowercase()),
            'B' => text(month.into()),
            'b' | 'h' => text(month[..3].into()),
            'A' => text(day.into()),
            'a' => text(day[..3].into()),
            'F' => text(format!("{}-{:02}-{:02}", date.year, date.month, date.day)),
            'T' | 'X' => text(clock),
            'R' => text(format!("{hour:02}:{minute:02}")),
            'r' => text(format!("{hour12:02}:{minute:02}:{second:02} {half}")),
            'D' | 'x' => text(short),
            'c' => text(format!("{} {} {:>2} {clock} {}", &day[..3], &month[..3], date.day, date.year)),
            // A time without a zone has neither a name nor an offset.
            'Z' | 'z' => text(String::new()),
            'n' => text("\n".into()),
            't' => text("\t".into()),
            '%' => text("%".into()),
            _ => None,
        }
    }
}

/// glibc's flags: `-` no filling, `_` with spaces, `0` with zeros, `^` large letters, `#` the other case.
fn pad_into(text: &str, (pad, least): (char, usize), flags: &str, width: &str, out: &mut String) {
    let fill = match flags.chars().rev().find(|c| matches!(c, '-' | '_' | '0')) {
        Some('-') => None,
        Some('_') => Some(' '),
        Some(_) => Some('0'),
        None => Some(pad),
    };
    let least = width.parse().unwrap_or(least);
    let missing = least.saturating_sub(text.chars().count());
    if let Some(fill) = fill {
        out.extend(std::iter::repeat_n(fill, missing));
    }
    let text = match () {
        () if flags.contains('^') => text.to_uppercase(),
        () if flags.contains('#') && matches!(text, "AM" | "PM") => text.to_lowercase(),
        () if flags.contains('#') => text.to_uppercase(),
        () => text.to_owned(),
    };
    out.push_str(&text);
}

/// Year and number of the ISO week.
fn week(date: &Date) -> (i64, i64) {
    let monday = (date.week_day + 6) % 7;
    let number = (date.year_day - 1 - monday + 10) / 7;
    let weeks_of = |year: i64| {
        let p = |y: i64| (y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400)).rem_euclid(7);
        52 + i64::from(p(year) == 4 || p(year - 1) == 3)
    };
    match number {
        0 => (date.year - 1, weeks_of(date.year - 1)),
        n if n > weeks_of(date.year) => (date.year + 1, 1),
        n => (date.year, n),
    }
}

/// The date of a day counted from 1970-01-01. Howard Hinnant, "chrono-compatible low-level date algorithms",
/// <https://howardhinnant.github.io/date_algorithms.html>.
fn civil(days: i64) -> Date {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    // Years begin in March here, so that the leap day comes last.
    let march_day = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * march_day + 2) / 153;
    let day = march_day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let year_day = if month > 2 { march_day + 60 + i64::from(leap) } else { march_day - 305 };
    Date { year, month, day, year_day, week_day: (days + 4).rem_euclid(7) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, offset: i64) -> Moment {
        Moment { seconds, micros: 12, offset }
    }

    #[test]
    fn dates_follow_the_calendar() {
        let format = "%a %A %d %-d %b %B %m %Y %y %j %H:%M:%S %I %p %% %Q";
        assert_eq!(at(0, 0).strftime(format), "Thu Thursday 01 1 Jan January 01 1970 70 001 00:00:00 12 AM % %Q");
        // 2024 is a leap year: its last day is the 366th.
        assert_eq!(at(1_735_689_599, 0).strftime("%Y-%m-%d %j %a %T %I%p"), "2024-12-31 366 Tue 23:59:59 11PM");
        assert_eq!(at(1_709_164_800, 0).strftime("%d %b %Y %j"), "29 Feb 2024 060");
        assert_eq!(at(1_677_628_800, 0).strftime("%F %j"), "2023-03-01 060");
        assert_eq!(at(1_735_689_599, 1).strftime("%F %f %s"), "2025-01-01 000012 1735689599");
    }

    #[test]
    fn weeks_and_widths_are_those_of_glibc() {
        // What GNU date prints for these days.
        assert_eq!(at(1_735_516_800, 0).strftime("%G %g %V %U %W %u %w"), "2025 25 01 52 53 1 1");
        assert_eq!(at(1_609_459_200, 0).strftime("%G %V %U %W %u %w"), "2020 53 00 00 5 5");
        assert_eq!(at(0, 0).strftime("%5d|%_m|%-H|%^b|%#p|%e|%k|%10A|%C"), "00001| 1|0|JAN|am| 1| 0|  Thursday|19");
        assert_eq!(at(0, 0).strftime("%c|%r|%D|%Z%z|%"), "Thu Jan  1 00:00:00 1970|12:00:00 AM|01/01/70||%");
    }
}
