//! Settings of topics, brokers and groups, on the brokers' side.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::client::error::ClientError;
use crate::model::NodeId;
use crate::protocol::ApiKey;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::asking::{Target, anything, for_all};
use super::{Admin, Each};

/// What has settings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigResource {
    Topic(Arc<str>),
    Broker(NodeId),
    /// What brokers have that say nothing of their own.
    AllBrokers,
    Group(Arc<str>),
}

impl ConfigResource {
    pub fn topic(name: impl Into<Arc<str>>) -> ConfigResource {
        ConfigResource::Topic(name.into())
    }

    /// Source: Apache Kafka, `ConfigResource.Type`.
    fn kind(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) | ConfigResource::AllBrokers => 4,
            ConfigResource::Group(_) => 32,
        }
    }

    fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) | ConfigResource::Group(name) => name.to_string(),
            ConfigResource::Broker(id) => id.to_string(),
            ConfigResource::AllBrokers => String::new(),
        }
    }

    fn parse(kind: i8, name: &str) -> Option<ConfigResource> {
        match (kind, name) {
            (2, name) => Some(ConfigResource::Topic(name.into())),
            (4, "") => Some(ConfigResource::AllBrokers),
            (4, id) => id.parse().ok().map(|id| ConfigResource::Broker(NodeId(id))),
            (32, name) => Some(ConfigResource::Group(name.into())),
            _ => None,
        }
    }

    /// A broker alone knows what its own file says.
    fn node(&self) -> Option<NodeId> {
        match self {
            ConfigResource::Broker(id) => Some(*id),
            ConfigResource::Topic(_) | ConfigResource::AllBrokers | ConfigResource::Group(_) => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::AllBrokers => f.write_str("all brokers"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// A setting with its value and where that comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    pub name: String,
    /// `None`: not set, or not to be shown.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub is_read_only: bool,
    pub is_sensitive: bool,
    pub kind: ConfigType,
    /// Where the value could come from, what counts first.
    pub synonyms: Vec<ConfigSynonym>,
    /// `None` where the broker is too old to tell.
    pub documentation: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// Where a value comes from. Source of the numbers: Apache Kafka, `DescribeConfigsResponse.ConfigSource`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    Topic,
    DynamicBroker,
    DynamicAllBrokers,
    /// The broker's file or command line.
    StaticBroker,
    Default,
    DynamicBrokerLogger,
    ClientMetrics,
    Group,
    Unknown(i8),
}

impl ConfigSource {
    fn from_wire(code: i8) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicAllBrokers,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            6 => ConfigSource::DynamicBrokerLogger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            other => ConfigSource::Unknown(other),
        }
    }
}

impl fmt::Display for ConfigSource {
    /// Kafka's names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::DynamicAllBrokers => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
            ConfigSource::Unknown(_) => "UNKNOWN",
        })
    }
}

/// The type of a value. Source of the numbers: Apache Kafka, `DescribeConfigsResponse.ConfigType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigType {
    Unknown,
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    fn from_wire(code: i8) -> ConfigType {
        match code {
            1 => ConfigType::Boolean,
            2 => ConfigType::String,
            3 => ConfigType::Int,
            4 => ConfigType::Short,
            5 => ConfigType::Long,
            6 => ConfigType::Double,
            7 => ConfigType::List,
            8 => ConfigType::Class,
            9 => ConfigType::Password,
            _ => ConfigType::Unknown,
        }
    }
}

/// What is done to one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    Set {
        name: String,
        value: String,
    },
    /// Back to what it is by default.
    Delete {
        name: String,
    },
    /// Adds to a list.
    Append {
        name: String,
        value: String,
    },
    /// Takes out of a list.
    Subtract {
        name: String,
        value: String,
    },
}

impl ConfigChange {
    pub fn set(name: impl Into<String>, value: impl ToString) -> ConfigChange {
        ConfigChange::Set { name: name.into(), value: value.to_string() }
    }

    pub fn delete(name: impl Into<String>) -> ConfigChange {
        ConfigChange::Delete { name: name.into() }
    }

    /// Source of the numbers: Apache Kafka, `AlterConfigOp.OpType`.
    fn on_the_wire(&self) -> AlterableConfig<'_> {
        let (name, config_operation, value) = match self {
            ConfigChange::Set { name, value } => (name, 0, Some(value.as_str())),
            ConfigChange::Delete { name } => (name, 1, None),
            ConfigChange::Append { name, value } => (name, 2, Some(value.as_str())),
            ConfigChange::Subtract { name, value } => (name, 3, Some(value.as_str())),
        };
        AlterableConfig { name, config_operation, value }
    }
}

