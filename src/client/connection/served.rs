//! What a broker serves, as it told in ApiVersions.

use crate::protocol::ApiKey;
use crate::protocol::messages::api_versions::ApiVersionsResponse;

/// APIs with the versions that a broker serves, and the features that its cluster has turned on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// By key: first and last version.
    ranges: Vec<(i16, i16, i16)>,
    /// By name: the level of each finalized feature.
    features: Vec<(String, i16)>,
}

impl Served {
    /// What may be asked before the broker told.
    pub(super) fn before_asking() -> Served {
        let versions = ApiKey::ApiVersions.versions();
        Served {
            ranges: vec![(ApiKey::ApiVersions.key(), *versions.start(), *versions.end())],
            features: Vec::new(),
        }
    }

    pub(super) fn of(response: &ApiVersionsResponse<'_>) -> Served {
        let mut ranges: Vec<(i16, i16, i16)> =
            response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        ranges.sort_unstable();
        let features = response.finalized_features.iter();
        Served {
            ranges,
            features: features.map(|f| (f.name.as_str().to_owned(), f.max_version_level)).collect(),
        }
    }

    /// The newest version up to `newest` that the broker and our codec both know.
    pub fn version(&self, api: ApiKey, newest: i16) -> Option<i16> {
        let at = self.ranges.binary_search_by_key(&api.key(), |(key, ..)| *key).ok()?;
        let (_, first, last) = self.ranges[at];
        let ours = api.versions();
        let version = last.min(*ours.end()).min(newest);
        (version >= first.max(*ours.start())).then_some(version)
    }

    /// The level of a finalized feature; 0 if the cluster has it not.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.iter().find(|(known, _)| known == name).map_or(0, |(_, level)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::api_versions::ApiVersion;

    #[test]
    fn the_newest_common_version_is_taken() {
        let served = |first, last| {
            let api = ApiVersion { api_key: ApiKey::ListGroups.key(), min_version: first, max_version: last };
            Served::of(&ApiVersionsResponse { api_keys: vec![api].into(), ..Default::default() })
        };
        let check = |first, last, newest, expected| {
            assert_eq!(served(first, last).version(ApiKey::ListGroups, newest), expected, "{first}..={last}");
        };
        check(0, 3, i16::MAX, Some(3));
        check(0, 99, i16::MAX, Some(5));
        check(0, 99, 2, Some(2));
        check(3, 99, 2, None);
        check(98, 99, i16::MAX, None);
        assert_eq!(served(0, 3).version(ApiKey::Fetch, i16::MAX), None);
        // We do not decode Produce below 3, whatever a broker says it serves.
        let api = ApiVersion { api_key: 0, min_version: 0, max_version: 2 };
        let old = Served::of(&ApiVersionsResponse { api_keys: vec![api].into(), ..Default::default() });
        assert_eq!(old.version(ApiKey::Produce, i16::MAX), None);
    }
}
