#!/usr/bin/env bash
# Bugs planted in the source (`--cfg corelog_planted="N"`) and, for each, the test that must fail on it: a harness that never
# fails proves nothing.   tools/suites/planted.sh [N]...   without numbers: all
#
# Only the packages of this workspace are built anew for a bug: their compiler is a link to this script (cargo's
# RUSTC_WORKSPACE_WRAPPER) whose name ends with the number, and dependencies are shared.
if [[ $(basename "$0") == rustc-planted-* ]]; then
  number=${0##*-}
  exec "$@" --cfg "corelog_planted=\"$number\""
fi
source "$(dirname "$0")/lib.sh"
cd "$root"
target=${CORELOG_PLANTED_TARGET:-$root/target/planted}
script=$root/tools/suites/planted.sh

# number | what is wrong | what must fail: arguments of the simulator, or `lib`/`log` and the name of a test
table=$(grep -v '^ *#' <<'END'
1   | acknowledged before the flush                        | simulator --seeds 50
1   | the same, of a group of the journal                  | lib log::journal::tests::a_group_counts_only_when_the_device_has_it
2   | the flush is submitted beside its write              | simulator crash-points --path page-cache --operations 60 --subsets 16
2   | the same, of a group of the journal                  | lib log::journal::tests::a_group_counts_only_when_the_device_has_it
2   | the same of whole blocks past the page cache          | simulator crash-points --path direct --operations 60 --subsets 16
14  | the directory is marked clean before the last flush  | simulator crash-points --path page-cache --operations 120 --subsets 4 --seed 2
16  | damage below the recovery point is cut away          | log damage_below_the_recovery_point_is_reported_and_not_cut
17  | epochs outlive the records they came with            | log a_crash_after_any_operation_keeps_what_was_acknowledged_under_fsync
18  | one batch of a producer is remembered                | simulator --seeds 200
23  | an old generation commits offsets                    | lib group::
101 | the journal accepts a group of an earlier lap        | lib log::journal::tests::groups_of_an_earlier_lap_are_not_carried_out
102 | a bypass overtakes what the journal holds            | lib partition::journaling::tests::what_comes_behind_a_bypass_in_flight_waits_for_it
103 | a checkpoint ends without a flush                    | lib partition::journaling::tests::a_checkpoint_releases_nothing_that_is_not_on_the_device
105 | a name is taken while the old log is still open       | lib shard::tests::per_core::a_name_that_is_taken_again_at_once_waits_until_the_old_log_is_closed
106 | a mapped journal releases what no segment has        | lib partition::journaling::tests::mapped::a_checkpoint_releases_nothing_that_is_not_in_the_segments
END
)

# build NUMBER KIND: prints the program to run.
build() {
  local wrapper=$target/rustc-planted-$1
  mkdir -p "$target"
  ln -sf "$script" "$wrapper"
  local cargo=(env RUSTC_WORKSPACE_WRAPPER="$wrapper" CARGO_PROFILE_DEV_DEBUG=0 cargo)
  case $2 in
    simulator)
      "${cargo[@]}" build --quiet --target-dir "$target" -p corelog-simulator >&2
      echo "$target/debug/corelog-simulator"
      ;;
    lib) executable "${cargo[@]}" test --target-dir "$target" --lib ;;
    log) executable "${cargo[@]}" test --target-dir "$target" --test log ;;
  esac
}

# executable CARGO...: the test program that cargo has built.
executable() {
  # The tests of `tests/` build the broker too.
  "$@" --no-run --message-format=json 2>"$target/build.log" | sed -n '/"profile":{[^}]*"test":true}/s/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

failed=0
while IFS='|' read -r number what test; do
  number=$(xargs <<<"$number") what=$(xargs <<<"$what")
  read -r kind arguments <<<"$test"
  [ $# = 0 ] || [[ " $* " == *" $number "* ]] || continue
  start=$SECONDS
  program=$(build "$number" "$kind") && [ -x "$program" ] || { cat "$target/build.log" >&2 || true; fail "bug $number does not build"; }
  log=$target/$number.log code=0
  # shellcheck disable=SC2086
  timeout --foreground 200 "$program" $arguments >"$log" 2>&1 || code=$?
  case $code in
    0) echo "NOT caught: $number, $what: $kind $arguments passes"; failed=1 ;;
    124) echo "NOT caught: $number, $what: $kind $arguments does not end"; failed=1 ;;
    *)
      grep -aEq 'VIOLATION|is lost|panicked at|^ {4}[^ ]|FAILED' "$log" || fail "bug $number: $kind $arguments fails, and not by a check: $(tail -n 3 "$log")"
      echo "caught in $((SECONDS - start)) s: $number, $what: $kind $arguments"
      # What the check said, without the words by which a reader looks for failures.
      grep -aEm1 -A1 'VIOLATION|is lost|committed .* > flushed|panicked at' "$log" | tail -n 1 | cut -c1-160 | sed 's/^ */    /' || true
      ;;
  esac
done <<<"$table"
[ $failed = 0 ] || fail "planted bugs get through"
