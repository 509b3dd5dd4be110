// What Java's assignors make of groups with racks, for `assignors.rs`: a question a line, an answer a line.
//
//   ASSIGNOR TOPIC... / MEMBER...    -> MEMBER=TOPIC-PARTITION,... for each member, by name
//
// A topic is NAME=RACKS|RACKS|..., the racks of each partition's replicas, a letter each. A member is ID@RACK=TOPIC,...; its
// rack is a letter, or "-" for none.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.AbstractPartitionAssignor;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;

public class Assignments {
    public static void main(String[] arguments) throws Exception {
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            System.out.println(answer(line.split(" ")));
        }
    }

    private static String answer(String[] words) {
        AbstractPartitionAssignor assignor = switch (words[0]) {
            case "range" -> new RangeAssignor();
            case "sticky" -> new StickyAssignor();
            default -> throw new IllegalArgumentException(words[0]);
        };
        Map<String, List<PartitionInfo>> topics = new TreeMap<>();
        Map<String, Subscription> members = new TreeMap<>();
        boolean isMember = false;
        for (String word : List.of(words).subList(1, words.length)) {
            int equals = word.indexOf('=');
            if (word.equals("/")) {
                isMember = true;
            } else if (isMember) {
                int at = word.indexOf('@');
                String rack = word.substring(at + 1, equals);
                String wish = word.substring(equals + 1);
                List<String> wished = wish.isEmpty() ? List.of() : List.of(wish.split(","));
                members.put(word.substring(0, at), new Subscription(wished, null, Collections.emptyList(), -1,
                    rack.equals("-") ? Optional.empty() : Optional.of(rack)));
            } else {
                topics.put(word.substring(0, equals), partitions(word.substring(0, equals), word.substring(equals + 1)));
            }
        }
        return new TreeMap<>(assignor.assignPartitions(topics, members)).entrySet().stream()
            .map(entry -> entry.getKey() + "=" + entry.getValue().stream().map(Object::toString).collect(Collectors.joining(",")))
            .collect(Collectors.joining(" "));
    }

    private static List<PartitionInfo> partitions(String topic, String racks) {
        List<PartitionInfo> partitions = new ArrayList<>();
        for (String each : racks.split("\\|", -1)) {
            Node[] replicas = each.chars().mapToObj(c -> new Node(c, "b", 1, String.valueOf((char) c))).toArray(Node[]::new);
            Node leader = replicas.length == 0 ? null : replicas[0];
            partitions.add(new PartitionInfo(topic, partitions.size(), leader, replicas, replicas));
        }
        return partitions;
    }
}