impl Admin {
    /// All settings of each resource, by name, with what they mean.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let api = ApiKey::DescribeConfigs;
        let asked = resources.iter().map(|resource| (resource, &()));
        of_each(api, asked, async |target, resources| {
            let compose = |version| DescribeConfigsRequest {
                resources: resources
                    .iter()
                    .map(|(resource, name, ())| DescribeConfigsResource {
                        resource_type: resource.kind(),
                        resource_name: name,
                        configuration_keys: None,
                    })
                    .collect(),
                include_synonyms: true,
                include_documentation: version >= 3,
            };
            let answer = self.ask(target, i16::MAX, compose, anything).await?;
            let response: DescribeConfigsResponse<'_> = answer.decode()?;
            let told = response.results.iter().filter_map(|told| {
                let resource = ConfigResource::parse(told.resource_type, &told.resource_name)?;
                let message = told.error_message.as_deref();
                let checked = ClientError::check(api, resource.to_string(), told.error_code, message);
                let mut entries: Vec<ConfigEntry> = told.configs.iter().map(entry).collect();
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                Some((resource, checked.map(|()| entries)))
            });
            Ok(told.collect())
        })
        .await
    }

    /// Changes single settings; others stay. All changes of one resource are made, or none.
    pub async fn alter_configs(
        &self,
        changes: &BTreeMap<ConfigResource, Vec<ConfigChange>>,
    ) -> Result<Each<ConfigResource, ()>, ClientError> {
        self.change_configs(changes, false).await
    }

    /// Says whether the changes could be made; makes none.
    pub async fn validate_configs(
        &self,
        changes: &BTreeMap<ConfigResource, Vec<ConfigChange>>,
    ) -> Result<Each<ConfigResource, ()>, ClientError> {
        self.change_configs(changes, true).await
    }

    async fn change_configs(
        &self,
        changes: &BTreeMap<ConfigResource, Vec<ConfigChange>>,
        validate_only: bool,
    ) -> Result<Each<ConfigResource, ()>, ClientError> {
        let api = ApiKey::IncrementalAlterConfigs;
        of_each(api, changes, async |target, resources| {
            let compose = |_version| IncrementalAlterConfigsRequest {
                resources: resources
                    .iter()
                    .map(|(resource, name, changes)| AlterConfigsResource {
                        resource_type: resource.kind(),
                        resource_name: name,
                        configs: changes.iter().map(ConfigChange::on_the_wire).collect(),
                    })
                    .collect(),
                validate_only,
            };
            let answer = self.ask(target, i16::MAX, compose, anything).await?;
            let response: IncrementalAlterConfigsResponse<'_> = answer.decode()?;
            let told = response.responses.iter().filter_map(|told| {
                let resource = ConfigResource::parse(told.resource_type, &told.resource_name)?;
                let message = told.error_message.as_deref();
                let checked = ClientError::check(api, resource.to_string(), told.error_code, message);
                Some((resource, checked))
            });
            Ok(told.collect())
        })
        .await
    }
}

/// A resource with its name on the wire, and what is asked of it.
type Asked<'c, T> = (&'c ConfigResource, String, &'c T);

/// Asks about resources whoever knows of them, once for all of one broker's. A broker that cannot be asked is the error of
/// its own resources; where any would do, it is the error of the call.
async fn of_each<'c, T: 'c, R>(
    api: ApiKey,
    resources: impl IntoIterator<Item = (&'c ConfigResource, &'c T)>,
    ask: impl AsyncFn(Target<'static>, &[Asked<'c, T>]) -> Result<Each<ConfigResource, R>, ClientError>,
) -> Result<Each<ConfigResource, R>, ClientError> {
    let mut by_node: BTreeMap<Option<NodeId>, Vec<Asked<'c, T>>> = BTreeMap::new();
    for (resource, what) in resources {
        by_node.entry(resource.node()).or_default().push((resource, resource.name(), what));
    }
    let mut each = Each::new();
    for (node, resources) in by_node {
        let asked = resources.iter().map(|(resource, ..)| (*resource).clone());
        match (ask(node.map_or(Target::Any, Target::Node), &resources).await, node) {
            (Ok(told), _) => {
                let asked = asked.map(|resource| (resource.clone(), resource.to_string()));
                each.extend(for_all(api, told, asked));
            }
            (Err(error), Some(_)) => each.extend(asked.map(|resource| (resource, Err(error.clone())))),
            (Err(error), None) => return Err(error),
        }
    }
    Ok(each)
}

fn entry(told: DescribeConfigsResourceResult<'_>) -> ConfigEntry {
    let owned = |text: crate::protocol::Str<'_>| text.as_str().to_owned();
    let synonyms = told.synonyms.iter().map(|synonym| ConfigSynonym {
        name: owned(synonym.name),
        value: synonym.value.map(owned),
        source: ConfigSource::from_wire(synonym.source),
    });
    ConfigEntry {
        synonyms: synonyms.collect(),
        name: owned(told.name),
        value: told.value.map(owned),
        source: ConfigSource::from_wire(told.config_source),
        is_read_only: told.read_only,
        is_sensitive: told.is_sensitive,
        kind: ConfigType::from_wire(told.config_type),
        documentation: told.documentation.map(owned).filter(|text| !text.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_survive_the_wire() {
        for resource in [
            ConfigResource::topic("orders"),
            ConfigResource::Broker(NodeId(3)),
            ConfigResource::AllBrokers,
            ConfigResource::Group("g".into()),
        ] {
            let parsed = ConfigResource::parse(resource.kind(), &resource.name());
            assert_eq!(parsed.as_ref(), Some(&resource));
        }
        assert_eq!(ConfigResource::parse(4, "x"), None);
        assert_eq!(ConfigResource::parse(9, "x"), None);
    }
}
