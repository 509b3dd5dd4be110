// Sarama: create, produce (plain and idempotent), a group of two, commit, resume.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	topic      = "sarama"
	group      = "sarama-group"
	partitions = 3
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V4_0_0_0
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

func produce(first, count int, idempotent bool) {
	c := config()
	if idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
		c.Producer.Compression = sarama.CompressionLZ4
	}
	p, err := sarama.NewSyncProducer([]string{os.Args[1]}, c)
	check(err)
	var messages []*sarama.ProducerMessage
	for n := first; n < first+count; n++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: int32(n % partitions),
			Key: sarama.StringEncoder(fmt.Sprint(n)), Value: sarama.StringEncoder(fmt.Sprintf("value %d", n))})
	}
	check(p.SendMessages(messages))
	check(p.Close())
}

type handler struct {
	mutex sync.Mutex
	seen  map[string]bool
	count int
	done  chan struct{}
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h *handler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		h.mutex.Lock()
		before := len(h.seen)
		h.seen[string(m.Value)] = true
		s.MarkMessage(m, "")
		if before != h.count && len(h.seen) == h.count {
			close(h.done)
		}
		h.mutex.Unlock()
	}
	return nil
}

func committed(admin sarama.ClusterAdmin, end int64) bool {
	answer, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2}})
	check(err)
	for p := range int32(partitions) {
		if block := answer.GetBlock(topic, p); block == nil || block.Offset != end {
			return false
		}
	}
	return true
}

// Until the group has committed end in every partition: a member that a rebalance gives a partition of which another has read
// and not committed begins there again, so that all values may have been seen with something left to read.
func read(admin sarama.ClusterAdmin, members, first, count int, end int64) {
	h := &handler{seen: map[string]bool{}, count: count, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range members {
		g, err := sarama.NewConsumerGroup([]string{os.Args[1]}, group, config())
		check(err)
		running.Go(func() {
			for ctx.Err() == nil {
				check(g.Consume(ctx, []string{topic}, h))
			}
			check(g.Close())
		})
	}
	select {
	case <-h.done:
	case <-time.After(60 * time.Second):
		log.Fatalf("read %d of %d", len(h.seen), count)
	}
	for giveUp := time.Now().Add(60 * time.Second); !committed(admin, end); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(giveUp) {
			log.Fatalf("all was read, and not all of it committed")
		}
	}
	cancel()
	running.Wait()
	for n := first; n < first+count; n++ {
		if !h.seen[fmt.Sprintf("value %d", n)] {
			log.Fatalf("value %d is missing", n)
		}
	}
}

func main() {
	admin, err := sarama.NewClusterAdmin([]string{os.Args[1]}, config())
	check(err)
	check(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	produce(0, 150, false)
	produce(150, 150, true)
	read(admin, 2, 0, 300, 100)
	produce(300, 30, true)
	read(admin, 1, 300, 30, 110)
	check(admin.DeleteTopic(topic))
	check(admin.Close())
}
