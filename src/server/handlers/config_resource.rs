//! Things that have settings, as the wire names them. Source of the numbers: Apache Kafka, `ConfigResource.Type`.

use crate::controller::ControllerError;
use crate::metadata::Image;
use crate::model::{BrokerId, Endpoint};

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// This broker's settings: those of the node, which its endpoints share, under the name of any of them.
pub struct OwnSettings {
    node: String,
    /// As clients know it that have come in where this one has.
    id: BrokerId,
}

impl OwnSettings {
    pub fn new(image: &Image, endpoint: Option<Endpoint>) -> OwnSettings {
        OwnSettings { node: image.local.node.to_string(), id: image.own_id(endpoint) }
    }

    /// The name that the controller knows a broker's settings by. One that is not ours stays as it is.
    pub fn kept_under<'a>(&'a self, name: &'a str) -> &'a str {
        if name.parse() == Ok(self.id.0) { &self.node } else { name }
    }

    /// The refusal of settings of another broker, in terms of the ids that the client knows.
    pub fn in_its_terms(&self, error: ControllerError) -> ControllerError {
        match error {
            ControllerError::OtherBroker { found, .. } => {
                ControllerError::OtherBroker { expected: self.id, found }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::handlers::fixture::image;

    #[test]
    fn endpoints_share_the_settings_of_their_node() {
        let image = image(&[]);
        let check = |endpoint: Option<u16>, name, expected: &str| {
            let own = OwnSettings::new(&image, endpoint.map(Endpoint));
            assert_eq!(own.kept_under(name), expected, "{name} at {endpoint:?}");
        };
        check(None, "1", "1");
        check(None, "1000", "1000");
        check(Some(1), "1001", "1");
        check(Some(1), "1", "1");
        check(Some(1), "1000", "1000");
        check(Some(1), "", "");
    }
}
