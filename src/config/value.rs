//! One setting's value: its kind, the check it must pass, and the words for what is wrong with it.
//!
//! Kinds, parsing and error texts follow `org.apache.kafka.common.config.ConfigDef`, because admin clients show these texts
//! to people and some match on them.

use std::fmt;
use std::net::IpAddr;

use crate::model::Uuid;

/// The kind of a setting's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    /// Never shown: described as null.
    Password,
}

impl Kind {
    /// The kind's number in DescribeConfigs v3 and later. Source: Kafka, `DescribeConfigsResponse.ConfigType`.
    pub fn wire_code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Password => 9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Password => "PASSWORD",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_ascii_lowercase())
    }
}

/// What a value must be beside its kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Check {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// Between, inclusive, or this one value.
    BetweenOr(i64, i64, i64),
    Real(f64, f64),
    OneOf(&'static [&'static str]),
    /// Each element of a list.
    EachOneOf(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// `HOST:PORT`, or Kafka's `PLAINTEXT://HOST:PORT`.
    Address,
    /// `ADDRESS:COUNT` pairs.
    AddressCounts,
    /// `all`, a count, or a list of CPUs such as `0-3,6`.
    Cores,
    /// 22 characters of base64url.
    Uuid,
}

/// A parsed value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Boolean(bool),
    Number(i64),
    Real(f64),
    Text(String),
    List(Vec<String>),
}

/// Why a text is no value of a setting.
#[derive(Clone, PartialEq, Debug)]
pub enum InvalidValue {
    NotANumber(Kind),
    NotABoolean,
    BelowMinimum(i64),
    AboveMaximum(i64),
    NotBetweenOr(i64, i64, i64),
    RealBelow(f64),
    RealAbove(f64),
    NotOneOf(&'static [&'static str]),
    NotThrottledReplicas { name: &'static str },
    NotAnAddress,
    NotAddressCounts,
    NotCores,
    NotAUuid,
}

impl Value {
    /// The value of `text` for a setting of this name, kind and check. Blanks around it do not count.
    pub fn parse(name: &'static str, kind: Kind, check: Check, text: &str) -> Result<Value, InvalidValue> {
        let text = text.trim();
        let value = match kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Kind::Boolean => return Err(InvalidValue::NotABoolean),
            Kind::String | Kind::Password => Value::Text(text.to_owned()),
            Kind::List if text.is_empty() => Value::List(Vec::new()),
            Kind::List => Value::List(text.split(',').map(|element| element.trim().to_owned()).collect()),
            Kind::Double => Value::Real(
                text.parse()
                    .ok()
                    .filter(|real: &f64| real.is_finite())
                    .ok_or(InvalidValue::NotANumber(kind))?,
            ),
            Kind::Int | Kind::Short | Kind::Long => {
                let (low, high) = kind_range(kind);
                let number = text.parse().ok().filter(|number| (low..=high).contains(number));
                Value::Number(number.ok_or(InvalidValue::NotANumber(kind))?)
            }
        };
        check.apply(name, &value)?;
        Ok(value)
    }

    /// Panics unless the setting's kind is a whole number.
    pub fn number(&self) -> i64 {
        match self {
            Value::Number(number) => *number,
            other => panic!("{other:?} is not a number"),
        }
    }

    /// Panics unless the setting's kind is boolean.
    pub fn boolean(&self) -> bool {
        match self {
            Value::Boolean(boolean) => *boolean,
            other => panic!("{other:?} is not a boolean"),
        }
    }

    /// Panics unless the setting's kind is a floating-point number.
    pub fn real(&self) -> f64 {
        match self {
            Value::Real(real) => *real,
            other => panic!("{other:?} is not a real number"),
        }
    }

    /// Panics unless the setting's kind is text.
    pub fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            other => panic!("{other:?} is not a text"),
        }
    }

    /// Panics unless the setting's kind is a list.
    pub fn list(&self) -> &[String] {
        match self {
            Value::List(list) => list,
            other => panic!("{other:?} is not a list"),
        }
    }
}

