#!/usr/bin/env bash
# recovery.sh [MIB [PARTITIONS]]: how long a broker takes to be ready after kill -9, with nothing flushed, so that every byte
# is read and checked. The goal is 10 GiB in 100 partitions in 10 s; a smaller size gets its share, and 2 s for the start.
# CORELOG_RECOVERY_COLD=1 drops the page cache first (needs root), as a crash of the machine would, and says what reading the same
# files takes without checking them, one stream a core.
source "$(dirname "$0")/lib.sh"
mib=${1:-512} partitions=${2:-100}
work=${CORELOG_CI_WORK:-$root/target/ci}/recovery
speed=${CORELOG_SPEED_BIN:-$root/target/release/corelog-speed}
corelog=${CORELOG_BIN:-$root/target/release/corelog}
[ -x "$speed" ] || fail "$speed is not built: cargo build --release -p corelog-speed"
free=$(df -Pm "$root" | awk 'NR == 2 { print $4 }')
[ "$free" -gt $((mib * 2 + 1024)) ] || skip "recovery of $mib MiB because only $free MiB are free"

rm -rf "$work"
# No checkpoint comes in between: what is above the recovery points is everything.
options=(log.durability=os log.flush.offset.checkpoint.interval.ms=86400000 auto.create.topics.enable=true)
start_broker "$work" "${options[@]}"
written() { du -sm --apparent-size "$broker_data" | cut -f 1; }
while [ "$(written)" -lt "$mib" ]; do
  "$speed" --broker "$bootstrap" --partitions "$partitions" --record-bytes 16384 --in-flight 64 --seconds 1 --rounds 1 >/dev/null
done
kill -KILL "$broker_pid"
wait "$broker_pid" 2>/dev/null || true
trap - EXIT
size=$(written)
if [ "${CORELOG_RECOVERY_COLD:-}" = 1 ]; then
  sync
  echo 1 >/proc/sys/vm/drop_caches
  begin=$(date +%s%N)
  find "$broker_data" -name '*.log' -print0 | xargs -0 -n 5 -P "$(nproc)" cat >/dev/null
  echo "cold, only read: $((($(date +%s%N) - begin) / 1000000)) ms"
  echo 1 >/proc/sys/vm/drop_caches
fi

: >"$work/broker.log"
begin=$(date +%s%N)
start_broker "$work" "${options[@]}"
milliseconds=$((($(date +%s%N) - begin) / 1000000))
line=$(grep -a 'partitions opened' "$work/broker.log") || fail "the log does not say what was recovered"
stop_broker
echo "$size MiB in $partitions partitions: ready after $milliseconds ms"
echo "$line"
expect "$line" "partitions=[0-9]+ read_bytes=[0-9]+ checked_bytes=[0-9]+ .*offline=0"
checked=$(sed -E 's/.*checked_bytes=([0-9]+).*/\1/' <<<"$line")
[ $((checked >> 20)) -gt $((mib * 9 / 10)) ] || fail "only $checked bytes were checked"
[ "$milliseconds" -le $((2000 + size * 10000 / 10240)) ] || fail "that is too slow"
check_broker_log "$work" 'cut'
"$corelog" log verify "$work/data"
rm -rf "$work"
