//! Where to begin to read: a name, an offset, a moment.

use std::fmt;

use crate::model::{Offset, Timestamp};

/// `--from`, and `--to` of a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    Begin,
    End,
    Offset(Offset),
    /// So many records before the end of each partition.
    Last(i64),
    /// The first record at this moment or after it.
    Timestamp(Timestamp),
}

/// The text is none of the forms. clap puts the option and its value before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BeginError;

impl fmt::Display for BeginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "write begin, end, an offset (42), a count before the end (-10), or a moment (2026-01-31T12:00:00Z, @1769860800000 in ms)",
        )
    }
}

impl std::error::Error for BeginError {}

impl Begin {
    pub fn parse(text: &str) -> Result<Begin, BeginError> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0).ok_or(BeginError);
        match text {
            "begin" => Ok(Begin::Begin),
            "end" => Ok(Begin::End),
            _ if text.starts_with('@') => number(&text[1..]).map(Begin::Timestamp),
            _ if text.starts_with('-') => number(&text[1..]).map(Begin::Last),
            _ if text.contains('T') => parse_moment(text).map(Begin::Timestamp).ok_or(BeginError),
            _ => number(text).map(Begin::Offset),
        }
    }
}

/// Milliseconds of `2026-01-31T12:00:00[.123](Z|+01:00)`. Source: RFC 3339; the days: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn parse_moment(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    let (time, zone_minutes) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (hours, minutes) = time[at + 1..].split_once(':')?;
            let minutes = digits(hours, 2, 23)? * 60 + digits(minutes, 2, 59)?;
            (&time[..at], if time[at..].starts_with('-') { -minutes } else { minutes })
        }
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (digits(parts.next()?, 4, 9999)?, digits(parts.next()?, 2, 12)?, digits(parts.next()?, 2, 31)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 31,
    };
    if month == 0 || day == 0 || day > days_of_month {
        return None;
    }
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let mut parts = time.splitn(3, ':');
    let (hour, minute, second) =
        (digits(parts.next()?, 2, 23)?, digits(parts.next()?, 2, 59)?, digits(parts.next()?, 2, 59)?);
    // Years begin in March here, so that the leap day is the last.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute - zone_minutes) * 60 + second) * 1000 + millis)
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize, most: i64) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        let check =
            |text: &str, expected: Option<Begin>| assert_eq!(Begin::parse(text).ok(), expected, "{text}");
        check("begin", Some(Begin::Begin));
        check("end", Some(Begin::End));
        check("0", Some(Begin::Offset(0)));
        check("-3", Some(Begin::Last(3)));
        check("@1769860800000", Some(Begin::Timestamp(1_769_860_800_000)));
        check("1970-01-01T00:00:00Z", Some(Begin::Timestamp(0)));
        check("2026-01-31T12:00:00Z", Some(Begin::Timestamp(1_769_860_800_000)));
        check("2026-01-31T13:00:00.5+01:00", Some(Begin::Timestamp(1_769_860_800_500)));
        check("2024-02-29T00:00:00Z", Some(Begin::Timestamp(1_709_164_800_000)));
        for wrong in [
            "",
            "start",
            "1.5",
            "--1",
            "2023-02-29T00:00:00Z",
            "2026-01-31T12:00:00",
            "2026-1-31T12:00:00Z",
            "T",
            "@x",
        ] {
            check(wrong, None);
        }
    }
}
