//! `auto.offset.reset`: where to begin where there is no position.

use std::fmt;
use std::time::Duration;

use crate::client::offsets::OffsetSpec;
use crate::model::Timestamp;

/// What the value of a reset to a time begins with. Source: KIP-1106.
const BY_DURATION: &str = "by_duration";

/// Where a consumer begins where nothing is committed, or its position is not in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// At the first record that is no older than this; at the end if all are.
    ByDuration(Duration),
}

/// Why a text is no value of `auto.offset.reset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidReset {
    Unknown,
    /// `by_duration` without a duration.
    NoDuration,
    /// What follows `by_duration:` is not as ISO 8601 has it.
    NotADuration,
    Negative,
}

impl fmt::Display for InvalidReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidReset::Unknown => "there is earliest, latest, none, and by_duration with a duration",
            InvalidReset::NoDuration => "the duration is missing, as in by_duration:PT1H",
            InvalidReset::NotADuration => {
                "not a duration of ISO 8601, days at most, such as P3D, PT1H30M or PT0.5S"
            }
            InvalidReset::Negative => "the duration is negative, and nobody begins in the future",
        })
    }
}

impl std::error::Error for InvalidReset {}

impl OffsetReset {
    /// `None`: to have none is an error, as `none` says.
    pub fn parse(text: &str) -> Result<Option<OffsetReset>, InvalidReset> {
        match text {
            "earliest" => return Ok(Some(OffsetReset::Earliest)),
            "latest" => return Ok(Some(OffsetReset::Latest)),
            "none" => return Ok(None),
            _ => {}
        }
        match text.strip_prefix(BY_DURATION).ok_or(InvalidReset::Unknown)?.strip_prefix(':') {
            Some(duration) => Ok(Some(OffsetReset::ByDuration(parse_duration(duration)?))),
            None if text == BY_DURATION => Err(InvalidReset::NoDuration),
            None => Err(InvalidReset::Unknown),
        }
    }

    /// The offset to be asked for at the moment `now`.
    pub fn spec(self, now: Timestamp) -> OffsetSpec {
        match self {
            OffsetReset::Earliest => OffsetSpec::Earliest,
            OffsetReset::Latest => OffsetSpec::Latest,
            OffsetReset::ByDuration(age) => {
                OffsetSpec::At(now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
            }
        }
    }
}

/// `PnDTnHnMn.nS`, each part and a sign before each, in any case; a day has 24 hours. Kafka reads it with Java's
/// `Duration.parse`, so the same texts are read here, to the nanosecond.
fn parse_duration(text: &str) -> Result<Duration, InvalidReset> {
    const NANOS: i128 = 1_000_000_000;
    let text = text.to_ascii_uppercase();
    let (is_negated, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let mut rest = text.strip_prefix('P').ok_or(InvalidReset::NotADuration)?;
    let mut nanos: i128 = 0;
    // In this order, each once at most; those after the days behind a T.
    let mut units = [('D', 86_400), ('H', 3_600), ('M', 60), ('S', 1)].iter();
    let (mut has_time, mut has_part) = (false, false);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T').filter(|time| !has_time && !time.is_empty()) {
            (rest, has_time) = (time, true);
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(InvalidReset::NotADuration)?;
        let unit = rest[end..].chars().next();
        let (letter, seconds) =
            units.find(|(letter, _)| Some(*letter) == unit).ok_or(InvalidReset::NotADuration)?;
        if (*letter == 'D') == has_time {
            return Err(InvalidReset::NotADuration);
        }
        nanos = part(&rest[..end], *letter == 'S')
            .and_then(|part| nanos.checked_add(part.checked_mul(*seconds)?))
            .ok_or(InvalidReset::NotADuration)?;
        (rest, has_part) = (&rest[end + 1..], true);
    }
    if !has_part {
        return Err(InvalidReset::NotADuration);
    }
    let nanos = if is_negated { -nanos } else { nanos };
    let nanos = u128::try_from(nanos).map_err(|_negative| InvalidReset::Negative)?;
    let seconds = u64::try_from(nanos / NANOS as u128).map_err(|_too_long| InvalidReset::NotADuration)?;
    Ok(Duration::new(seconds, (nanos % NANOS as u128) as u32))
}

/// Billionths of a number such as `-3` or, with `has_fraction`, `1.5`, which may have up to nine digits behind its point.
fn part(text: &str, has_fraction: bool) -> Option<i128> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = match digits.split_once(['.', ',']) {
        Some(parts) if has_fraction => parts,
        Some(_) => return None,
        None => (digits, ""),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // 15 digits of days are more than there will be, and far from the end of what the sum can hold.
    if whole.is_empty() || whole.len() > 15 || fraction.len() > 9 || !is_number(whole) || !is_number(fraction)
    {
        return None;
    }
    let value: i128 = format!("{whole}{fraction:0<9}").parse().ok()?;
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Result<u128, InvalidReset> {
        match OffsetReset::parse(&format!("by_duration:{text}"))? {
            Some(OffsetReset::ByDuration(age)) => Ok(age.as_millis()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn durations_are_those_that_java_reads() {
        let check = |text, expected| assert_eq!(millis(text), Ok(expected), "{text}");
        check("PT1H", 3_600_000);
        check("P1D", 86_400_000);
        check("P2DT3H4M", 183_840_000);
        check("PT20.345S", 20_345);
        check("PT0,5S", 500);
        check("pt15m", 900_000);
        check("PT0S", 0);
        check("P1DT-6H", 64_800_000);
        check("-PT-6H", 21_600_000);
        check("+PT+1M-1S", 59_000);
    }

    #[test]
    fn what_is_no_duration_is_told_apart() {
        let check = |text: &str, expected| assert_eq!(OffsetReset::parse(text), Err(expected), "{text}");
        check("earlier", InvalidReset::Unknown);
        check("by_durations:PT1H", InvalidReset::Unknown);
        check("", InvalidReset::Unknown);
        check("by_duration", InvalidReset::NoDuration);
        for text in
            ["", "P", "PT", "1H", "PT1", "P1H", "PT1D", "PT1M1H", "PT1H1H", "P1Y", "PT1.5H", "P1DT", "PTT1H"]
        {
            check(&format!("by_duration:{text}"), InvalidReset::NotADuration);
        }
        for text in
            ["PT.5S", "PT1.0000000001S", "PT+-1S", "PT1234567890123456S", "PT1HT1M", "P 1D", "PT1\u{e9}H"]
        {
            check(&format!("by_duration:{text}"), InvalidReset::NotADuration);
        }
        for text in ["PT-1S", "-PT1S", "-P1D", "PT1M-61S"] {
            check(&format!("by_duration:{text}"), InvalidReset::Negative);
        }
    }

    #[test]
    fn a_duration_counts_back_from_now() {
        let by = |text| OffsetReset::parse(text).unwrap().unwrap().spec(10_000_000);
        assert_eq!(by("by_duration:PT1H"), OffsetSpec::At(6_400_000));
        assert_eq!(by("earliest"), OffsetSpec::Earliest);
        assert_eq!(by("latest"), OffsetSpec::Latest);
        assert_eq!(OffsetReset::parse("none"), Ok(None));
    }
}
