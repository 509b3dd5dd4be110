//! Stops a node at every point of a trace, in many ways at each, starts it again and looks whether its promises hold.
//!
//! A trace ([`trace`]) plays once, without faults, and keeps the machine as it was between any two changes of its disk. Each
//! of these points is then tried: a kill, and power losses that keep nothing, everything, and what chance picks of the
//! sectors and names that were not synced. What a point must not lose is what clients knew just before the next point.
//! Checked after recovery, on the files alone and partly over the protocol:
//!
//! - what was acknowledged or read is there (fsync: after any crash; else: after a kill, and after a clean stop);
//! - offsets are dense, records are those of the trace at these offsets: the log is a prefix of what was written;
//! - nothing below a recovery point is missing, and recovery refuses nothing as damaged: no point holds damage;
//! - the log start is at least what was acknowledged and at most what was asked for;
//! - indexes, time indexes and epochs agree with the segments;
//! - a power loss right after recovery and a second recovery change nothing; nor does a crash *inside* recovery lose anything;
//! - served records are those on disk, and the next append gets the next offset.

mod promises;
mod trace;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use corelog::config::{self, Config};
use corelog::reactor::sim::{
    CrashKind, Delay, SimDisk, SimMoment, SimOptions, SimRandom, SimWorld, Survivors, Turn,
};

use self::promises::{History, Promise, Promises};
use self::trace::{Point, Trace};
use self::view::{LogView, View};
use crate::node::{self, Node};

/// Enough to see what is wrong.
const VIOLATIONS_MAX: usize = 20;

/// What is explored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashPoints {
    pub seed: u64,
    /// Operations of clients in the trace.
    pub operations: u64,
    /// Crashes tried at each point.
    pub subsets: u64,
    /// `log.write.path` of the node.
    pub path: String,
    /// One point in so many: a sample.
    pub every: usize,
    /// Only this point, to look at it closely.
    pub point: Option<usize>,
}

/// What was explored, and what was found.
#[derive(Default)]
pub struct Exploration {
    pub operations: BTreeMap<&'static str, u64>,
    pub points: u64,
    pub states: u64,
    /// States after which the disk was not as if everything had survived.
    pub lossy_states: u64,
    /// Disks that differ: each is recovered once.
    pub recoveries: u64,
    /// Recoveries crashed inside and done again.
    pub nested: u64,
    /// Points by what had just happened, and by what was in flight.
    pub after: BTreeMap<&'static str, u64>,
    pub in_flight: BTreeMap<&'static str, u64>,
    pub acknowledged: u64,
    /// Promised ends, over all states and partitions, that were held against a recovered log.
    pub promises: u64,
    pub violations: Vec<String>,
}

impl Exploration {
    /// Too little happened for the run to prove anything.
    pub fn is_idle(&self) -> Option<&'static str> {
        let must_happen =
            ["append", "delete records", "switch", "topic deleted and made again", "clean stop and start"];
        if self.acknowledged == 0 || self.promises == 0 {
            return Some("nothing was acknowledged");
        }
        if self.lossy_states == 0 {
            return Some("nothing unsynced was ever lost");
        }
        if self.operations.values().sum::<u64>() >= 500
            && must_happen.iter().any(|name| !self.operations.contains_key(name))
        {
            return Some("a kind of operation never happened");
        }
        None
    }
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, title: &str, counts: &BTreeMap<&str, u64>| {
            let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(f, "  {title}: {}", counts.join(", "))
        };
        writeln!(
            f,
            "{} points, {} states ({} lost something), {} recoveries of different disks, {} crashed inside and done again",
            self.points, self.states, self.lossy_states, self.recoveries, self.nested
        )?;
        writeln!(f, "  {} batches acknowledged, {} promises compared", self.acknowledged, self.promises)?;
        list(f, "operations", &self.operations)?;
        list(f, "points after", &self.after)?;
        list(f, "in flight at points", &self.in_flight)?;
        for violation in &self.violations {
            writeln!(f, "  VIOLATION {violation}")?;
        }
        write!(f, "  {} violations", self.violations.len())
    }
}

/// What recovery made of one disk.
struct Recovered {
    view: View,
    nested: Vec<Nested>,
}

/// A crash inside a recovery, and what the next one made of it.
struct Nested {
    kind: CrashKind,
    after: &'static str,
    view: View,
}

struct Explorer {
    options: SimOptions,
    config: Arc<Config>,
    history: History,
    known: BTreeMap<u64, Recovered>,
    found: Exploration,
}

fn is_setting(text: &str) -> bool {
    config::parse_set(text).is_ok_and(|written| config::parse(None, &[written]).is_ok())
}

/// Write paths that this build knows.
pub fn paths() -> Vec<&'static str> {
    ["auto", "journal", "direct", "page-cache"]
        .into_iter()
        .filter(|path| is_setting(&format!("log.write.path={path}")))
        .collect()
}