fn kind_range(kind: Kind) -> (i64, i64) {
    match kind {
        Kind::Short => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Kind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

/// The canonical text, as DescribeConfigs shows it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(boolean) => write!(f, "{boolean}"),
            Value::Number(number) => write!(f, "{number}"),
            // `{:?}` keeps the decimal point of whole numbers, as Kafka does.
            Value::Real(real) => write!(f, "{real:?}"),
            Value::Text(text) => f.write_str(text),
            Value::List(list) => f.write_str(&list.join(",")),
        }
    }
}

impl Check {
    fn apply(self, name: &'static str, value: &Value) -> Result<(), InvalidValue> {
        match (self, value) {
            (Check::AtLeast(low) | Check::Between(low, _), Value::Number(number)) if *number < low => {
                Err(InvalidValue::BelowMinimum(low))
            }
            (Check::Between(_, high), Value::Number(number)) if *number > high => {
                Err(InvalidValue::AboveMaximum(high))
            }
            (Check::BetweenOr(low, high, other), Value::Number(number))
                if !(low..=high).contains(number) && *number != other =>
            {
                Err(InvalidValue::NotBetweenOr(low, high, other))
            }
            (Check::Real(low, _), Value::Real(real)) if *real < low => Err(InvalidValue::RealBelow(low)),
            (Check::Real(_, high), Value::Real(real)) if *real > high => Err(InvalidValue::RealAbove(high)),
            (Check::OneOf(allowed), Value::Text(text)) if !allowed.contains(&text.as_str()) => {
                Err(InvalidValue::NotOneOf(allowed))
            }
            (Check::EachOneOf(allowed), Value::List(list))
                if !list.iter().all(|e| allowed.contains(&e.as_str())) =>
            {
                Err(InvalidValue::NotOneOf(allowed))
            }
            (Check::ThrottledReplicas, Value::List(list)) if !is_throttled_replicas(list) => {
                Err(InvalidValue::NotThrottledReplicas { name })
            }
            (Check::Address, Value::Text(text)) if Address::parse(text).is_none() => {
                Err(InvalidValue::NotAnAddress)
            }
            (Check::AddressCounts, Value::List(list))
                if !list.iter().all(|e| parse_address_count(e).is_some()) =>
            {
                Err(InvalidValue::NotAddressCounts)
            }
            (Check::Cores, Value::Text(text)) if Cores::parse(text).is_none() => Err(InvalidValue::NotCores),
            (Check::Uuid, Value::Text(text)) if Uuid::parse(text).is_none_or(|id| id.is_zero()) => {
                Err(InvalidValue::NotAUuid)
            }
            _ => Ok(()),
        }
    }

    /// The allowed values in words, for `--help` and the README; empty if any will do.
    pub fn range(self) -> String {
        match self {
            Check::Any => String::new(),
            Check::AtLeast(low) => format!(">= {low}"),
            Check::Between(low, high) => format!("{low} to {high}"),
            Check::BetweenOr(low, high, other) => format!("{low} to {high}, or {other}"),
            Check::Real(low, high) => format!("{low} to {high}"),
            Check::OneOf(allowed) => allowed.join(", "),
            Check::EachOneOf(allowed) => format!("any of {}", allowed.join(", ")),
            Check::ThrottledReplicas => "`*` or `partition:broker,...`".to_owned(),
            Check::Address => "HOST:PORT".to_owned(),
            Check::AddressCounts => "`ADDRESS:COUNT,...`".to_owned(),
            Check::Cores => "`all`, a count, or CPUs such as `0-3,6`".to_owned(),
            Check::Uuid => "22 characters of base64url".to_owned(),
        }
    }
}

