//! The borrowed rooms that a handler may touch, for the time of one request. No I/O: what needs the ring is left as
//! work for the loop's later phases (`jobs`, the partitions' dirty list, the connections' send list).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::controller_seat::ControllerSeat;
use super::fetch_session::FetchSessions;
use super::frame_out::Frames;
use super::group_seat::GroupSeat;
use super::handlers::{fetch, produce};
use super::pending::{Origin, PendingTable, Waiting};
use super::stats::ServerStats;
use crate::config::Config;
use crate::log::Now;
use crate::mesh::{Mesh, Message, Relay, RelayAnswer, Ticket};
use crate::metadata::Image;
use crate::metrics::{StageClock, Timed};
use crate::model::{Endpoint, Monotonic, PartitionIndex, ShardId, Timestamp};
use crate::net::{ConnectionId, Connections, Response, Sequence};
use crate::partition::PartitionSet;
use crate::protocol::ApiKey;
use crate::reactor::{Files, Io, Job, Timers};
use crate::trace;

/// A word-sized generator for ids, seeded once from the reactor.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a timer of the server does when it fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerTimer {
    /// The long poll or the produce wait of this request is over.
    Pending(Ticket),
}

/// Who finishes a job that a handler asked for.
pub enum JobFor {
    /// The job's result is the body of the reply, as `Bytes`.
    Reply { ticket: Ticket },
    /// The result is what a partition of `__consumer_offsets` holds, for the coordinator that it has moved to.
    Groups { partition: PartitionIndex },
}

/// Memory of requests that were answered, for those to come.
#[derive(Default)]
pub struct Scratch {
    pub(super) frames: Frames,
    pub(super) produce: produce::Scratch,
    pub(super) fetch: fetch::Scratch,
}

/// The rooms of a shard as a handler sees them.
pub struct Context<'a> {
    pub shard: ShardId,
    /// Read once for a connection's input, a message, or the events of a round.
    pub now: Monotonic,
    pub wall: Timestamp,
    /// For [`Context::stage_end`] alone; `None` if stages are not timed.
    pub clock: Option<&'a dyn Io>,
    pub config: &'a Arc<Config>,
    pub image: &'a Arc<Image>,
    pub connections: &'a mut Connections,
    pub partitions: &'a mut PartitionSet,
    pub pending: &'a mut PendingTable,
    pub sessions: &'a mut FetchSessions,
    pub groups: &'a mut GroupSeat,
    /// On shard 0 only.
    pub controller: Option<&'a mut ControllerSeat>,
    pub mesh: &'a mut dyn Mesh,
    pub timers: &'a mut Timers<ServerTimer>,
    pub random: &'a mut Random,
    pub jobs: &'a mut Vec<(JobFor, Job)>,
    pub stats: &'a mut ServerStats,
    pub scratch: &'a mut Scratch,
}

/// A request body on the shard that serves it. Its answer goes to `ticket`, now or later.
pub struct Asked<'a> {
    pub ticket: Ticket,
    pub api_key: ApiKey,
    pub version: i16,
    pub client_id: Option<Arc<str>>,
    pub client_host: IpAddr,
    /// Where the client came in, as its connection knows it.
    pub endpoint: Option<Endpoint>,
    pub body: &'a [u8],
}

impl Origin {
    /// What is known of every request's time.
    pub fn timed(&self) -> Timed {
        Timed {
            api_key: self.api_key.key(),
            api_version: self.version,
            correlation_id: self.correlation_id,
            class: None,
            clock: StageClock::start(self.received),
            partition: None,
        }
    }
}

impl Context<'_> {
    pub fn both_clocks(&self) -> Now {
        Now { monotonic: self.now, wall: self.wall }
    }

    /// Registers a request that waits for answers, until `deadline` if it has one, and gives it its ticket.
    pub fn park(&mut self, origin: Origin, waiting: Waiting, deadline: Option<Monotonic>) -> Ticket {
        let ticket = self.pending.insert(origin, waiting);
        if let Some(deadline) = deadline {
            self.pending.set_timer(ticket, self.timers.insert(deadline, ServerTimer::Pending(ticket)));
        }
        if let Some(connection) = self.connections.get_mut(origin.connection) {
            connection.pending.push(ticket);
        }
        ticket
    }

    /// Takes a parked request out, to answer it.
    pub fn unpark(&mut self, ticket: Ticket) -> Option<(Origin, Waiting)> {
        let (origin, waiting, timer) = self.pending.remove(ticket)?;
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        if let Some(connection) = self.connections.get_mut(origin.connection)
            && let Some(place) = connection.pending.iter().position(|other| *other == ticket)
        {
            connection.pending.swap_remove(place);
        }
        Some((origin, waiting))
    }

    /// Sends a request body to the shard that serves it; served at once if that is this one.
    pub fn relay(&mut self, to: ShardId, relay: Relay) {
        if to == self.shard {
            let asked = Asked {
                ticket: relay.ticket,
                api_key: relay.api_key,
                version: relay.version,
                client_id: relay.client_id,
                client_host: relay.client_host,
                endpoint: relay.endpoint,
                body: &relay.body,
            };
            super::serve(self, &asked);
        } else {
            self.mesh.send(to, Message::Relay(Box::new(relay)));
        }
    }

    /// Answers a relayed request with its encoded body; `None` closes the connection it came from.
    pub fn answer(&mut self, ticket: Ticket, body: Option<Bytes>) {
        if ticket.shard == self.shard {
            super::relay_answered(self, ticket, body);
        } else {
            let from = self.shard;
            self.mesh.send(ticket.shard, Message::RelayAnswer(Box::new(RelayAnswer { ticket, from, body })));
        }
    }

    /// Answers a relayed request with the body that `work` makes on the helper thread, where it may block.
    pub fn answer_from_job(
        &mut self,
        ticket: Ticket,
        work: impl FnOnce(&mut dyn Files) -> Bytes + Send + 'static,
    ) {
        self.jobs.push((JobFor::Reply { ticket }, Box::new(move |files| Box::new(work(files)))));
    }

    /// The time at which a stage of a request ends.
    pub fn stage_end(&self) -> Monotonic {
        self.clock.map_or(self.now, |io| io.now())
    }

    /// Puts a reply in its place among those of its connection. How long it took is not told.
    pub fn respond(&mut self, connection: ConnectionId, sequence: Sequence, response: Response) {
        self.connections.respond(connection, sequence, response, None);
    }

    /// As `respond`, and has the request timed as a whole.
    pub fn reply(&mut self, origin: &Origin, response: Response) {
        self.reply_timed(origin, response, origin.timed());
    }

    /// As `respond`, with the times of the request so far; the last stage ends when the reply leaves.
    pub fn reply_timed(&mut self, origin: &Origin, response: Response, timed: Timed) {
        let about =
            [origin.api_key.key() as u64, u64::from(origin.connection.slot), origin.correlation_id as u64];
        trace::event(self.now, "server: reply (api, connection, correlation)", about);
        let timed = if self.clock.is_some() { timed } else { origin.timed() };
        self.connections.respond(origin.connection, origin.sequence, response, Some(timed));
    }
}
