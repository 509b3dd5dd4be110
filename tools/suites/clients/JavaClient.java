// The Java client: create, produce (plain and idempotent), a group of two, commit, resume.
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

public class JavaClient {
    static final String TOPIC = "java", GROUP = "java-group";
    static final int PARTITIONS = 3;
    static String bootstrap;

    static Map<String, Object> settings(Object... pairs) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        for (String kind : List.of("key", "value")) {
            settings.put(kind + ".serializer", "org.apache.kafka.common.serialization.StringSerializer");
            settings.put(kind + ".deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        }
        for (int i = 0; i < pairs.length; i += 2) settings.put((String) pairs[i], pairs[i + 1]);
        return settings;
    }

    static void produce(int first, int count, Object... pairs) throws Exception {
        try (Producer<String, String> producer = new KafkaProducer<>(settings(pairs))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = first; n < first + count; n++) {
                sent.add(producer.send(new ProducerRecord<>(TOPIC, n % PARTITIONS, "" + n, "value " + n)));
            }
            for (Future<RecordMetadata> future : sent) future.get();
        }
    }

    static boolean committed(Admin admin, long end) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get();
        return offsets.size() == PARTITIONS && offsets.values().stream().allMatch(o -> o != null && o.offset() == end);
    }

    /** Until the group has committed {@code end} in every partition: a member that a rebalance gives a partition of which another
     * has read and not committed begins there again, so that all values may have been seen with something left to read. */
    static void read(Admin admin, int members, int first, int count, long end, String assignor) throws Exception {
        Set<String> wanted = new HashSet<>(), seen = new HashSet<>();
        for (int n = first; n < first + count; n++) wanted.add("value " + n);
        List<Consumer<String, String>> consumers = new ArrayList<>();
        for (int m = 0; m < members; m++) {
            Consumer<String, String> consumer = new KafkaConsumer<>(settings("group.id", GROUP, "auto.offset.reset", "earliest",
                "enable.auto.commit", false, "session.timeout.ms", 6000, "heartbeat.interval.ms", 500,
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor));
            consumer.subscribe(List.of(TOPIC));
            consumers.add(consumer);
        }
        long giveUp = System.nanoTime() + 60_000_000_000L;
        while (!seen.containsAll(wanted) || consumers.stream().anyMatch(c -> c.assignment().isEmpty()) || !committed(admin, end)) {
            if (System.nanoTime() > giveUp) throw new IllegalStateException("read " + seen.size() + " of " + count);
            for (Consumer<String, String> consumer : consumers) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) seen.add(record.value());
                try {
                    consumer.commitSync();
                } catch (CommitFailedException | RebalanceInProgressException e) {
                    // What was read is read again by whoever has the partition then.
                }
            }
        }
        if (!seen.equals(wanted)) throw new IllegalStateException("other values than were sent: " + seen.size());
        consumers.forEach(Consumer::close);
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        try (Admin admin = Admin.create(settings())) {
            admin.createTopics(List.of(new NewTopic(TOPIC, PARTITIONS, (short) 1))).all().get();
            produce(0, 150, "enable.idempotence", false);
            produce(150, 150, "enable.idempotence", true, "compression.type", "zstd");
            read(admin, 2, 0, 300, 100, "CooperativeStickyAssignor");
            produce(300, 30);
            read(admin, 1, 300, 30, 110, "CooperativeStickyAssignor");
            Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
            for (int p = 0; p < PARTITIONS; p++) ends.put(new TopicPartition(TOPIC, p), OffsetSpec.latest());
            admin.listOffsets(ends).all().get();
            admin.deleteConsumerGroups(List.of(GROUP)).all().get();
            admin.deleteTopics(List.of(TOPIC)).all().get();
        }
    }
}