fn is_throttled_replicas(list: &[String]) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_pair = |element: &String| {
        element.split_once(':').is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    matches!(list, [star] if star == "*") || list.iter().all(is_pair)
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidValue::NotANumber(kind) => write!(f, "Not a number of type {}", kind.name()),
            InvalidValue::NotABoolean => f.write_str("Expected value to be either true or false"),
            InvalidValue::BelowMinimum(low) => write!(f, "Value must be at least {low}"),
            InvalidValue::AboveMaximum(high) => write!(f, "Value must be no more than {high}"),
            InvalidValue::NotBetweenOr(low, high, other) => {
                write!(f, "Value must be between {low} and {high} or equal to {other}")
            }
            InvalidValue::RealBelow(low) => write!(f, "Value must be at least {low}"),
            InvalidValue::RealAbove(high) => write!(f, "Value must be no more than {high}"),
            InvalidValue::NotOneOf(allowed) => write!(f, "String must be one of: {}", allowed.join(", ")),
            InvalidValue::NotThrottledReplicas { name } => write!(
                f,
                "{name} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            ),
            InvalidValue::NotAnAddress => {
                f.write_str("Expected HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092")
            }
            InvalidValue::NotAddressCounts => f.write_str(
                "Expected IP addresses with a count each, such as 127.0.0.1:20,[::1]:5; host names are not looked up",
            ),
            InvalidValue::NotAUuid => f.write_str("Expected an id of 22 base64url characters"),
            InvalidValue::NotCores => {
                f.write_str("Expected 'all', a count of 1 to 1024, or a list of CPUs such as 0-3,6")
            }
        }
    }
}

impl std::error::Error for InvalidValue {}

/// An IP address, which means the same one in IPv6 too, and a count.
pub fn parse_address_count(text: &str) -> Option<(IpAddr, u32)> {
    let (address, count) = text.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Some((address.parse::<IpAddr>().ok()?.to_canonical(), count.trim().parse().ok()?))
}

/// Where to listen, or what to tell clients: a host name or IP address (IPv6 without its brackets) and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Reads `HOST:PORT`, `[IPV6]:PORT`, and Kafka's `PLAINTEXT://HOST:PORT`. An empty host is all interfaces, as in Kafka.
    pub fn parse(text: &str) -> Option<Address> {
        let text = text.strip_prefix("PLAINTEXT://").unwrap_or(text);
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') || host.contains('/') => return None,
            None => host,
        };
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        Some(Address { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// Whether this means every interface, which is nothing a client could connect to.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How clients reach the cores of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenersMode {
    /// One port, one broker; the mesh finds the core.
    Shared,
    /// Each endpoint is a broker at a port of its own.
    PerCore,
}

impl ListenersMode {
    pub fn parse(text: &str) -> Option<ListenersMode> {
        match text {
            "shared" => Some(ListenersMode::Shared),
            "per-core" => Some(ListenersMode::PerCore),
            _ => None,
        }
    }
}

/// Which CPUs carry shards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// Every CPU the process is allowed.
    All,
    /// This many shards; more than there are CPUs share them.
    Count(u16),
    /// One shard on each of these CPUs, in this order.
    List(Vec<usize>),
}

/// 1024: `ShardId` and the N x N mesh would take more, but no host in sight has more CPUs for one broker.
pub const CORES_MAX: usize = 1024;

