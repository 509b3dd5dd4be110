// KafkaJS: create, produce (plain and idempotent), a group of two, commit, resume.
const { Kafka, logLevel, CompressionTypes } = require('kafkajs')
const assert = require('node:assert')

const kafka = new Kafka({ clientId: 'smoke', brokers: [process.argv[2]], logLevel: logLevel.ERROR })
const topic = 'kafkajs'
const groupId = 'kafkajs-group'
const partitions = 3

async function produce(first, count, settings, compression) {
  const producer = kafka.producer(settings)
  await producer.connect()
  const messages = Array.from({ length: count }, (_, i) => first + i)
    .map(n => ({ key: `${n}`, value: `value ${n}`, partition: n % partitions, headers: { n: `${n}` } }))
  await producer.send({ topic, messages, acks: -1, compression })
  await producer.disconnect()
}

// Until the group has committed `end` in every partition: a member that a rebalance gives a partition of which another has read
// and not committed begins there again, so that all values may have been seen with something left to read.
async function read(admin, members, wanted, end) {
  const values = new Set()
  const consumers = []
  let done
  const all = new Promise((resolve, reject) => { done = resolve; setTimeout(() => reject(new Error(`read ${values.size}`)), 60000).unref() })
  for (let i = 0; i < members; i++) {
    const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 6000 })
    consumers.push(consumer)
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ message }) => {
        values.add(message.value.toString())
        assert.strictEqual(message.headers.n.toString(), message.key.toString())
        if (wanted.every(v => values.has(v))) done()
      }
    })
  }
  await all
  const giveUp = Date.now() + 60000
  for (;;) {
    const [{ partitions: offsets }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    if (offsets.length === partitions && offsets.every(o => o.offset === `${end}`)) break
    assert(Date.now() < giveUp, `committed ${JSON.stringify(offsets)}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  for (const consumer of consumers) { await consumer.stop(); await consumer.disconnect() }
  return values
}

const names = (first, count) => Array.from({ length: count }, (_, i) => `value ${first + i}`)

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: true })
  await produce(0, 150, {})
  await produce(150, 150, { idempotent: true, maxInFlightRequests: 1 }, CompressionTypes.GZIP)
  assert.strictEqual((await read(admin, 2, names(0, 300), 100)).size, 300)
  await produce(300, 30, { idempotent: true })
  assert.deepStrictEqual([...await read(admin, 1, names(300, 30), 110)].sort(), names(300, 30).sort())
  const ends = await admin.fetchTopicOffsets(topic)
  assert.deepStrictEqual(new Set(ends.map(e => e.offset)), new Set(['110']))
  await admin.deleteTopics({ topics: [topic] })
  await admin.disconnect()
}

main().then(() => process.exit(0), error => { console.error(error); process.exit(1) })
