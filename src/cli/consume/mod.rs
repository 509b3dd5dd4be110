//! `corelog consume`: records as lines, up to the end of the topic or on and on.
//!
//! *Invariant*: in a group, an offset is committed only after the lines before it were written out, so a record that nobody
//! saw is read again; and what was written out of a partition is committed before another member gets it, so it is not shown
//! twice, unless the group went on without this member.

mod begin;
mod format;
mod printed;
mod silence;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::arguments::Consume;
use super::remote::{self, End, Interrupts, RemoteError, tell};
use crate::client::admin::OffsetSpec;
use crate::client::error::Waited;
use crate::client::settings::{CLIENT, CONSUMER};
use crate::client::time::Instant;
use crate::client::{
    Abortable, Admin, ClientError, Consumer, ConsumerRecord, ConsumerSettings, Retriable, TopicPartition,
};
use crate::model::Offset;
use crate::protocol::ErrorCode;

use printed::Printed;
use silence::Silence;

pub use begin::{Begin, BeginError};
pub use format::{Format, FormatError};

/// How long a poll may wait: as long as an end that others moved may go unnoticed.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Between commits of a group's offsets, as Kafka's `auto.commit.interval.ms`.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// For each of the last commit and the leave.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// The first ends the reading.
const INTERRUPTS_HEARD: u32 = 1;

/// Runs the command, which prints by itself.
pub fn run(options: &Consume) -> Result<End, RemoteError> {
    remote::run(consume(options))
}

async fn consume(options: &Consume) -> Result<End, RemoteError> {
    let settings = settings(options)?;
    let isolation = settings.isolation;
    let admin = options.remote.admin(None).await?;
    let partitions = partitions(&admin, options).await?;
    // The end as of now: without --follow it is enough to have come here.
    let ends = remote::offsets(&admin, partitions.clone(), OffsetSpec::Latest, isolation).await?;
    let interrupts = Interrupts::watch(INTERRUPTS_HEARD)?;
    let printed = Printed::default();
    let mut consumer = Consumer::builder(settings.clone()).listener(printed.clone()).build()?;
    if settings.group_id.is_some() {
        consumer.subscribe([options.topic.as_str()])?;
    } else {
        consumer.assign(partitions.iter().cloned())?;
        let begins = match options.from {
            Some(Begin::Offset(_) | Begin::Last(_)) => {
                remote::offsets(&admin, partitions.clone(), OffsetSpec::Earliest, isolation).await?
            }
            _ => BTreeMap::new(),
        };
        for partition in &partitions {
            seek(&consumer, partition, options.from, &begins, &ends)?;
        }
    }
    let patience = Some(settings.api_timeout).filter(|_| !options.follow);
    let silence = Silence::new(admin, &options.topic, patience);
    let mut reading = Reading { options, settings, ends, count: 0, printed, silence, out: Vec::new() };
    let read = tokio::select! {
        read = reading.all(&mut consumer) => read,
        () = interrupts.reached(1) => Ok(()),
    };
    // Also behind a broken pipe: what was written out before it is done with.
    let committed = tokio::time::timeout(CLOSE_PATIENCE, reading.printed.commit(&consumer)).await;
    let closed = consumer.close(CLOSE_PATIENCE).await;
    read?;
    committed.unwrap_or_else(|_elapsed| {
        Err(Retriable::TimedOut { what: Waited::Api, after: CLOSE_PATIENCE, last: None }.into())
    })?;
    closed?;
    Ok(if interrupts.count() > 0 { End::Interrupted } else { End::Done })
}

fn settings(options: &Consume) -> Result<ConsumerSettings, RemoteError> {
    let mut pairs = options.remote.pairs(&[CLIENT, CONSUMER], options.settings())?;
    const RESET: &str = "auto.offset.reset";
    if !pairs.iter().any(|(name, _)| name == RESET) {
        // Whoever looks at a topic wants to see what is there, which Kafka's default (latest) hides.
        pairs.push((RESET.to_owned(), "earliest".to_owned()));
    }
    let settings = ConsumerSettings::from_pairs(pairs)?;
    // With --group the command line has refused it; a group may come from the file as well.
    if let Some(group) = &settings.group_id
        && let Some(option) = options.only_without_group()
    {
        return Err(RemoteError::NotInGroup { group: group.clone(), option });
    }
    Ok(settings)
}