/// Plays the trace and tries every point of it. Errors: what was asked for is not there.
pub fn explore(asked: &CrashPoints) -> Result<Exploration, String> {
    let mut settings = vec![format!("log.write.path={}", asked.path)];
    if !is_setting(&settings[0]) {
        return Err(format!("there is no write path {}; known: {}", asked.path, paths().join(", ")));
    }
    let wanted = [
        "log.flush.offset.checkpoint.interval.ms=20",
        "log.retention.check.interval.ms=50",
        "message.timestamp.after.max.ms=9223372036854775807",
        "log.retention.ms=-1",
        // Small: laps end, groups bypass.
        "journal.bypass.bytes=4096",
        "journal.size=262144",
    ];
    settings.extend(wanted.into_iter().filter(|text| is_setting(text)).map(str::to_owned));
    let config = node::config(&settings);
    let options = SimOptions {
        shard_count: 1,
        // An answer is known as soon as it is sent: what it promises holds from then on.
        network: Delay { first: Duration::ZERO, last: Duration::ZERO },
        written_once: node::WRITTEN_ONCE,
        ..SimOptions::default()
    };
    let Trace { points, history, operations, .. } =
        Trace::play(asked.seed, options, &config, paths(), asked.operations);
    let mut explorer = Explorer {
        options,
        config,
        history,
        known: BTreeMap::new(),
        found: Exploration { operations, ..Exploration::default() },
    };
    explorer.found.acknowledged = explorer.history.acknowledged;
    explorer.found.violations.append(&mut explorer.history.violations);
    let mut promises = Promises::default();
    let mut applied = 0;
    for (number, point) in points.iter().enumerate() {
        for event in &explorer.history.events[applied..point.events] {
            promises.apply(*event);
        }
        applied = point.events;
        let is_wanted = asked.point.map_or(number.is_multiple_of(asked.every), |wanted| wanted == number);
        if is_wanted {
            explorer.try_point(number, point, &promises, asked);
        }
        if explorer.found.violations.len() >= VIOLATIONS_MAX {
            break;
        }
    }
    Ok(explorer.found)
}

/// How the `subset`th crash at a point happens.
fn crash_of(subset: u64) -> (CrashKind, Survivors) {
    match subset {
        0 => (CrashKind::PowerLoss, Survivors::Nothing),
        1 => (CrashKind::PowerLoss, Survivors::Everything),
        2 => (CrashKind::ProcessKill, Survivors::Everything),
        _ if subset.is_multiple_of(8) => (CrashKind::ProcessKill, Survivors::Drawn),
        _ => (CrashKind::PowerLoss, Survivors::Drawn),
    }
}

impl Explorer {
    fn try_point(&mut self, number: usize, point: &Point, promises: &Promises, asked: &CrashPoints) {
        self.found.points += 1;
        *self.found.after.entry(point.moment.after).or_default() += 1;
        for name in &point.moment.in_flight {
            *self.found.in_flight.entry(name).or_default() += 1;
        }
        let whole = point.moment.crash(CrashKind::PowerLoss, Survivors::Everything, 0).content_hash();
        for subset in 0..asked.subsets {
            let (kind, survivors) = crash_of(subset);
            let seed = asked.seed ^ (number as u64) << 20 ^ subset;
            let disk = point.moment.crash(kind, survivors, seed);
            let hash = disk.content_hash();
            self.found.states += 1;
            let is_kill = kind == CrashKind::ProcessKill;
            self.found.lossy_states += u64::from(!is_kill && hash != whole);
            if !self.known.contains_key(&hash) {
                let recovered = self.recover(disk, hash);
                self.known.insert(hash, recovered);
            }
            let recovered = &self.known[&hash];
            let mut wrong = Vec::new();
            let mut compared = 0;
            let at = format!("point {number} after {}, {kind:?} {subset}", point.moment.after);
            for what in check(&recovered.view, promises, is_kill, &self.history, &mut compared) {
                wrong.push(format!("{at}: {what}"));
            }
            for Nested { kind, after, view } in &recovered.nested {
                let is_kill = is_kill && *kind == CrashKind::ProcessKill;
                for what in check(view, promises, is_kill, &self.history, &mut compared) {
                    wrong.push(format!("{at}, then {kind:?} in recovery after {after}: {what}"));
                }
            }
            self.found.promises += compared;
            self.found.violations.extend(wrong);
            if self.found.violations.len() >= VIOLATIONS_MAX {
                return;
            }
        }
    }

