//! IncrementalAlterConfigs and AlterConfigs: request in, records or a refusal out. A resource changes as a whole or not at all.
//!
//! The order of the checks is Kafka's: the request's shape, the values, then whether the resource is there.
//! Source: Apache Kafka, `ConfigAdminManager` and `ConfigurationControlManager`, observed on 4.3.1.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ControllerError;
use super::topics::{Decision, check_length, check_name};
use crate::config::{
    BrokerConfigError, Kind, Levels, ListOperation, Overrides, TopicConfigError, change_list,
    check_dynamic_broker_setting, check_topic_settings, setting, topic_setting,
};
use crate::metadata::{ConfigRecord, ConfigResource, Image, Record};
use crate::model::BrokerId;

/// Whose configs. An empty broker name means all brokers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigTarget<'a> {
    Topic(&'a str),
    Broker(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigOperation {
    Set,
    /// Back to the default.
    Delete,
    Append,
    Subtract,
}

/// One key of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigChange<'a> {
    pub name: &'a str,
    pub operation: ConfigOperation,
    /// Not looked at for `Delete`.
    pub value: Option<&'a str>,
}

/// One resource of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigAlteration<'a> {
    pub target: ConfigTarget<'a>,
    pub changes: Vec<ConfigChange<'a>>,
}

