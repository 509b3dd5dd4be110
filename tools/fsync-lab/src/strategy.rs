//! What is measured: a way of writing and of making it durable.

use std::fmt;
use std::str::FromStr;

/// Through the page cache or past it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cache {
    PageCache,
    Direct,
}

/// What the file holds where the next commit goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// Nothing: the write moves the end of the file.
    Extending,
    /// Reserved blocks that were never written; the write converts them.
    Fallocated,
    /// Written blocks: the write changes no metadata but times.
    Zeroed,
}

/// How a write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sync {
    /// It does not; for scale.
    None,
    /// pwrite(2), then fdatasync(2), by one thread for each commit in flight.
    Syscall,
    /// A write through the ring; its completion submits the fdatasync.
    Ring,
    /// Both submitted at once, linked.
    Linked,
    /// One write with RWF_DSYNC.
    RwfDsync,
    /// One write to a file opened with O_DSYNC.
    ODsync,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Strategy {
    /// Each commit goes to one of the files and is made durable there.
    PerFile { cache: Cache, space: Space, sync: Sync },
    /// All that waits goes as one write into a shared journal; the files get theirs later, unsynced.
    Journal,
}

pub const CACHES: [Cache; 2] = [Cache::PageCache, Cache::Direct];
pub const SPACES: [Space; 3] = [Space::Extending, Space::Fallocated, Space::Zeroed];
pub const SYNCS: [Sync; 6] =
    [Sync::None, Sync::Syscall, Sync::Ring, Sync::Linked, Sync::RwfDsync, Sync::ODsync];

impl Cache {
    pub fn name(self) -> &'static str {
        match self {
            Cache::PageCache => "page-cache",
            Cache::Direct => "direct",
        }
    }
}

impl Space {
    pub fn name(self) -> &'static str {
        match self {
            Space::Extending => "extending",
            Space::Fallocated => "fallocated",
            Space::Zeroed => "zeroed",
        }
    }
}

impl Sync {
    pub fn name(self) -> &'static str {
        match self {
            Sync::None => "none",
            Sync::Syscall => "syscall",
            Sync::Ring => "ring",
            Sync::Linked => "linked",
            Sync::RwfDsync => "rwf-dsync",
            Sync::ODsync => "o-dsync",
        }
    }
}

impl Strategy {
    pub const fn of(cache: Cache, space: Space, sync: Sync) -> Strategy {
        Strategy::PerFile { cache, space, sync }
    }

    /// All of them, the journal last.
    pub fn all() -> Vec<Strategy> {
        let per_file = CACHES.into_iter().flat_map(|cache| {
            SPACES.into_iter().flat_map(move |space| {
                SYNCS.into_iter().map(move |sync| Strategy::PerFile { cache, space, sync })
            })
        });
        per_file.chain([Strategy::Journal]).collect()
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::PerFile { cache, space, sync } => {
                write!(f, "{}/{}/{}", cache.name(), space.name(), sync.name())
            }
            Strategy::Journal => f.write_str("journal"),
        }
    }
}

/// Not a strategy's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownStrategy;

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no such strategy; write journal or CACHE/SPACE/SYNC with CACHE page-cache|direct, \
             SPACE extending|fallocated|zeroed, SYNC none|syscall|ring|linked|rwf-dsync|o-dsync",
        )
    }
}

impl std::error::Error for UnknownStrategy {}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Strategy, UnknownStrategy> {
        Strategy::all().into_iter().find(|strategy| strategy.to_string() == text).ok_or(UnknownStrategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_is_found_by_its_name() {
        let all = Strategy::all();
        assert_eq!(all.len(), 37);
        for strategy in all {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert_eq!("direct/zeroed".parse::<Strategy>(), Err(UnknownStrategy));
    }
}
