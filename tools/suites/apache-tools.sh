#!/usr/bin/env bash
# apache-tools.sh HOST:PORT: Apache Kafka's own command-line tools, each with what it must print.
source "$(dirname "$0")/lib.sh"
need_oracle "the Apache command-line tools"
b=$1
records=${RECORDS:-100000}
run() { local tool=$1; shift; timeout --foreground 120 "$tools/$tool.sh" --bootstrap-server "$b" "$@" 2>&1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

expect "$(run kafka-broker-api-versions)" 'Produce\(0\): [0-9]+ to [0-9]+'
expect "$(run kafka-topics --create --topic tools --partitions 3 --config retention.ms=86400000)" 'Created topic tools'
expect "$(run kafka-topics --create --topic tools 2>&1 || true)" 'already exists'
expect "$(run kafka-topics --list)" '^tools$'
described=$(run kafka-topics --describe --topic tools)
expect "$described" 'Topic: tools.*PartitionCount: 3.*ReplicationFactor: 1.*retention.ms=86400000'
expect "$described" 'Partition: 2.*Leader: [0-9]+.*Isr: [0-9]+'
run kafka-topics --alter --topic tools --partitions 5
expect "$(run kafka-topics --describe --topic tools)" 'PartitionCount: 5'
echo "broker-api-versions, topics: ok"

expect "$(run kafka-configs --alter --entity-type topics --entity-name tools --add-config segment.bytes=2000000,max.message.bytes=900000)" 'Completed updating config'
expect "$(run kafka-configs --describe --entity-type topics --entity-name tools)" 'segment.bytes=2000000'
expect "$(run kafka-configs --alter --entity-type topics --entity-name tools --delete-config segment.bytes)" 'Completed updating config'
expect "$(run kafka-configs --describe --all --entity-type topics --entity-name tools)" 'segment.bytes=1073741824 .*DEFAULT_CONFIG'
expect "$(run kafka-configs --alter --entity-type topics --entity-name tools --add-config retention.ms=soon || true)" 'Invalid value soon|InvalidConfigurationException'
expect "$(run kafka-configs --describe --all --entity-type brokers --entity-name "${NODE_ID:-1}")" 'num.partitions='
echo "configs: ok"

seq 1 500 | run kafka-console-producer --topic tools --command-property acks=all
read=$(run kafka-console-consumer --topic tools --from-beginning --max-messages 500 --group tools-group --timeout-ms 30000)
expect "$(grep -E '^[0-9]+$' <<<"$read" | sort -n | md5sum)" "^$(seq 1 500 | md5sum | cut -c1-32)"
echo "console producer, console consumer: 500 records there and back"

expect "$(run kafka-consumer-groups --list)" '^tools-group$'
expect "$(run kafka-consumer-groups --describe --group tools-group)" 'tools-group +tools +[0-4] +[0-9]+ +[0-9]+ +0 '
expect "$(run kafka-consumer-groups --describe --group tools-group --state)" 'Empty'
expect "$(run kafka-consumer-groups --reset-offsets --to-earliest --topic tools --group tools-group --execute)" 'tools-group +tools +[0-4] +0'
expect "$(run kafka-consumer-groups --delete-offsets --group tools-group --topic tools:0)" 'tools +0 +Successful'
expect "$(run kafka-consumer-groups --delete --group tools-group)" 'Deletion of requested consumer groups .*tools-group.* was successful'
if run kafka-consumer-groups --list | grep -q '^tools-group$'; then fail "the group tools-group is still listed"; fi
echo "consumer-groups: list, describe, state, reset, delete offsets, delete: ok"

expect "$(run kafka-get-offsets --topic tools --time latest | awk -F: '{sum += $3} END {print sum}')" '^500$'
expect "$(run kafka-get-offsets --topic tools --time earliest)" '^tools:0:0$'
expect "$(run kafka-get-offsets --topic tools --time max-timestamp)" '^tools:[0-4]:[0-9]+$'
echo "get-offsets: latest, earliest, max-timestamp: ok"

at=$(run kafka-get-offsets --topic tools | awk -F: '$3 > 0 {print $2 " " $3; exit}')
printf '{"version":1,"partitions":[{"topic":"tools","partition":%d,"offset":%d}]}' $at >"$work/delete.json"
expect "$(run kafka-delete-records --offset-json-file "$work/delete.json")" 'low_watermark: [1-9]'
expect "$(run kafka-get-offsets --topic tools --time earliest)" "^tools:${at/ /:}\$"
echo "delete-records: ok"

expect "$(run kafka-log-dirs --describe --topic-list tools)" '"partition":"?tools-4"?'
echo "log-dirs: ok"

run kafka-topics --create --topic perf --partitions 4 >/dev/null
perf=$(timeout --foreground 180 "$tools/kafka-producer-perf-test.sh" --topic perf --num-records "$records" --record-size 500 --throughput -1 \
  --bootstrap-server "$b" --command-property acks=all 2>&1)
expect "$perf" "^$records records sent"
tail -n 1 <<<"$perf"
perf=$(run kafka-consumer-perf-test --topic perf --num-records "$records" --timeout 60000)
expect "$perf" ", *$records,"
echo "producer-perf-test, consumer-perf-test: $records records"

produced=$(run kafka-verifiable-producer --topic verify --max-messages 2000 --acks -1)
expect "$(grep -c producer_send_success <<<"$produced")" '^2000$'
expect "$produced" '"sent":2000,"acked":2000'
consumed=$(timeout --foreground 60 "$tools/kafka-verifiable-consumer.sh" --bootstrap-server "$b" --topic verify --group-id verify --max-messages 2000 \
  --reset-policy earliest --group-protocol classic 2>&1)
expect "$consumed" '"name":"records_consumed"'
expect "$(python3 -c '
import json, sys
events = [json.loads(line) for line in sys.stdin if line.startswith("{")]
print(sum(e["count"] for e in events if e["name"] == "records_consumed"))' <<<"$consumed")" '^2000$'
expect "$consumed" '"name":"offsets_committed".*"success":true|"success":true.*"offsets_committed"'
echo "verifiable producer, verifiable consumer: 2000 records, offsets committed"

expect "$(run kafka-topics --delete --topic verify; run kafka-topics --list)" 'perf'
if run kafka-topics --list | grep -q '^verify$'; then fail "the topic verify is still listed"; fi
echo "topic deletion: ok"
