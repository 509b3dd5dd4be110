//! Produce and fetch orders on the shard that owns their partitions: which parts have answered.

use crate::buffer::Spares;
use crate::mesh::{FetchAnswer, FetchPartAnswer, ProduceAnswer, ProducePartAnswer, Ticket};
use crate::metrics::{AppendTimes, Class, Source};
use crate::model::{Monotonic, ShardId};
use crate::protocol::ErrorCode;

use super::set::AppendEnd;

/// A table of orders whose parts are answered one by one, in any order.
struct Table<A, E> {
    slots: Vec<Order<A, E>>,
    free: Vec<u32>,
    /// Lists of answers that were read, for orders to come.
    spares: Spares<A>,
}

struct Order<A, E> {
    ticket: Ticket,
    remaining: usize,
    /// In the order in which they came; each has its number in the request.
    answers: Vec<A>,
    /// The request's number of each part that waits, by part.
    waiting: Vec<(u32, u32)>,
    extra: E,
}

impl<A, E: Copy + Default> Table<A, E> {
    fn new() -> Table<A, E> {
        Table { slots: Vec::new(), free: Vec::new(), spares: Spares::new() }
    }

    fn open(&mut self, ticket: Ticket, parts: usize) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            let (answers, waiting, extra) = (Vec::new(), Vec::new(), E::default());
            self.slots.push(Order { ticket, remaining: 0, answers, waiting, extra });
            (self.slots.len() - 1) as u32
        });
        let order = &mut self.slots[index as usize];
        assert!(order.remaining == 0 && order.answers.is_empty(), "an order is open until it is answered");
        (order.ticket, order.remaining, order.extra) = (ticket, parts, E::default());
        order.answers = self.spares.take();
        order.waiting.clear();
        index
    }

    fn get(&mut self, order: u32) -> &mut Order<A, E> {
        &mut self.slots[order as usize]
    }

    /// True: that was the last part.
    fn fill(&mut self, order: u32, answer: A) -> bool {
        let order = self.get(order);
        assert!(order.remaining > 0, "an order has more answers than parts");
        order.answers.push(answer);
        order.remaining -= 1;
        order.remaining == 0
    }

    /// Ticket, answers and what else is known of an order all of whose parts are answered.
    fn take_finished(&mut self, index: u32) -> Option<(Ticket, Vec<A>, E)> {
        let order = self.get(index);
        if order.remaining > 0 {
            return None;
        }
        let finished = (order.ticket, std::mem::take(&mut order.answers), order.extra);
        order.waiting.shrink_to(WAITING_KEPT);
        self.free.push(index);
        Some(finished)
    }

    fn open_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Numbers of waiting parts that an order's slot keeps room for.
const WAITING_KEPT: usize = 64;

/// What is known of a produce order beside its answers.
#[derive(Clone, Copy, Default)]
struct ProduceExtra {
    times: AppendTimes,
    last: Option<(Class, u32)>,
}

/// Produce orders.
pub struct ProduceOrders {
    table: Table<ProducePartAnswer, ProduceExtra>,
}

impl Default for ProduceOrders {
    fn default() -> ProduceOrders {
        ProduceOrders { table: Table::new() }
    }
}

impl ProduceOrders {
    /// `taken`: when the order came out of the mailbox.
    pub fn open(&mut self, ticket: Ticket, parts: usize, taken: Monotonic) -> u32 {
        let order = self.table.open(ticket, parts);
        self.table.get(order).extra.times.taken = taken;
        order
    }

    /// All parts that need not wait for room are in their logs.
    pub fn note_appended(&mut self, order: u32, at: Monotonic) {
        self.table.get(order).extra.times.appended = at;
    }

    /// Remembers the request's number of a part that waits. Order: of the parts.
    pub fn set_slot(&mut self, order: u32, part: u32, slot: u32) {
        let slots = &mut self.table.get(order).waiting;
        assert!(slots.last().is_none_or(|(last, _)| *last < part), "part {part} comes late");
        slots.push((part, slot));
    }

