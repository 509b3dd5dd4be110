//! Values of options: from text, with what is wrong with it.

use std::fmt;

use crate::cli::consume::Begin;
use crate::config::{self, Address};

pub(super) fn parse_address(text: &str) -> Result<Address, config::InvalidValue> {
    Address::parse(text).ok_or(config::InvalidValue::NotAnAddress)
}

pub(super) fn parse_bootstrap(text: &str) -> Result<String, config::InvalidValue> {
    let is_address = |address: &str| Address::parse(address.trim()).is_some();
    text.split(',').all(is_address).then(|| text.to_owned()).ok_or(config::InvalidValue::NotAnAddress)
}

/// What is wrong with an option's value. clap puts the option and the value before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slip {
    NotKeyValue,
    NoSeparator,
    NoRate,
    NotOneOffset,
}

impl fmt::Display for Slip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slip::NotKeyValue => "not of the form NAME=VALUE; write origin=shop",
            Slip::NoSeparator => "a separator has at least one letter; write : or \\t",
            Slip::NotOneOffset => {
                "a group goes to begin, end, an offset or a moment; --shift-by moves it by a count"
            }
            Slip::NoRate => "not a number above zero; write 100 or 0.5",
        })
    }
}

impl std::error::Error for Slip {}

pub(super) fn parse_pair(text: &str) -> Result<(String, String), Slip> {
    let (name, value) = text.split_once('=').ok_or(Slip::NotKeyValue)?;
    let name = name.trim();
    if name.is_empty() { Err(Slip::NotKeyValue) } else { Ok((name.to_owned(), value.to_owned())) }
}

pub(super) fn parse_reset(text: &str) -> Result<Begin, Slip> {
    Begin::parse(text).ok().filter(|begin| !matches!(begin, Begin::Last(_))).ok_or(Slip::NotOneOffset)
}

/// `\t` is a tab, which shells make hard to type.
pub(super) fn parse_separator(text: &str) -> Result<String, Slip> {
    let text = text.replace("\\t", "\t");
    if text.is_empty() { Err(Slip::NoSeparator) } else { Ok(text) }
}

pub(super) fn parse_rate(text: &str) -> Result<f64, Slip> {
    // Up to what a duration can hold.
    text.parse().ok().filter(|rate: &f64| (1e-6..=1e9).contains(rate)).ok_or(Slip::NoRate)
}

/// Checks the name and, as far as the table knows, the value, so that a slip does not travel to the broker.
pub(super) fn parse_topic_setting(text: &str) -> Result<(String, String), SettingSlip> {
    let (name, value) = text.split_once('=').ok_or(SettingSlip::NotKeyValue)?;
    let name = parse_topic_setting_name(name)?;
    config::check_topic_setting(&name, Some(value)).map_err(SettingSlip::Refused)?;
    Ok((name, value.to_owned()))
}

pub(super) fn parse_topic_setting_name(name: &str) -> Result<String, SettingSlip> {
    match config::topic_setting(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(SettingSlip::Unknown { nearest: config::nearest_topic_setting(name) }),
    }
}

/// What is wrong with a topic setting on the command line. clap puts the option and its value before it.
#[derive(Debug)]
pub(super) enum SettingSlip {
    NotKeyValue,
    Unknown { nearest: Option<&'static str> },
    Refused(config::TopicConfigError),
}

impl fmt::Display for SettingSlip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingSlip::NotKeyValue => f.write_str("not of the form KEY=VALUE; write retention.ms=3600000"),
            SettingSlip::Unknown { nearest: Some(nearest) } => {
                write!(f, "no such topic setting; did you mean `{nearest}`?")
            }
            SettingSlip::Unknown { nearest: None } => {
                f.write_str("no such topic setting; the README lists them")
            }
            SettingSlip::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SettingSlip {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SettingSlip::Refused(error) => Some(error),
            _ => None,
        }
    }
}
