"""aiokafka: create, produce (plain and idempotent), a group of two, commit, resume."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, IllegalStateError

BOOTSTRAP = sys.argv[1]
TOPIC, GROUP, PARTITIONS = "aiokafka", "aiokafka-group", 3


async def produce(first, count, **settings):
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", **settings) as producer:
        sent = [await producer.send(TOPIC, b"value %d" % n, key=b"%d" % n, partition=n % PARTITIONS)
                for n in range(first, first + count)]
        await asyncio.gather(*sent)


def consumer():
    return AIOKafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=GROUP, auto_offset_reset="earliest",
                            enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500)


async def read(admin, members, count, end):
    """Until the group has committed `end` in every partition: a member that a rebalance gives a partition of which another has
    read and not committed begins there again, so that all values may have been seen with something left to read."""
    values, done = [], asyncio.Event()

    async def one(member):
        while not done.is_set():
            for records in (await member.getmany(timeout_ms=200)).values():
                values.extend(r.value for r in records)
            try:
                if member.assignment():
                    await member.commit()
            except (CommitFailedError, IllegalStateError):
                pass  # the group rebalances; what was read is read again by whoever has the partition then
            committed = await admin.list_consumer_group_offsets(GROUP)
            committed = {p.partition: o.offset for p, o in committed.items() if p.topic == TOPIC}
            if len(values) >= count and committed == dict.fromkeys(range(PARTITIONS), end):
                done.set()

    await asyncio.wait_for(asyncio.gather(*map(one, members)), 60)
    return set(values)


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    await produce(0, 150)
    await produce(150, 150, enable_idempotence=True, compression_type="gzip")
    members = [consumer(), consumer()]
    for member in members:
        await member.start()
    wanted = {b"value %d" % n for n in range(300)}
    assert await read(admin, members, 300, 100) == wanted
    for member in members:
        await member.stop()

    await produce(300, 30, enable_idempotence=True)
    again = consumer()
    await again.start()
    values = await read(admin, [again], 30, 110)
    assert values == {b"value %d" % n for n in range(300, 330)}, values
    ends = await again.end_offsets(again.assignment())
    assert set(ends.values()) == {110}, ends
    await again.stop()
    await admin.delete_topics([TOPIC])
    await admin.close()


asyncio.run(main())