    pub fn fill(&mut self, order: u32, answer: ProducePartAnswer) {
        self.table.fill(order, answer);
    }

    /// Answers a part that waited; its slot number is the one it was parked with. `ended`: unless it failed.
    pub fn fill_waiting(
        &mut self,
        order: u32,
        part: u32,
        answer: ProducePartAnswer,
        ended: Option<&AppendEnd>,
    ) {
        let open = self.table.get(order);
        // An order may have a part for each of a thousand partitions.
        let place = open.waiting.binary_search_by_key(&part, |(part, _)| *part);
        let slot = open.waiting[place.expect("a waiting part has its slot")].1;
        if let Some(ended) = ended {
            open.extra.times.ended(&ended.times);
            open.extra.last = Some((ended.class, slot));
        }
        self.table.fill(order, ProducePartAnswer { slot, ..answer });
    }

    /// The answer of shard `from`, once all parts have one, to be sent at `sent`.
    pub fn take_finished(&mut self, order: u32, from: ShardId, sent: Monotonic) -> Option<ProduceAnswer> {
        let (ticket, parts, extra) = self.table.take_finished(order)?;
        Some(ProduceAnswer { ticket, from, parts, times: extra.times, last: extra.last, sent })
    }

    /// Takes back the list of an answer that was read.
    pub fn give_back(&self, parts: Vec<ProducePartAnswer>) {
        self.table.spares.keep(parts);
    }

    pub fn open_count(&self) -> usize {
        self.table.open_count()
    }
}

/// What is known of a fetch order beside its answers.
#[derive(Clone, Copy, Default)]
struct FetchExtra {
    /// Watches were left.
    watched: bool,
    is_of_session: bool,
    taken: Monotonic,
    read: Monotonic,
    source: Source,
}

/// Fetch orders.
pub struct FetchReads {
    table: Table<FetchPartAnswer, FetchExtra>,
}

impl Default for FetchReads {
    fn default() -> FetchReads {
        FetchReads { table: Table::new() }
    }
}

impl FetchReads {
    /// `taken`: when the order came out of the mailbox.
    pub fn open(&mut self, ticket: Ticket, parts: usize, is_of_session: bool, taken: Monotonic) -> u32 {
        let reading = self.table.open(ticket, parts);
        let extra = &mut self.table.get(reading).extra;
        (extra.is_of_session, extra.taken) = (is_of_session, taken);
        reading
    }

    /// True: that was the last part.
    pub fn fill(&mut self, reading: u32, answer: FetchPartAnswer) -> bool {
        let extra = &mut self.table.get(reading).extra;
        let source = if answer.record_bytes > 0 { Source::Memory } else { Source::Nowhere };
        extra.source = extra.source.max(source);
        self.table.fill(reading, answer)
    }

    /// A part is read from the disk.
    pub fn note_disk(&mut self, reading: u32) {
        self.table.get(reading).extra.source = Source::Disk;
    }

    /// Everything that was in memory is there, or the last read from the disk has ended.
    pub fn note_read(&mut self, reading: u32, at: Monotonic) {
        self.table.get(reading).extra.read = at;
    }

    pub fn has_error(&mut self, reading: u32) -> bool {
        let answers = &self.table.get(reading).answers;
        answers.iter().any(|answer| answer.error != ErrorCode::None || answer.diverging.is_some())
    }

    pub fn note_watched(&mut self, reading: u32) {
        self.table.get(reading).extra.watched = true;
    }

    /// The answer of shard `from`, once all parts have one, to be sent at `sent`.
    pub fn take_finished(&mut self, reading: u32, from: ShardId, sent: Monotonic) -> Option<FetchAnswer> {
        let (ticket, parts, extra) = self.table.take_finished(reading)?;
        let FetchExtra { watched, is_of_session, taken, read, source } = extra;
        Some(FetchAnswer { ticket, from, watched, is_of_session, parts, taken, read, source, sent })
    }

    /// Takes back the list of an answer that was read.
    pub fn give_back(&self, parts: Vec<FetchPartAnswer>) {
        self.table.spares.keep(parts);
    }
}
