#!/usr/bin/env bash
# bench.sh [SECONDS]: `corelog bench` against another load generator (tools/speed) on the same load and broker, in turns.
# Without SECONDS only counts: what one says it sent, both the broker's log and the bench's own check must have. With SECONDS
# a round, the percentiles too, medians of 3 rounds: within 10 % at p50 and 20 % at p99. That belongs to quiet hosts.
# Expects release builds; BENCH, SPEED and CORELOG_BIN name others.
source "$(dirname "$0")/lib.sh"
bench=${BENCH:-$root/target/release/corelog-bench}
speed=${SPEED:-$root/target/release/corelog-speed}
seconds=${1:-}
for program in "$bench" "$speed"; do [ -x "$program" ] || fail "$program is not built"; done
need python3 python3
work=$(mktemp -d "${CORELOG_CI_WORK:-$root/target}/bench-suite.XXXXXX")
trap 'rm -rf "$work"' EXIT

# bench NAME OPTION...: a run with its JSON.
bench() { "$bench" --json "$work/$1.json" "${@:2}" >"$work/$1.out" 2>&1 || { cat "$work/$1.out" >&2; fail "bench $1: exit code $?"; }; }

if [ -z "$seconds" ]; then
  # All loads of the table, for a moment each, beside the null responder: every answer is right, everything comes back.
  bench all --load A,B,C,D,E,F,G,H --null --rounds 1 --seconds 0.3 --warm-up 0.1 --fill-bytes 33554432 --dir "$work"
  bench durable --load A,B,C,F,G --durability fsync --rounds 1 --seconds 0.3 --warm-up 0.1 --dir "$work"
  python3 - "$work/all.json" "$work/durable.json" <<'END'
import json, sys
cells = [cell for path in sys.argv[1:] for cell in json.load(open(path))["cells"]]
assert len(cells) == 14, len(cells)
for cell in cells:
    for one in cell["contenders"]:
        round, who = one["rounds"][0], (cell["title"], cell["workload"]["durability"], one["name"])
        print(*who, f"{round['answers']} answers, p50 {round['latency']['p50_us']:.0f} us", end="")
        wrong = round["errors"]["wrong_count"] + round["checked"]["wrong_count"] + round["unanswered"]
        assert one["failed"] is None and round["answers"] > 0 and wrong == 0, who
        writes = cell["workload"]["mode"] in ("produce", "mixed", "end-to-end")
        if writes and one["name"] != "null":
            back = one["read_back"]
            assert back["wrong_count"] == 0 and back["records"] > 0, who
            print(f", {back['records']} records read back", end="")
        if cell["workload"].get("rate") is None:
            assert round["latency"]["count"] == round["answers"], who
        print()
END
  [ -z "$(ls -d "$work"/corelog-bench-* 2>/dev/null)" ] || fail "a temporary directory is left: $(ls "$work")"
  exit
fi

# The same broker and load, in turns. tools/speed runs on the same CPU as the bench's generator, and waits as it does: with one
# request in flight it sleeps in a blocking read, with more it spins.
cpus=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
cpu=${cpus##* }
# One shard: the generators spread their connections over partitions differently, which would cost one of them more hops.
start_broker "$work/broker" "cores=${cpus%% *}-${cpus%% *}"
code=0
for load in "1 1 1" "16 4 8" "256 32 256"; do
  read -r partitions connections flight <<<"$load"
  idle=spin
  [ "$flight" != 1 ] || idle=sleep
  for round in 1 2 3; do
    bench "own-$connections-$round" --broker "$bootstrap" --cores "$cpu" --idle $idle --durability os --partitions "$partitions" \
      --connections "$connections" --in-flight $((flight / connections)) --seconds "$seconds" --warm-up 0.5 --check 0
    taskset -c "$cpu" "$speed" --broker "$bootstrap" --partitions "$partitions" --connections "$connections" --in-flight "$flight" \
      --acks -1 --rounds 1 --seconds "$seconds" >"$work/speed-$connections-$round.out"
  done
  python3 - "$work" "$connections" "$load" <<'END' || code=1
import json, re, statistics, sys
work, connections, load = sys.argv[1:]
own, other = [], []
for round in (1, 2, 3):
    latency = json.load(open(f"{work}/own-{connections}-{round}.json"))["cells"][0]["contenders"][0]["rounds"][0]["latency"]
    own.append((latency["p50_us"], latency["p99_us"]))
    found = re.search(r"p50 (\d+) us, p99 (\d+) us", open(f"{work}/speed-{connections}-{round}.out").read())
    other.append((float(found[1]), float(found[2])))
wrong = False
for index, (name, most) in enumerate((("p50", 0.10), ("p99", 0.20))):
    a, b = (statistics.median(one[index] for one in side) for side in (own, other))
    print(f"{load}: {name} {a:.0f} us here, {b:.0f} us by the other generator: {a / b - 1:+.1%}")
    wrong |= abs(a / b - 1) > most
sys.exit(wrong)
END
done
stop_broker
exit $code
