//! What one step of the coordinator may use beside the group it is about, and what it wants written.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::GroupLimits;
use super::error::GroupError;
use super::message::{
    CommittedOffset, Effect, GroupId, JoinRefused, Joined, MemberId, Protocol, ReplyToken, Response, Synced,
};
use super::timers::{Timer, Timers};
use crate::model::{Monotonic, PartitionIndex, Timestamp, TopicName};
use std::time::Duration;

/// The moment of a step: both clocks and the source of randomness come from outside.
pub struct Moment<'a> {
    pub now: Monotonic,
    pub wall: Timestamp,
    /// For member ids.
    pub random: &'a mut dyn FnMut() -> u64,
}

pub(super) struct Turn<'a, 'm> {
    pub moment: &'a mut Moment<'m>,
    pub limits: &'a GroupLimits,
    pub timers: &'a mut Timers,
    pub effects: &'a mut Vec<Effect>,
}

impl Turn<'_, '_> {
    pub fn reply(&mut self, token: ReplyToken, response: Response) {
        self.effects.push(Effect::Reply(token, response));
    }

    pub fn reply_join(&mut self, token: ReplyToken, joined: Joined) {
        self.reply(token, Response::Join(Ok(joined)));
    }

    pub fn refuse_join(&mut self, token: ReplyToken, error: GroupError, member: &str) {
        self.reply(token, Response::Join(Err(JoinRefused { error, member: member.into() })));
    }

    pub fn reply_sync(&mut self, token: ReplyToken, synced: Result<Synced, GroupError>) {
        self.reply(token, Response::Sync(synced));
    }

    pub fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.moment.now + after);
    }

    /// `<prefix>-<random uuid>`, as Kafka makes member ids.
    pub fn new_member_id(&mut self, prefix: &str) -> MemberId {
        // Member ids go into records, whose texts are bounded; a prefix this long is no name that people read.
        const PREFIX_BYTES_MAX: usize = 1024;
        let cut = (0..=prefix.len().min(PREFIX_BYTES_MAX)).rev().find(|at| prefix.is_char_boundary(*at));
        let prefix = &prefix[..cut.expect("0 is a boundary")];
        let bits = (u128::from((self.moment.random)()) << 64) | u128::from((self.moment.random)());
        // Version 4, variant 1: RFC 9562, section 5.4.
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        MemberId::from(format!("{prefix}-{a}-{b}-{c}-{d}-{e}"))
    }
}

/// One change of what the records say.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Change {
    /// `value: None`: the offset is gone.
    Offset {
        group: GroupId,
        topic: TopicName,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    },
    /// A new value of the group's record.
    Group {
        group: GroupId,
        value: Bytes,
    },
    GroupGone {
        group: GroupId,
    },
}

impl Change {
    pub fn group(&self) -> &GroupId {
        match self {
            Change::Offset { group, .. } | Change::Group { group, .. } | Change::GroupGone { group } => group,
        }
    }
}

/// Records that a step wants written in one batch, and what happens once they are durable, or lost.
#[derive(Debug)]
pub(super) struct Write {
    pub partition: PartitionIndex,
    pub changes: Vec<Change>,
    pub then: Then,
}

#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    Reply(ReplyToken, Response),
    /// Hand the assignment of this generation to its members.
    Assign {
        group: GroupId,
        generation: i32,
        assignments: BTreeMap<MemberId, Bytes>,
    },
    /// Answer a static member that took its own place with a new id.
    Replace(Box<Replacement>),
}

/// What is needed to answer a static member, and to put its former id back if the record is lost.
#[derive(Debug)]
pub(super) struct Replacement {
    pub group: GroupId,
    pub generation: i32,
    pub new: MemberId,
    pub old: MemberId,
    pub old_leader: MemberId,
    pub old_protocols: Vec<Protocol>,
    pub old_rebalance_timeout: Duration,
    pub old_session_timeout: Duration,
    pub can_skip_assignment: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_are_a_prefix_and_a_uuid_of_version_four() {
        let check = |prefix: &str, word: u64, expected: &str| {
            let mut random = || word;
            let mut moment = Moment { now: Monotonic(0), wall: 0, random: &mut random };
            let (limits, mut timers, mut effects) = (GroupLimits::default(), Timers::default(), Vec::new());
            let mut turn =
                Turn { moment: &mut moment, limits: &limits, timers: &mut timers, effects: &mut effects };
            assert_eq!(&*turn.new_member_id(prefix), expected);
        };
        check("c", 0, "c-00000000-0000-4000-8000-000000000000");
        check("", u64::MAX, "-ffffffff-ffff-4fff-bfff-ffffffffffff");
        let long = "é".repeat(600);
        check(&long, 0, &format!("{}-00000000-0000-4000-8000-000000000000", "é".repeat(512)));
    }
}
