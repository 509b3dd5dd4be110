//! Hash maps without random state, so that a simulated run replays. Keys that a peer can choose belong in a `BTreeMap`.

use rustc_hash::FxBuildHasher;

/// A hash map whose iteration order depends on its contents alone.
#[allow(clippy::disallowed_types, reason = "FxBuildHasher has no random state")]
pub type Map<K, V> = std::collections::HashMap<K, V, FxBuildHasher>;

/// A hash set whose iteration order depends on its contents alone.
#[allow(clippy::disallowed_types, reason = "FxBuildHasher has no random state")]
pub type Set<K> = std::collections::HashSet<K, FxBuildHasher>;
