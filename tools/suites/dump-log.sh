#!/usr/bin/env bash
# dump-log.sh DATA_DIR...: Kafka's own reader over the files of a stopped broker; nothing may be invalid or mismatch.
source "$(dirname "$0")/lib.sh"
need_oracle "kafka-dump-log"
code=0
for data in "$@"; do
  for kind in log index timeindex snapshot; do
    list=$(find "$data" -mindepth 2 -maxdepth 2 -name "*.$kind" ! -path '*/__cluster_metadata*' ! -path '*-delete/*' | sort | paste -sd,)
    if [ -z "$list" ]; then echo "$data: no .$kind"; continue; fi
    count=$(tr ',' '\n' <<<"$list" | wc -l)
    option=()
    case $kind in index|timeindex) option=(--verify-index-only) ;; esac
    out=$(mktemp)
    ended=0
    # Paths go in through a file of arguments' worth at a time: a list of many thousand would not fit a command line.
    tr ',' '\n' <<<"$list" | xargs -n 500 | while read -r some; do
      "$tools/kafka-dump-log.sh" "${option[@]}" --files "${some// /,}"
    done >"$out" 2>&1 || ended=$?
    bad=$(grep -aE 'isvalid: false|[Mm]ismatch|invalid bytes|Non-consecutive|[Cc]orrupt|Exception|out of order|not found|Could not|Error' "$out" | head -n 10 || true)
    batches=$(grep -ac 'baseOffset:' "$out" || true)
    if [ $ended != 0 ] || [ -n "$bad" ]; then
      echo "$data: .$kind: exit $ended"; echo "$bad"; [ -n "$bad" ] || tail -n 5 "$out"; code=1
    else
      echo "$data: $count .$kind files in order$([ $kind = log ] && echo ", $batches batches")"
    fi
    rm -f "$out"
  done
done
exit $code