    /// Starts a node on a disk and looks at what it made of it. Some of them further: crashed inside, recovered twice, served.
    fn recover(&mut self, disk: SimDisk, hash: u64) -> Recovered {
        self.found.recoveries += 1;
        let world = SimWorld::on(hash, self.options, disk);
        let is_nested = hash.is_multiple_of(4);
        if is_nested {
            world.keep_moments();
        }
        let (mut view, node) = self.start_and_look(&world);
        let mut nested = Vec::new();
        if node.is_some() && hash % 4 == 1 {
            // Power goes before anybody has synced anything: what recovery gave must be durable, and there is nothing left to do.
            let again = self.look_after(&world.moment(), CrashKind::PowerLoss, Survivors::Nothing, hash);
            if again != view {
                let what = self.difference(&view, &again);
                view.violations.push(format!("a power loss after recovery changes {what}"));
            }
        }
        if let Some(node) = node
            && hash % 16 == 2
        {
            // A clean stop leaves every file complete, and nothing else changed.
            match stop(&world, node) {
                true => {
                    let stopped = view::look(&world, &self.history, &BTreeMap::new(), true);
                    if stopped != view {
                        let what = self.difference(&view, &stopped);
                        view.violations.push(format!("a clean stop after recovery changes {what}"));
                    }
                }
                false => view.violations.push("a clean stop does not end".to_owned()),
            }
        }
        if is_nested {
            let moments = world.take_moments();
            let mut random = SimRandom::new(hash, 301);
            for _ in 0..moments.len().min(2) {
                let moment = &moments[random.below(moments.len() as u64) as usize];
                self.found.nested += 1;
                let kind = if random.below(4) == 0 { CrashKind::ProcessKill } else { CrashKind::PowerLoss };
                let view = self.look_after(moment, kind, Survivors::Drawn, random.word());
                nested.push(Nested { kind, after: moment.after, view });
            }
        }
        Recovered { view, nested }
    }

    fn difference(&self, before: &View, after: &View) -> String {
        let changed = before.logs.iter().filter(|(place, log)| after.logs.get(place) != Some(log));
        let changed = changed.map(|(place, log)| {
            format!("{} from {log:?} to {:?}", self.history.name(place), after.logs.get(place))
        });
        let changed: Vec<String> = changed.chain(after.violations.iter().cloned()).collect();
        changed.join("; ")
    }

    fn look_after(&self, moment: &SimMoment, kind: CrashKind, survivors: Survivors, seed: u64) -> View {
        let world = SimWorld::on(seed, self.options, moment.crash(kind, survivors, seed));
        self.start_and_look(&world).0
    }

    fn start_and_look(&self, world: &SimWorld) -> (View, Option<Node>) {
        let points = view::recovery_points(world);
        let started = catch_unwind(AssertUnwindSafe(|| Node::start(world, &self.config, 1, 1)));
        let error = match started {
            Ok(Ok(node)) => return (view::look(world, &self.history, &points, false), Some(node)),
            Ok(Err(error)) => error,
            Err(panic) => match panic.downcast_ref::<String>() {
                Some(text) => format!("panic: {text}"),
                None => "panic".to_owned(),
            },
        };
        (View { violations: vec![format!("the node does not start: {error}")], ..View::default() }, None)
    }
}

/// Runs a node to its clean stop.
fn stop(world: &SimWorld, mut node: Node) -> bool {
    let until = world.now() + Duration::from_secs(60);
    // First it has to serve: its registration is a record of its own.
    let mut is_stopping = false;
    while !node.has_stopped() {
        match world.next_turn(until) {
            Turn::Shard(shard) => node.turn(shard),
            Turn::Client(_) => {}
            Turn::Crashed => return false,
            Turn::Idle if is_stopping => return false,
            Turn::Idle => {}
        }
        if !is_stopping {
            is_stopping = true;
            node.stop();
        }
    }
    true
}

/// Holds a recovered disk against what was promised.
fn check(
    view: &View,
    promises: &Promises,
    is_kill: bool,
    history: &History,
    compared: &mut u64,
) -> Vec<String> {
    let mut wrong = view.violations.clone();
    if view.logs.is_empty() && !wrong.is_empty() {
        return wrong;
    }
    for (place, promise) in &promises.places {
        if !history.records.contains_key(place) {
            continue;
        }
        let Promise { killed_end, power_end, start_asked, start_told } = *promise;
        let Some(LogView { start, end, .. }) = view.logs.get(place) else {
            wrong.push(format!("{} is gone", history.name(place)));
            continue;
        };
        let name = history.name(place);
        let promised = if is_kill { killed_end } else { power_end };
        *compared += u64::from(promised > 0);
        // What was deleted need not be there: an empty log may start anywhere behind.
        if *end < promised {
            wrong.push(format!("{name} ends at {end} and was promised up to {promised}"));
        }
        if *start > start_asked {
            wrong.push(format!("{name} starts at {start}, asked was {start_asked} at most"));
        }
        if *start < start_told {
            wrong.push(format!("{name} starts at {start} and was said to start at {start_told}"));
        }
    }
    wrong
}