/// Decides about each resource of an IncrementalAlterConfigs request, in order. `explicit` is what the configuration file
/// sets: a list that a topic does not have itself is appended to as it stands there.
pub fn alter_configs(
    image: &Image,
    alterations: &[ConfigAlteration<'_>],
    explicit: &Overrides,
) -> Decision<Result<(), ControllerError>> {
    decide(image, alterations, |resource, alteration| resource.incremented(alteration, explicit))
}

/// Decides about each resource of an AlterConfigs request, in order: what a resource is not given, it loses.
pub fn replace_configs(
    image: &Image,
    alterations: &[ConfigAlteration<'_>],
) -> Decision<Result<(), ControllerError>> {
    decide(image, alterations, |resource, alteration| {
        let mut after = BTreeMap::new();
        for change in &alteration.changes {
            let value = change.value.expect("checked with the shape");
            after.insert(resource.canonical(change.name)?, value.to_owned());
        }
        Ok(after)
    })
}

/// A resource with what is set on it now.
struct Resource<'i> {
    image: &'i Image,
    is_topic: bool,
    current: Overrides,
}

fn decide(
    image: &Image,
    alterations: &[ConfigAlteration<'_>],
    change: impl Fn(&Resource<'_>, &ConfigAlteration<'_>) -> Result<Overrides, ControllerError>,
) -> Decision<Result<(), ControllerError>> {
    let mut times: BTreeMap<ConfigTarget<'_>, usize> = BTreeMap::new();
    alterations.iter().for_each(|alteration| *times.entry(alteration.target).or_default() += 1);
    let mut decision = Decision { records: Vec::new(), results: Vec::new() };
    for alteration in alterations {
        let records = if times[&alteration.target] > 1 {
            Err(ControllerError::DuplicateResource)
        } else {
            decide_one(image, alteration, &change)
        };
        decision.results.push(records.map(|records| decision.records.extend(records)));
    }
    decision
}

fn decide_one(
    image: &Image,
    alteration: &ConfigAlteration<'_>,
    change: impl Fn(&Resource<'_>, &ConfigAlteration<'_>) -> Result<Overrides, ControllerError>,
) -> Result<Vec<Record>, ControllerError> {
    check_shape(alteration)?;
    match alteration.target {
        ConfigTarget::Topic("") => Err(ControllerError::NoDefaultTopicConfigs),
        ConfigTarget::Topic(name) => {
            check_name(name)?;
            let topic = image.topic(name);
            let current = topic.map(|topic| (*topic.configs).clone()).unwrap_or_default();
            let resource = Resource { image, is_topic: true, current };
            let after = change(&resource, alteration)?;
            for (name, value) in &after {
                check_length(name, value)?;
            }
            check_topic_settings(&after)?;
            let topic = topic.ok_or_else(|| ControllerError::UnknownTopic { name: name.to_owned() })?;
            Ok(difference(ConfigResource::Topic(topic.id), &resource.current, &after))
        }
        ConfigTarget::Broker(name) => {
            let (target, current) = broker_resource(image, name)?;
            let resource = Resource { image, is_topic: false, current };
            let after = change(&resource, alteration)?;
            for (name, value) in &after {
                check_length(name, value)?;
                check_dynamic_broker_setting(name, value)?;
            }
            Ok(difference(target, &resource.current, &after))
        }
    }
}

/// What is wrong with a resource's part of the request whatever the resource is.
fn check_shape(alteration: &ConfigAlteration<'_>) -> Result<(), ControllerError> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> =
        alteration.changes.iter().map(|change| change.name).filter(|name| !seen.insert(*name)).collect();
    if !twice.is_empty() {
        return Err(ControllerError::DuplicateConfigs {
            names: twice.into_iter().map(str::to_owned).collect(),
        });
    }
    let nulls =
        alteration.changes.iter().filter(|c| c.operation != ConfigOperation::Delete && c.value.is_none());
    let names: Vec<String> = nulls.map(|change| change.name.to_owned()).collect();
    if names.is_empty() { Ok(()) } else { Err(ControllerError::NullConfigs { names }) }
}

/// Broker settings are changed at the broker they are for; those for all brokers, anywhere.
fn broker_resource(image: &Image, name: &str) -> Result<(ConfigResource, Overrides), ControllerError> {
    if name.is_empty() {
        return Ok((ConfigResource::AllBrokers, (**image.default_broker_configs()).clone()));
    }
    check_own_broker(image, name)?;
    let node = image.local.node;
    Ok((ConfigResource::Broker(node), (*image.broker_configs(node)).clone()))
}

/// Checks that a broker's settings are asked of the broker they are for.
pub fn check_own_broker(image: &Image, name: &str) -> Result<(), ControllerError> {
    let bad = |_: std::num::ParseIntError| ControllerError::BadBrokerId { found: name.to_owned() };
    let id = BrokerId(name.parse().map_err(bad)?);
    let expected = image.own_id(None);
    if id == expected {
        Ok(())
    } else {
        Err(ControllerError::OtherBroker { expected, found: name.to_owned() })
    }
}

fn difference(resource: ConfigResource, before: &Overrides, after: &Overrides) -> Vec<Record> {
    let record = |name: &str, value: Option<&String>| {
        Record::Config(ConfigRecord { resource, name: name.to_owned(), value: value.cloned() })
    };
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    changed
        .map(|(name, value)| record(name, Some(value)))
        .chain(removed.map(|name| record(name, None)))
        .collect()
}

impl Resource<'_> {
    /// The name that a setting is kept under. Settings of brokers can have aliases.
    fn canonical(&self, name: &str) -> Result<String, ControllerError> {
        if self.is_topic {
            return Ok(name.to_owned());
        }
        let setting = setting(name).ok_or_else(|| BrokerConfigError::Unknown { name: name.to_owned() })?;
        if !setting.reloadable {
            return Err(BrokerConfigError::ReadOnly { name: setting.name }.into());
        }
        Ok(setting.name.to_owned())
    }

    fn incremented(
        &self,
        alteration: &ConfigAlteration<'_>,
        explicit: &Overrides,
    ) -> Result<Overrides, ControllerError> {
        let mut after = self.current.clone();
        for change in &alteration.changes {
            let name = self.canonical(change.name)?;
            match change.operation {
                ConfigOperation::Set => {
                    after.insert(name, change.value.expect("checked with the shape").to_owned());
                }
                ConfigOperation::Delete => {
                    after.remove(&name);
                }
                ConfigOperation::Append | ConfigOperation::Subtract => {
                    let list = self.changed_list(&name, change, explicit)?;
                    after.insert(name, list);
                }
            }
        }
        Ok(after)
    }

    fn changed_list(
        &self,
        name: &str,
        change: &ConfigChange<'_>,
        explicit: &Overrides,
    ) -> Result<String, ControllerError> {
        let operation = match change.operation {
            ConfigOperation::Append => ListOperation::Append,
            _ => ListOperation::Subtract,
        };
        let operand = change.value.expect("checked with the shape");
        // Which topic setting a broker setting is the default of: lists are the same on both.
        let key =
            if self.is_topic { Some(name) } else { setting(name).and_then(|setting| setting.topic_setting) };
        let found = key.and_then(topic_setting).filter(|setting| setting.kind == Kind::List);
        let Some(found) = found else {
            let name = name.to_owned();
            return Err(match self.is_topic {
                true => TopicConfigError::NotAList { name, operation }.into(),
                false => ControllerError::NotAList { name },
            });
        };
        let current = self.current.get(name).cloned().unwrap_or_else(|| {
            let (none, broker) = (Overrides::new(), self.image.broker_configs(self.image.local.node));
            let cluster = self.image.default_broker_configs();
            let levels = Levels { topic: &none, broker: &broker, cluster, explicit };
            levels.effective(found).0.list().join(",")
        });
        Ok(change_list(found.name, operation, &current, operand)?)
    }
}

#[cfg(test)]
mod tests;
