//! One fetch: the request of a session to a broker, and what its answer changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::client::cluster::{Lane, Node};
use crate::client::connection::Answer;
use crate::client::error::{Abortable, ClientError};
use crate::client::settings::ConsumerSettings;
use crate::config::Address;
use crate::model::{NodeId, TopicId, TopicName, TopicPartition};
use crate::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use crate::protocol::{ApiKey, ErrorCode};

use super::chunk::Chunk;
use super::partition::{Phase, validity};
use super::session::{Part, Session, SessionRequest};
use super::state::{Shared, State};

/// From this version on, topics are named by id (KIP-516).
const NAMES_BY_ID: i16 = 13;

/// From this version on there are sessions (KIP-227).
const SESSIONS: i16 = 7;

/// What a broker is asked for, with the versions of the partitions' states.
pub(super) type Wanted = BTreeMap<TopicPartition, (u64, Part)>;

pub(super) struct FetchPlan {
    pub node: NodeId,
    pub wanted: Wanted,
    pub session: Session,
}

pub(super) async fn run(shared: Arc<Shared>, plan: FetchPlan) {
    let FetchPlan { node, wanted, mut session } = plan;
    let asked = ask(&shared, node, &wanted, &mut session).await;
    let mut news = News::default();
    {
        let mut state = shared.state();
        for (partition, (version, _)) in &wanted {
            if let Some(known) = state.asked(partition, *version) {
                known.is_fetching = false;
            }
        }
        let taken =
            asked.and_then(|answer| take(&shared, &mut state, &answer, &wanted, &mut session, &mut news));
        match taken {
            Ok(()) => drop(state.resting.remove(&node)),
            Err(error) => {
                tracing::debug!(node = node.0, %error, "fetch failed");
                session.restart();
                state.metrics.fetch_failures += 1;
                let failures = state.resting.get(&node).map_or(0, |(failures, _)| *failures) + 1;
                state.resting.insert(node, (failures, shared.next_try(failures)));
                news.needs_refresh = true;
                if !error.is_retriable() {
                    state.push_error(error);
                }
            }
        }
        state.sessions.insert(node, session);
        state.fetching.remove(&node);
        state.metrics.fetches += 1;
        state.metrics.buffered_bytes = state.buffered_bytes();
        state.wake();
    }
    for leader in news.leaders {
        let Leader { partition, id, epoch, endpoint } = leader;
        shared.cluster.learn_leader(&partition.topic, partition.partition, id, epoch, endpoint);
    }
    if news.needs_refresh {
        shared.cluster.request_refresh();
    }
    shared.work.notify_one();
}

/// What an answer tells of the cluster.
#[derive(Default)]
struct News {
    leaders: Vec<Leader>,
    needs_refresh: bool,
}

struct Leader {
    partition: TopicPartition,
    id: NodeId,
    epoch: i32,
    endpoint: Option<Node>,
}

async fn ask(
    shared: &Shared,
    node: NodeId,
    wanted: &Wanted,
    session: &mut Session,
) -> Result<Answer, ClientError> {
    let connection = shared.cluster.connection(node, Lane::Fetch).await?;
    let mut version = connection.version(ApiKey::Fetch)?;
    let parts: BTreeMap<TopicPartition, Part> =
        wanted.iter().map(|(partition, (_, part))| (partition.clone(), *part)).collect();
    if version >= NAMES_BY_ID && parts.values().any(|part| part.topic_id == TopicId::default()) {
        version = NAMES_BY_ID - 1;
    }
    let request = session.next(&parts, version >= NAMES_BY_ID);
    let pending = compose(&shared.settings, &request, version, |request| {
        connection.submit(request, version, connection.request_timeout())
    });
    pending.await
}

