#!/usr/bin/env bash
# kcat.sh HOST:PORT: metadata, produce, consume, keys, headers, groups, times and idempotence with kcat.
source "$(dirname "$0")/lib.sh"
need kcat kcat
b=$1
kcat_() { timeout --foreground 30 kcat -b "$b" -X broker.address.family=v4 "$@"; }

expect "$(seq 1000 | kcat_ -P -t kcat-plain 2>&1; kcat_ -L -t kcat-plain)" 'topic "kcat-plain" with [0-9]+ partitions'
expect "$(kcat_ -C -t kcat-plain -o beginning -e -q | sort -n | md5sum)" "^$(seq 1000 | md5sum | cut -c1-32)"
echo "plain: 1000 records there and back"

printf 'a:1\nb:2\na:3\n' | kcat_ -P -t kcat-keyed -p 0 -K : -H origin=kcat -X enable.idempotence=true
expect "$(kcat_ -C -t kcat-keyed -p 0 -e -q -f '%o %k=%s %h;')" '^0 a=1 origin=kcat;1 b=2 origin=kcat;2 a=3 origin=kcat;$'
expect "$(kcat_ -C -t kcat-keyed -p 0 -o -1 -e -q -f '%o %k=%s')" '^2 a=3$'
echo "keys, headers, idempotence, tail offsets: as sent"

for codec in gzip snappy lz4 zstd; do
  seq 5000 | kcat_ -P -t "kcat-$codec" -p 0 -z "$codec"
  expect "$(kcat_ -C -t "kcat-$codec" -p 0 -e -q | md5sum)" "^$(seq 5000 | md5sum | cut -c1-32)"
done
echo "gzip, snappy, lz4, zstd: unchanged"

expect "$(kcat_ -Q -t kcat-keyed:0:-1)" 'kcat-keyed \[0\] offset 3'
expect "$(kcat_ -Q -t kcat-keyed:0:-2)" 'kcat-keyed \[0\] offset 0'
expect "$(kcat_ -Q -t kcat-keyed:0:1000)" 'kcat-keyed \[0\] offset 0'
echo "queries by time: first, last, at or after"

group() { kcat_ -G kcat-group -X auto.offset.reset=earliest -X session.timeout.ms=6000 -q "$@" kcat-plain; }
read1=$(group -c 400)
read2=$(group -e -c 600)
expect "$(printf '%s\n%s\n' "$read1" "$read2" | sort -n | uniq | wc -l)" '^1000$'
echo "group: 400, then the other 600"
