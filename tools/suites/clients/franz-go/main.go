// franz-go: create, produce (idempotent, which is its default, and plain), a group of two, commit, resume.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	topic      = "franz-go"
	group      = "franz-go-group"
	partitions = 3
)

var ctx, _ = context.WithTimeout(context.Background(), 90*time.Second)

func client(options ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(os.Args[1]))...)
	check(err)
	return c
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func produce(first, count int, options ...kgo.Opt) {
	c := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	defer c.Close()
	for n := first; n < first+count; n++ {
		r := &kgo.Record{Topic: topic, Partition: int32(n % partitions), Key: fmt.Appendf(nil, "%d", n), Value: fmt.Appendf(nil, "value %d", n)}
		c.Produce(ctx, r, func(_ *kgo.Record, err error) { check(err) })
	}
	check(c.Flush(ctx))
}

func committed(admin *kadm.Client, end int64) bool {
	offsets, err := admin.FetchOffsets(ctx, group)
	check(err)
	for p := range int32(partitions) {
		if o, ok := offsets.Lookup(topic, p); !ok || o.At != end {
			return false
		}
	}
	return true
}

// Until the group has committed end in every partition: a member that a rebalance gives a partition of which another has read
// and not committed begins there again, so that all values may have been seen with something left to read.
func read(admin *kadm.Client, members, first, count int, end int64) {
	seen := map[string]bool{}
	var clients []*kgo.Client
	for range members {
		clients = append(clients, client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
	}
	for len(seen) < count || !committed(admin, end) {
		for _, c := range clients {
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			fetches := c.PollFetches(short)
			cancel()
			check(ctx.Err())
			fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
			// Refused while the group rebalances: what was read is read again by whoever has the partition then.
			_ = c.CommitUncommittedOffsets(ctx)
		}
	}
	for n := first; n < first+count; n++ {
		if !seen[fmt.Sprintf("value %d", n)] {
			log.Fatalf("value %d is missing", n)
		}
	}
	for _, c := range clients {
		c.Close()
	}
	if len(seen) != count {
		log.Fatalf("%d values instead of %d", len(seen), count)
	}
}

func main() {
	admin := kadm.NewClient(client())
	defer admin.Close()
	_, err := admin.CreateTopic(ctx, partitions, 1, nil, topic)
	check(err)
	produce(0, 150, kgo.DisableIdempotentWrite())
	produce(150, 150, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	read(admin, 2, 0, 300, 100)
	produce(300, 30)
	read(admin, 1, 300, 30, 110)
	lag, err := admin.Lag(ctx, group)
	check(err)
	if total := lag[group].Lag.Total(); total != 0 {
		log.Fatalf("a lag of %d", total)
	}
	_, err = admin.DeleteTopics(ctx, topic)
	check(err)
}
