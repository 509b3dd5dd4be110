#!/usr/bin/env bash
# speed.sh [FLUSHES]: a short load on a file system of its own; each acknowledged record of a topic with `write.path=journal`
# may cost at most so many flushes (0.05) by the block layer's counters. It asserts counts only: times belong to quiet hosts.
source "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "the count of flushes because loop devices need root"
need mkfs.ext4 e2fsprogs
output=$cache/speed.$$
trap 'rm -f "$output"' EXIT
# A new partition's files are named and flushed behind its first records, which takes a busy disk seconds for hundreds of them.
# These flushes are not the records': what is above the bound is asked again, after a longer warm-up.
for warm_up in 1 8 25; do
  code=0
  "${CORELOG_SPEED:-$root/target/release/corelog-speed}" paths --broker "${CORELOG_BIN:-$root/target/release/corelog}" \
    --fs ext4 --image-gib 2 --only throughput --paths "${SPEED_PATHS:-journal}" --rounds 1 --warm-up $warm_up --seconds 2 \
    --flushes-most "${1:-0.05}" 2>&1 | tee "$output" || code=$?
  refused=$(grep -m1 'error 40' "$output" || true)
  [ -z "$refused" ] || skip "the count of flushes because this broker has no such path: $refused"
  [ $code != 0 ] || exit 0
done
exit $code