/// Those to be read.
async fn partitions(admin: &Admin, options: &Consume) -> Result<Vec<TopicPartition>, RemoteError> {
    let topic = remote::topic(admin, &options.topic).await?;
    let count = topic.partitions.len();
    if let Some(partition) = options.partition
        && partition as usize >= count
    {
        return Err(RemoteError::NoSuchPartition { topic: options.topic.clone(), partition, count });
    }
    let indexes = topic.partitions.iter().map(|partition| partition.index);
    let wanted = indexes.filter(|index| options.partition.is_none_or(|only| only == *index));
    Ok(wanted.map(|index| TopicPartition::new(topic.name.clone(), index)).collect())
}

/// An offset outside of what the partition has becomes the nearest that it has, as a group's reset does it.
fn seek(
    consumer: &Consumer,
    partition: &TopicPartition,
    from: Option<Begin>,
    begins: &BTreeMap<TopicPartition, Offset>,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> Result<(), RemoteError> {
    let end = ends.get(partition).copied().unwrap_or(0);
    let begin = begins.get(partition).copied().unwrap_or(0).min(end);
    match from {
        None | Some(Begin::Begin) => consumer.seek_to_begin(partition)?,
        Some(Begin::End) => consumer.seek(partition, end)?,
        Some(Begin::Offset(offset)) => consumer.seek(partition, offset.clamp(begin, end))?,
        Some(Begin::Last(count)) => consumer.seek(partition, end.saturating_sub(count).clamp(begin, end))?,
        Some(Begin::Timestamp(moment)) => consumer.seek_to_timestamp(partition, moment)?,
    }
    Ok(())
}

struct Reading<'a> {
    options: &'a Consume,
    settings: ConsumerSettings,
    /// As of the start.
    ends: BTreeMap<TopicPartition, Offset>,
    /// Records that were printed.
    count: u64,
    /// Empty without a group.
    printed: Printed,
    silence: Silence,
    out: Vec<u8>,
}

impl Reading<'_> {
    async fn all(&mut self, consumer: &mut Consumer) -> Result<(), RemoteError> {
        let in_group = self.settings.group_id.is_some();
        let mut next_commit = Instant::now() + COMMIT_INTERVAL;
        while !self.is_full() && (self.options.follow || !self.is_at_end(consumer)) {
            let records = consumer.poll(POLL_WAIT).await?;
            if records.is_empty() {
                self.silence.goes_on().await?;
            } else {
                self.print(&records)?;
                self.silence.ends();
            }
            if in_group && Instant::now() >= next_commit {
                match self.printed.commit(consumer).await {
                    Err(error) if !is_passing(&error) => return Err(error.into()),
                    _ => next_commit = Instant::now() + COMMIT_INTERVAL,
                }
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.options.max.is_some_and(|max| self.count >= max)
    }

    /// Whether every partition that is read here has come to where its end was.
    fn is_at_end(&self, consumer: &Consumer) -> bool {
        let assigned = consumer.assignment();
        if assigned.is_empty() {
            // A cooperative group takes partitions from others first: they hear of it with a heartbeat, and give them up.
            let has_no_share = self.printed.is_settled_for(self.settings.heartbeat_interval * 2);
            if has_no_share && self.count == 0 {
                tell("other members of the group have all partitions; --follow waits for one");
            }
            return has_no_share;
        }
        assigned.iter().all(|partition| {
            let end = self.ends.get(partition).copied().unwrap_or(0);
            consumer.position(partition).is_some_and(|position| position >= end)
        })
    }

    fn print(&mut self, records: &[ConsumerRecord]) -> Result<(), RemoteError> {
        let left = self.options.max.map_or(u64::MAX, |max| max - self.count);
        let records = &records[..records.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.out.clear();
        for record in records {
            self.options.format().write(record, &mut self.out);
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&self.out).and_then(|()| stdout.flush()).map_err(RemoteError::Print)?;
        self.count += records.len() as u64;
        if self.settings.group_id.is_some() {
            self.printed.note(records);
        }
        Ok(())
    }
}

/// Whether the next commit may do what this one did not: the coordinator is away, or the group shares anew, and then what
/// is not committed is when its partitions go, or was lost with them.
fn is_passing(error: &ClientError) -> bool {
    error.is_retriable()
        || error.error_code() == Some(ErrorCode::RebalanceInProgress)
        || matches!(error, ClientError::Abortable(Abortable::NotAMember { .. }))
}
