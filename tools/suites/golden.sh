#!/usr/bin/env bash
# golden.sh HOST:PORT [OUT_DIR]: sends the oracle's 471 cases to a fresh broker and compares with Kafka's answers.
# Differences that are meant stand in tests/golden_wire/known.txt, one reason a line.
source "$(dirname "$0")/lib.sh"
need_oracle "the golden comparison"
out=${2:-$(mktemp -d)}
"$oracle_folder/golden/capture.py" "$1" "$out"
"$oracle_folder/golden/compare.py" "$oracle_folder/golden/kafka-4.3.1" "$out" -v --known "$root/tests/golden_wire/known.txt"
