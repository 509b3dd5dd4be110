# Sourced by the scripts beside it and by .ci/run: where things are, a broker for a suite, and what a suite may answer.
# Limits on single commands are `timeout --foreground`: without it the command would leave the process group that .ci/run
# ends as a whole.
# A suite exits 0 when it passed, 77 when it could not run here (it says why), anything else when it failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/corelog-ci
mkdir -p "$cache"

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "failed: $*" >&2; exit 1; }

# expect TEXT PATTERN: the extended regular expression matches somewhere in the text.
expect() {
  grep -Eq -- "$2" <<<"$1" || { printf 'expected /%s/ in:\n%s\n' "$2" "$1" >&2; exit 1; }
}

# The folder that starts the real Apache Kafka and has its tools; empty when it is not there.
# Some ways of copying a folder turn its links into files that hold the target's name, and drop the right to execute:
# then a repaired copy is used.
oracle() {
  local source=${CORELOG_ORACLE:-$root/../shared/oracle} copy f
  [ -f "$source/kafka-up" ] || return 0
  source=$(cd "$source" && pwd)
  if [ -x "$source/kafka-up" ] && [ -x "$source/bin/kafka-topics.sh" ]; then echo "$source"; return; fi
  copy=$cache/oracle-$(cat "$source"/{kafka-*,*.xml,*.py,bin/*,golden/*.py,golden/*.txt} | sha256sum | cut -c1-12)
  if [ ! -d "$copy" ]; then
    rm -rf "$copy.tmp"
    cp -r "$source" "$copy.tmp"
    chmod -R u+w "$copy.tmp"
    for f in "$copy.tmp"/bin/*.sh; do
      if [ ! -L "$f" ] && [ "$(head -c 64 "$f" | tr -d '\0')" = kafka-run-class.sh ]; then ln -sf kafka-run-class.sh "$f"; fi
    done
    chmod +x "$copy.tmp"/bin/kafka-run-class.sh "$copy.tmp"/kafka-* "$copy.tmp"/*.py "$copy.tmp"/golden/*.py
    mv "$copy.tmp" "$copy"
  fi
  echo "$copy"
}

need_oracle() {
  oracle_folder=$(oracle)
  [ -n "$oracle_folder" ] || skip "$1 because the oracle folder is not at ${CORELOG_ORACLE:-../shared/oracle}"
  tools=$oracle_folder/bin
}

# need COMMAND PACKAGE: installs the Debian package when the command is missing.
need() {
  command -v "$1" >/dev/null && return
  local log=$cache/apt.log
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    { apt-get install -y -qq "$2" || { apt-get update -qq && apt-get install -y -qq "$2"; }; } >"$log" 2>&1 || true
  fi
  command -v "$1" >/dev/null || skip "$1 is missing and the package $2 could not be installed"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below Linux's ephemeral range, so that no client's own port is in the way. Four in a row.
free_port() {
  local p
  for ((p = 15000 + $$ % 900 * 4; p < 19990; p += 4)); do
    if port_is_free "$p" && port_is_free $((p + 1)) && port_is_free $((p + 2)) && port_is_free $((p + 3)); then echo "$p"; return; fi
  done
  fail "no free port"
}

broker_pid= broker_directory= bootstrap=

# start_broker DIR [KEY=VALUE]...: a release build on free ports; sets bootstrap. A second call with the same DIR keeps its data.
# PORT asks for one port. CORELOG_LISTENERS_MODE=per-core shows clients three brokers, at that port and the next two.
# CORELOG_SUITE_BROKER=oracle starts the real Kafka instead, which shows whether it is the suite that errs.
start_broker() {
  broker_directory=$1
  shift
  mkdir -p "$broker_directory"
  broker_directory=$(cd "$broker_directory" && pwd)
  local port admin pair binary=${CORELOG_BIN:-$root/target/release/corelog} options=()
  port=${PORT:-$(free_port)}
  bootstrap=127.0.0.1:$port
  trap stop_broker EXIT
  if [ "${CORELOG_SUITE_BROKER:-}" = oracle ]; then
    need_oracle "this run against the oracle"
    for pair in "$@"; do options+=(-o "$pair"); done
    broker_pid=oracle
    "$oracle_folder/kafka-up" --port "$port" --dir "$broker_directory/kafka" "${options[@]}" >/dev/null
    broker_data=$broker_directory/kafka/node1/data
    return
  fi
  for pair in "$@"; do options+=(--set "$pair"); done
  admin=$((port + 1))
  if [ -n "${CORELOG_LISTENERS_MODE:-}" ]; then
    admin=$((port + 3))
    options+=(--set "listeners.mode=$CORELOG_LISTENERS_MODE" --set advertised.endpoints=3)
  fi
  [ -x "$binary" ] || fail "$binary is not built"
  : >"$broker_directory/stdout"
  "$binary" start --data-dir "$broker_directory/data" --listen "$bootstrap" --admin "127.0.0.1:$admin" "${options[@]}" \
    >"$broker_directory/stdout" 2>>"$broker_directory/broker.log" </dev/null &
  broker_pid=$!
  broker_data=$broker_directory/data
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    grep -q '^ready:' "$broker_directory/stdout" && return
    kill -0 "$broker_pid" 2>/dev/null || break
    sleep 0.05
  done
  tail -n 30 "$broker_directory/broker.log" >&2
  fail "the broker did not get ready"
}

# Ends the broker as an operator would: it must end by itself, with 0.
stop_broker() {
  local pid=$broker_pid code=0 tries
  broker_pid=
  trap - EXIT
  [ -n "$pid" ] || return 0
  if [ "$pid" = oracle ]; then "$oracle_folder/kafka-down" "$broker_directory/kafka"; return; fi
  kill -TERM "$pid" 2>/dev/null || true
  for ((tries = 0; tries < 600; tries++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
  if kill -0 "$pid" 2>/dev/null; then kill -KILL "$pid"; echo "the broker had to be killed" >&2; fi
  wait "$pid" || code=$?
  [ "$code" = 0 ] || { tail -n 30 "$broker_directory/broker.log" >&2; fail "the broker ended with $code"; }
}

# check_broker_log DIR [ALLOWED]: no WARN or ERROR in it but lines that match ALLOWED.
check_broker_log() {
  local found
  [ -f "$1/broker.log" ] || return 0
  found=$(grep -Ew 'WARN|ERROR|panicked' "$1/broker.log" | grep -Ev -- "${2:-^$}" || true)
  [ -z "$found" ] || { printf 'unexpected lines in the broker log %s:\n%s\n' "$1/broker.log" "$(head -n 20 <<<"$found")" >&2; exit 1; }
}
