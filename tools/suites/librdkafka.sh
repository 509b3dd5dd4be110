#!/usr/bin/env bash
# librdkafka.sh HOST:PORT: librdkafka's own test programs, without -Q, which would skip every sub-test.
# TESTS=0001,0002 runs others, PARALLEL=1 one at a time. The sources come with an npm package; they are built once and kept.
source "$(dirname "$0")/lib.sh"
need_oracle "librdkafka's own tests (they call Kafka's tools)"
package=@confluentinc/kafka-javascript@1.10.1
tests=${TESTS:-0001,0002,0005,0008,0011,0012,0015,0017,0018,0022,0026,0029,0030,0031,0033,0034,0041,0054,0055,0061,0073,0082,0085,0090}
folder=$cache/librdkafka-${package##*@}-without-transactions
if [ ! -x "$folder/tests/test-runner" ]; then
  need npm npm
  need g++ g++
  need make make
  rm -rf "$folder" "$folder.npm"
  mkdir -p "$folder.npm" "$folder"
  (cd "$folder.npm" && npm pack --silent "$package" >/dev/null)
  tar xzf "$folder.npm"/*.tgz -C "$folder" --strip-components=3 package/deps/librdkafka
  rm -rf "$folder.npm"
  chmod +x "$folder/configure" "$folder"/*.sh "$folder"/*.py
  # Two of the programs also try transactions; the rest of them counts.
  sed -i '/{"transactions (35ms)",/,+3d' "$folder/tests/0055-producer_latency.c"
  sed -i 's/if (test_broker_version >= TEST_BRKVER(0, 11, 0, 0))/if (0)/' "$folder/tests/0061-consumer_lag.cpp"
  (cd "$folder" && ./configure --disable-ssl --disable-gssapi --disable-curl && make -j"$(nproc)" -C src &&
    make -j"$(nproc)" -C src-cpp && make -j"$(nproc)" -C tests test-runner) >"$folder.log" 2>&1 || { tail -n 30 "$folder.log"; fail "librdkafka does not build"; }
fi
cd "$folder/tests"
echo "skipped: the transactional parts of 0055 and 0061 because transactions are not served yet"
printf 'bootstrap.servers=%s\nbroker.address.family=v4\n' "$1" >test.conf

code=0
LD_LIBRARY_PATH=../src:../src-cpp KAFKA_PATH=$oracle_folder TEST_KAFKA_VERSION=4.0.0 TESTS=$tests \
  timeout --foreground "${SECONDS_MAX:-1200}" ./test-runner "-p${PARALLEL:-4}" 2>&1 | sed -u 's/\x1b\[[0-9;]*m//g' >"$folder.out" || code=$?
grep -aoE '=+ Test [0-9]{4}[^ ]* (PASSED|FAILED|SKIPPED)' "$folder.out" | tr -d = || true
grep -aE '^### Test' "$folder.out" || true
# For whoever wants to try these again, on a fresh broker.
grep -aoE '^### Test "[0-9]{4}' "$folder.out" | grep -oE '[0-9]{4}$' | sort -u | paste -sd, >"${FAILED_LIST:-/dev/null}" || true
[ $code = 0 ] || { tail -n 3 "$folder.out"; fail "librdkafka's test runner ended with $code; its whole output: $folder.out"; }