impl Cores {
    /// Reads `all`, `4`, `0-3`, `0,2,4-7`. A single number is a count; `3-3` is CPU 3.
    pub fn parse(text: &str) -> Option<Cores> {
        if text == "all" {
            return Some(Cores::All);
        }
        if !text.contains([',', '-']) {
            let count: u16 = text.parse().ok()?;
            return (1..=CORES_MAX).contains(&usize::from(count)).then_some(Cores::Count(count));
        }
        let mut cpus = Vec::new();
        for element in text.split(',') {
            let (first, last) = element.split_once('-').unwrap_or((element, element));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last >= CORES_MAX || (first..=last).any(|cpu| cpus.contains(&cpu)) {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Cores::List(cpus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_error_texts_are_those_of_kafka() {
        let check = |kind, check, text: &str, expected: Result<&str, &str>| {
            let value = Value::parse("some.name", kind, check, text);
            let value = value.as_ref().map(Value::to_string).map_err(InvalidValue::to_string);
            assert_eq!(value, expected.map(str::to_owned).map_err(str::to_owned), "{kind:?} {text:?}");
        };
        check(Kind::Long, Check::Any, "soon", Err("Not a number of type LONG"));
        check(Kind::Long, Check::Any, " 5 ", Ok("5"));
        check(Kind::Long, Check::Any, "+5", Ok("5"));
        check(Kind::Long, Check::Any, "", Err("Not a number of type LONG"));
        check(Kind::Long, Check::Any, "99999999999999999999", Err("Not a number of type LONG"));
        check(Kind::Long, Check::AtLeast(-1), "-2", Err("Value must be at least -1"));
        check(Kind::Int, Check::Any, "9999999999", Err("Not a number of type INT"));
        check(Kind::Short, Check::Any, "32768", Err("Not a number of type SHORT"));
        check(Kind::Int, Check::Between(1, 17), "18", Err("Value must be no more than 17"));
        check(
            Kind::Int,
            Check::BetweenOr(1, 9, -1),
            "0",
            Err("Value must be between 1 and 9 or equal to -1"),
        );
        check(Kind::Int, Check::BetweenOr(1, 9, -1), "-1", Ok("-1"));
        check(Kind::Boolean, Check::Any, "TRUE", Ok("true"));
        check(Kind::Boolean, Check::Any, "yes", Err("Expected value to be either true or false"));
        check(Kind::Double, Check::Real(0.0, 1.0), ".5", Ok("0.5"));
        check(Kind::Double, Check::Real(0.0, 1.0), "1", Ok("1.0"));
        check(Kind::Double, Check::Real(0.0, 1.0), "1.5", Err("Value must be no more than 1"));
        check(Kind::Double, Check::Real(0.0, 1.0), "NaN", Err("Not a number of type DOUBLE"));
        let policies = Check::EachOneOf(&["compact", "delete"]);
        check(Kind::List, policies, " compact , delete ", Ok("compact,delete"));
        check(Kind::List, policies, "", Ok(""));
        check(Kind::List, policies, "foo", Err("String must be one of: compact, delete"));
        check(Kind::List, Check::ThrottledReplicas, "1:2,3:4", Ok("1:2,3:4"));
        check(Kind::List, Check::ThrottledReplicas, "*", Ok("*"));
        assert!(Value::parse("some.name", Kind::List, Check::ThrottledReplicas, "*,1:2").is_err());
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Address::parse(text).map(|a| a.to_string()).as_deref(), expected, "{text}");
        };
        check("127.0.0.1:9092", Some("127.0.0.1:9092"));
        check("PLAINTEXT://broker.example:9092", Some("broker.example:9092"));
        check("PLAINTEXT://:9092", Some("0.0.0.0:9092"));
        check("[::1]:0", Some("[::1]:0"));
        check("::1:9092", None);
        check("SSL://x:9093", None);
        check("localhost", None);
        check("localhost:70000", None);
        assert!(Address::parse("[::]:9092").is_some_and(|a| a.is_wildcard()));
    }

    #[test]
    fn cores() {
        let check = |text: &str, expected: Option<Cores>| assert_eq!(Cores::parse(text), expected, "{text}");
        check("all", Some(Cores::All));
        check("4", Some(Cores::Count(4)));
        check("0", None);
        check("3-3", Some(Cores::List(vec![3])));
        check("0,2,4-6", Some(Cores::List(vec![0, 2, 4, 5, 6])));
        check("0,0", None);
        check("5-3", None);
        check("0-99999999", None);
        check("two", None);
    }
}
