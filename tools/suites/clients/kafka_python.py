"""kafka-python: create, produce (plain and idempotent), a group of two, commit, resume."""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import CommitFailedError, RebalanceInProgressError

BOOTSTRAP = sys.argv[1]
TOPIC, GROUP, PARTITIONS = "kafka-python", "kafka-python-group", 3

admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])


def produce(first, count, **settings):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", **settings)
    sent = [producer.send(TOPIC, key=b"%d" % n, value=b"value %d" % n, headers=[("n", b"%d" % n)], partition=n % PARTITIONS)
            for n in range(first, first + count)]
    for future in sent:
        future.get(timeout=30)
    producer.close()


def consumer():
    return KafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=GROUP, auto_offset_reset="earliest",
                         enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500)


def committed():
    return {p.partition: o.offset for p, o in admin.list_consumer_group_offsets(GROUP).items() if p.topic == TOPIC}


def read(members, count, end):
    """Until the group has committed `end` in every partition: a member that a rebalance gives a partition of which another has
    read and not committed begins there again, so that all values may have been seen with something left to read."""
    values, give_up = [], time.monotonic() + 60
    while len(values) < count or not all(m.assignment() for m in members) or committed() != dict.fromkeys(range(PARTITIONS), end):
        assert time.monotonic() < give_up, f"read {len(values)} of {count}, committed {committed()}"
        for member in members:
            for records in member.poll(timeout_ms=200).values():
                values += [(r.key, r.value, r.headers) for r in records]
            try:
                member.commit()
            except (CommitFailedError, RebalanceInProgressError):
                pass  # the group rebalances; what was read is read again by whoever has the partition then
    return values


produce(0, 150, enable_idempotence=False)
produce(150, 150, enable_idempotence=True, compression_type="gzip")
members = [consumer(), consumer()]
values = read(members, 300, 100)
wanted = {(b"%d" % n, b"value %d" % n) for n in range(300)}
assert {v[:2] for v in values} == wanted, len(values)
assert all(list(h) == [("n", k)] for k, _, h in values)
for member in members:
    member.close()

produce(300, 30, enable_idempotence=True)
again = consumer()
values = {v[1] for v in read([again], 30, 110)}
assert values == {b"value %d" % n for n in range(300, 330)}, values
ends = again.end_offsets([TopicPartition(TOPIC, p) for p in range(PARTITIONS)])
assert set(ends.values()) == {110}, ends
again.close()
admin.delete_topics([TOPIC])
admin.close()