/// Makes the request and lends it to `submit`.
fn compose<T>(
    settings: &ConsumerSettings,
    session: &SessionRequest,
    version: i16,
    submit: impl FnOnce(&FetchRequest<'_>) -> T,
) -> T {
    let mut topics: BTreeMap<(&str, TopicId), Vec<FetchPartition>> = BTreeMap::new();
    for (partition, part) in &session.parts {
        topics.entry((&partition.topic, part.topic_id)).or_default().push(FetchPartition {
            partition: partition.partition,
            current_leader_epoch: part.current_leader_epoch,
            fetch_offset: part.offset,
            partition_max_bytes: part.bytes_max,
            ..Default::default()
        });
    }
    let mut forgotten: BTreeMap<(&str, TopicId), Vec<i32>> = BTreeMap::new();
    for (partition, id) in &session.forgotten {
        forgotten.entry((&partition.topic, *id)).or_default().push(partition.partition);
    }
    let int = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let topics = topics.into_iter().map(|((topic, topic_id), partitions)| FetchTopic {
        topic,
        topic_id,
        partitions: partitions.into(),
    });
    let forgotten = forgotten.into_iter().map(|((topic, topic_id), partitions)| ForgottenTopic {
        topic,
        topic_id,
        partitions: partitions.into(),
    });
    let has_sessions = version >= SESSIONS;
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: i32::try_from(settings.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: int(settings.fetch_bytes_min),
        max_bytes: int(settings.fetch_bytes_max),
        isolation_level: settings.isolation.on_the_wire(),
        session_id: if has_sessions { session.id } else { 0 },
        session_epoch: if has_sessions { session.epoch } else { -1 },
        topics: topics.collect::<Vec<_>>().into(),
        forgotten_topics_data: if has_sessions {
            forgotten.collect::<Vec<_>>().into()
        } else {
            Default::default()
        },
        rack_id: &settings.rack,
        ..Default::default()
    };
    submit(&request)
}

/// Puts an answer into the state. Errors: it is about the request as a whole.
fn take(
    shared: &Shared,
    state: &mut State,
    answer: &Answer,
    wanted: &Wanted,
    session: &mut Session,
    news: &mut News,
) -> Result<(), ClientError> {
    let response: FetchResponse<'_> = answer.decode()?;
    if response.error_code == ErrorCode::FetchSessionIdNotFound.code() {
        // Brokers drop sessions that others need more: the next request is full, at once.
        session.forget();
        return Ok(());
    }
    ClientError::check(ApiKey::Fetch, "the fetch", response.error_code, None)?;
    session.answered(response.session_id);
    state.metrics.fetch_latency = answer.latency;
    let endpoint = |id: i32| {
        let told = response.node_endpoints.iter().find(|told| told.node_id == id)?;
        let address = Address { host: told.host.as_str().to_owned(), port: u16::try_from(told.port).ok()? };
        Some(Node { id: NodeId(id), address, rack: told.rack.as_deref().map(Into::into) })
    };
    let names: BTreeMap<TopicId, &TopicName> =
        wanted.iter().map(|(partition, (_, part))| (part.topic_id, &partition.topic)).collect();
    for topic in &response.responses {
        let name = if answer.version >= NAMES_BY_ID {
            names.get(&topic.topic_id).map(|name| TopicName::clone(name))
        } else {
            Some(topic.topic.as_str().into())
        };
        let Some(name) = name else { continue };
        for data in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), data.partition_index);
            let Some((version, part)) = wanted.get(&partition) else { continue };
            let current = &data.current_leader;
            if current.leader_id >= 0 && current.leader_epoch >= 0 {
                news.leaders.push(Leader {
                    partition: partition.clone(),
                    id: NodeId(current.leader_id),
                    epoch: current.leader_epoch,
                    endpoint: endpoint(current.leader_id),
                });
            }
            let records = data.records.as_ref().map(|records| records.to_contiguous());
            let fetched = match &records {
                Some(std::borrow::Cow::Borrowed(bytes)) => answer.frame().slice_ref(bytes),
                _ => Bytes::new(),
            };
            take_partition(shared, state, &partition, *version, part, &data, fetched, news);
        }
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "one partition of one answer; a structure would be made for this call"
)]
fn take_partition(
    shared: &Shared,
    state: &mut State,
    partition: &TopicPartition,
    version: u64,
    part: &Part,
    data: &PartitionData<'_>,
    fetched: Bytes,
    news: &mut News,
) {
    let next_version = state.next_version();
    // Somebody has sought elsewhere, or the partition is another's by now.
    let Some(known) = state.asked(partition, version) else { return };
    if known.fetch_from.offset != part.offset || !matches!(known.phase, Phase::Fetching) {
        return;
    }
    let reset = shared.reset();
    let code = ErrorCode::from_code(data.error_code);
    match code {
        Some(ErrorCode::None) => {}
        // What was fetched before is read before anything is reset.
        Some(ErrorCode::OffsetOutOfRange) if known.replica.is_none() && known.chunks.is_empty() => {
            match reset {
                Some(spec) => {
                    tracing::info!(%partition, offset = part.offset, ?spec, "the position is not in the log: reset");
                    known.seek_to(next_version, spec);
                }
                None => {
                    let TopicPartition { topic, partition } = partition.clone();
                    let error = Abortable::OffsetOutOfRange { topic, partition, offset: part.offset };
                    known.fail(next_version, error.into());
                }
            }
            return;
        }
        _ => {
            known.replica = None;
            known.back_off(shared.next_try(known.failures + 1));
            news.needs_refresh = true;
            let subject = partition.to_string();
            let Some(error) = ClientError::refused(ApiKey::Fetch, subject, data.error_code, None) else {
                return;
            };
            tracing::debug!(%partition, %error, "fetch refused");
            // Another reign than we know of, a replica that is behind, or a broker in trouble: time or news heals it.
            let heals = error.is_retriable()
                || matches!(
                    code,
                    Some(
                        ErrorCode::FencedLeaderEpoch
                            | ErrorCode::UnknownLeaderEpoch
                            | ErrorCode::OffsetOutOfRange
                            | ErrorCode::UnknownServerError
                    )
                );
            if !heals {
                state.push_error(error);
            }
            return;
        }
    }
    (known.failures, known.not_before) = (0, None);
    if data.high_watermark >= 0 {
        known.high_watermark = Some(data.high_watermark);
    }
    if data.last_stable_offset >= 0 {
        known.last_stable = Some(data.last_stable_offset);
    }
    if data.log_start_offset >= 0 {
        known.log_start = Some(data.log_start_offset);
    }
    if data.diverging_epoch.end_offset >= 0 {
        let diverging = &data.diverging_epoch;
        let judged = validity(known.fetch_from, diverging.epoch, diverging.end_offset);
        known.validated(next_version, partition, part.current_leader_epoch, judged, reset);
        return;
    }
    if data.preferred_read_replica >= 0 {
        let until = crate::client::time::Instant::now() + shared.settings.client.metadata_max_age;
        known.replica = Some((NodeId(data.preferred_read_replica), until));
    }
    if fetched.is_empty() {
        return;
    }
    let aborted = data.aborted_transactions.as_ref().map(|list| list.to_vec()).unwrap_or_default();
    let fetched_bytes = fetched.len() as u64;
    let Some(chunk) = Chunk::new(fetched, aborted, known.fetch_from) else {
        // Brokers send the first batch whole, however large it is (KIP-74).
        tracing::warn!(%partition, offset = part.offset, "a fetch brought a part of a batch only");
        known.back_off(shared.next_try(known.failures + 1));
        return;
    };
    known.fetch_from = chunk.end();
    known.chunks.push_back(chunk);
    let is_first = known.chunks.len() == 1;
    state.metrics.fetched_bytes += fetched_bytes;
    if is_first && !state.ready.contains(partition) {
        state.ready.push_back(partition.clone());
    }
}
