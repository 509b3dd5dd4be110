// What Java's client makes of keys and records, for `encodings.rs`: a question a line, an answer a line. Bytes are in hex
// with an x before it, so that empty is not nothing; null is "-".
//
//   murmur2 KEY COUNT                                 -> the hash, and the partition of so many
//   build PRODUCER_ID EPOCH SEQUENCE RECORD...        -> the batch, not compressed; a record is TIMESTAMP/KEY/VALUE[/NAME/VALUE]...
//   read BATCH                                        -> its records, as above; one that is not sound ends the program

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.Utils;

public class Encodings {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            String[] words = line.split(" ");
            System.out.println(switch (words[0]) {
                case "murmur2" -> murmur2(bytes(words[1]), Integer.parseInt(words[2]));
                case "build" -> build(words);
                case "read" -> read(bytes(words[1]));
                default -> throw new IllegalArgumentException(line);
            });
        }
    }

    private static String murmur2(byte[] key, int count) {
        return Utils.murmur2(key) + " " + BuiltInPartitioner.partitionForKey(key, count);
    }

    private static String build(String[] words) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(
            ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2, Compression.NONE, TimestampType.CREATE_TIME, 0L,
            RecordBatch.NO_TIMESTAMP, Long.parseLong(words[1]), Short.parseShort(words[2]), Integer.parseInt(words[3]));
        for (int n = 4; n < words.length; n++) {
            String[] parts = words[n].split("/");
            List<Header> headers = new ArrayList<>();
            for (int at = 3; at < parts.length; at += 2) {
                headers.add(new RecordHeader(new String(bytes(parts[at]), StandardCharsets.UTF_8), bytes(parts[at + 1])));
            }
            builder.append(Long.parseLong(parts[0]), bytes(parts[1]), bytes(parts[2]), headers.toArray(new Header[0]));
        }
        ByteBuffer built = builder.build().buffer();
        byte[] batch = new byte[built.remaining()];
        built.get(batch);
        return HEX.formatHex(batch);
    }

    private static String read(byte[] batch) {
        List<String> records = new ArrayList<>();
        for (RecordBatch each : MemoryRecords.readableRecords(ByteBuffer.wrap(batch)).batches()) {
            each.ensureValid();
            for (Record record : each) {
                record.ensureValid();
                StringBuilder text = new StringBuilder();
                text.append(record.timestamp()).append('/').append(hex(record.key())).append('/').append(hex(record.value()));
                for (Header header : record.headers()) {
                    text.append("/x").append(HEX.formatHex(header.key().getBytes(StandardCharsets.UTF_8)));
                    text.append('/').append(header.value() == null ? "-" : "x" + HEX.formatHex(header.value()));
                }
                records.add(text.toString());
            }
        }
        return String.join(" ", records);
    }

    private static byte[] bytes(String text) {
        return text.equals("-") ? null : HEX.parseHex(text.substring(1));
    }

    private static String hex(ByteBuffer bytes) {
        if (bytes == null) {
            return "-";
        }
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return "x" + HEX.formatHex(copy);
    }
}
