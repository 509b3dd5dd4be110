#!/usr/bin/env bash
# powercut.sh [godown|device|expect-loss|all]: power cuts on the real kernel (tools/powercut), a few of each by default.
#   godown       shuts ext4 and XFS down under load: nothing acknowledged may be lost
#   device       takes the volatile cache of a disk of our own, fails its writes and flushes, lets it stand still
#   expect-loss  the same where nothing is flushed: losses must be found, or the two above prove nothing
# Sizes and choices, for the large runs too:
#   CUTS=500 POWERCUT_PATHS=journal,direct,page-cache tools/suites/powercut.sh godown
#   CUTS=100 EIO=10 STALLS=5 tools/suites/powercut.sh device
#   POWERCUT_SEED=7 repeats a run; POWERCUT_OPTIONS="--cores 1 --partitions 200" goes to the tool as it is
#   CORELOG_BIN is the broker; PLANTED_BIN one built with RUSTFLAGS='--cfg corelog_planted="104"', whose writes go without their
#   flush: expect-loss then must catch it with each write path.
source "$(dirname "$0")/lib.sh"
what=${1:-all}
paths=${POWERCUT_PATHS:-journal,direct,page-cache}
broker=${CORELOG_BIN:-$root/target/release/corelog}
tool=${POWERCUT_BIN:-$root/target/release/corelog-powercut}

[ "$(id -u)" = 0 ] || skip "power cuts because they need root: loop devices and mounts"
[ -e /dev/loop-control ] || skip "power cuts because there are no loop devices"
need mkfs.ext4 e2fsprogs
need mkfs.xfs xfsprogs
unshare --mount true 2>/dev/null || skip "power cuts because this process may not make a mount namespace"
[ -x "$broker" ] || fail "$broker is not built"
[ -n "${POWERCUT_BIN:-}" ] || (cd "$root" && cargo build --release -p corelog-powercut)

options=()
[ -z "${POWERCUT_SEED:-}" ] || options+=(--seed "$POWERCUT_SEED")
# shellcheck disable=SC2206 # words, on purpose
options+=(${POWERCUT_OPTIONS:-})
# Where images lie: memory if there is enough of it, since the host's own disk adds nothing but waiting.
if [ -z "${POWERCUT_DIR:-}" ] && [ "$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -n 1)" -gt 4096 ] 2>/dev/null; then
  POWERCUT_DIR=/dev/shm
fi
[ -z "${POWERCUT_DIR:-}" ] || options+=(--dir "$POWERCUT_DIR")

# powercut HARNESS [OPTION]...: against $broker.
powercut() { echo "== corelog-powercut $* --broker $broker"; "$tool" "$@" --broker "$broker"; }
need_fuse() { [ -e /dev/fuse ] || skip "power cuts on a disk of our own because there is no /dev/fuse"; }

godown() { powercut godown "${options[@]}" --path "$paths" --cuts "${CUTS:-12}"; }
device() {
  need_fuse
  powercut device "${options[@]}" --path "$paths" --cuts "${CUTS:-6}" \
    --eio-writes "${EIO:-1}" --eio-flushes "${EIO:-1}" --stalls "${STALLS:-1}"
}
expect_loss() {
  powercut godown "${options[@]}" --cuts "${CUTS:-2}" --path page-cache --durability os --expect-loss
  need_fuse
  local path
  for path in ${paths//,/ }; do
    powercut device "${options[@]}" --cuts "${CUTS:-2}" --path "$path" --lying-disk --expect-loss
    [ -z "${PLANTED_BIN:-}" ] ||
      broker=$PLANTED_BIN powercut device "${options[@]}" --cuts "${CUTS:-20}" --path "$path" --expect-loss
  done
}

case $what in
  godown) godown ;;
  device) device ;;
  expect-loss) expect_loss ;;
  all) godown && expect_loss && device ;;
  *) fail "godown, device, expect-loss or all, not $what" ;;
esac
