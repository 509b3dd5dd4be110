#!/usr/bin/env bash
# fairness.sh [PAIRS] [SECONDS]: what a polite producer (1 KiB, open loop, 500 requests a second) pays for its neighbours on the
# same core: greedy producers (8 connections x 8 in flight, 1 MiB and 64 KiB batches), and consumers of what is on the disk only.
# Each neighbour is measured in pairs, alone and then beside it; the median of the ratios of p99 may be FAIRNESS_MOST (3).
# Times belong to quiet hosts: without FAIRNESS_JUDGES=1 they are printed and not judged.
source "$(dirname "$0")/lib.sh"
need python3 python3
need taskset util-linux
pairs=${1:-3} seconds=${2:-4} most=${FAIRNESS_MOST:-3}
bench=${CORELOG_BENCH:-$root/target/release/corelog-bench}
binary=${CORELOG_BIN:-$root/target/release/corelog}
[ -x "$bench" ] || fail "$bench is not built"
mapfile -t cpus < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
[ ${#cpus[@]} -ge 2 ] || skip "fairness because broker and generator need a CPU each"
work=$(mktemp -d "${TMPDIR:-/tmp}/fairness.XXXXXX")
# One core for the broker, so that all share it.
printf '#!/bin/sh\nexec taskset -c %s %q "$@"\n' "${cpus[0]}" "$binary" >"$work/pinned"
chmod +x "$work/pinned"
# Greedy producers write gigabytes: what is old goes at once.
CORELOG_BIN=$work/pinned start_broker "$work/broker" log.retention.bytes=134217728 log.segment.bytes=67108864 \
  log.retention.check.interval.ms=1000
neighbour=
clean_up() {
  [ -z "$neighbour" ] || kill "$neighbour" 2>/dev/null || true
  stop_broker
  rm -rf "$work"
}
trap clean_up EXIT

# The generators share the other CPU; the neighbour's gets what the polite one leaves, or it would be the generator that waits.
first=
load() { $first taskset -c "${cpus[1]}" "$bench" --broker "$bootstrap" --cores "${cpus[1]}" --idle sleep --rounds 1 --check 0 --durability "$durability" "$@"; }
polite() { load --mode produce --partitions 1 --connections 1 --in-flight 1 --records 1 --record-bytes 1024 --rate 500 --warm-up 0.5 --seconds "$seconds" --json "$1" >/dev/null; }
greedy() { first='chrt -i 0' load --mode produce --partitions 8 --connections 8 --in-flight 8 --record-bytes 1024 --records "$1"; }
# Fetches over what neither the tail cache nor the page cache holds: the latter is told to forget it again and again.
cold() {
  python3 - "$broker_data" <<'END' &
import glob, os, sys, time
while True:
    for path in glob.glob(sys.argv[1] + "/**/*.log", recursive=True):
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
    time.sleep(0.1)
END
  local forgets=$!
  trap "kill $forgets" EXIT
  first='chrt -i 0' load --mode fetch --partitions 4 --connections 4 --in-flight 1 --records 64 --fill-bytes 268435456 "$@"
}

# A counter of the broker, summed over its shards.
counter() {
  python3 - "$1" "http://127.0.0.1:$((${bootstrap##*:} + 1))/metrics" <<'END'
import sys, urllib.request
lines = urllib.request.urlopen(sys.argv[2]).read().decode().splitlines()
print(sum(int(float(line.split()[-1])) for line in lines if line.startswith(sys.argv[1] + "{")))
END
}
# Waits until the neighbour is at work: the counter is 32 MiB above what it was.
at_work() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    [ "$(($(counter "$1") - $2))" -lt 33554432 ] || return 0
    kill -0 $neighbour 2>/dev/null || fail "the neighbour is gone: $(cat "$work/neighbour")"
    sleep 0.1
  done
  fail "the neighbour has not begun after half a minute: $(cat "$work/neighbour")"
}

code=0
for durability in ${FAIRNESS_DURABILITY:-os fsync}; do
  for beside in ${FAIRNESS_BESIDE:-greedy-1m greedy-64k cold}; do
    for ((pair = 0; pair < pairs; pair++)); do
      polite "$work/$durability.$beside.$pair.alone"
      case $beside in
        cold) sign=corelog_fetch_disk_read_bytes_total ;;
        *) sign=corelog_received_bytes_total ;;
      esac
      before=$(counter $sign)
      (
        long=(--warm-up 0.5 --seconds $((seconds + 4)))
        case $beside in
          greedy-1m) greedy 1000 "${long[@]}" ;;
          greedy-64k) greedy 62 "${long[@]}" ;;
          cold) cold "${long[@]}" ;;
        esac
      ) >"$work/neighbour" 2>&1 &
      neighbour=$!
      at_work $sign "$before"
      polite "$work/$durability.$beside.$pair.together"
      wait $neighbour || fail "the neighbour failed: $(cat "$work/neighbour")"
      neighbour=
    done
    python3 - "$work/$durability.$beside" "$pairs" "$most" "${FAIRNESS_JUDGES:-0}" <<'END' || code=1
import json, statistics, sys
name, pairs, most, judges = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "1"
def latency(pair, how):
    text = json.load(open(f"{name}.{pair}.{how}"))
    found = []
    def look(value):
        if isinstance(value, dict):
            if "latency" in value and isinstance(value["latency"], dict):
                found.append(value["latency"])
            for below in value.values():
                look(below)
        elif isinstance(value, list):
            for below in value:
                look(below)
    look(text)
    return found[0]
both = [(latency(pair, "alone"), latency(pair, "together")) for pair in range(pairs)]
for figure in ["p50_us", "p99_us"]:
    ratios = [together[figure] / alone[figure] for alone, together in both]
    alone, together = (statistics.median(side[figure] for side in sides) for sides in zip(*both))
    median = statistics.median(ratios)
    print(f"{name.split('/')[-1]:<20} {figure[:3]}: alone {alone:7.0f} us, together {together:7.0f} us, "
          f"ratio {median:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
sys.exit(judges and median > most)
END
  done
done
exit $code
