//! The four codecs of record batches: decompression under hard bounds, and compression for producers. The broker passes
//! compressed batches through; it looks inside only where the protocol asks for it (lookup by timestamp, compacted topics,
//! the dump tool).
//!
//! | codec  | attribute | form                                                                              |
//! |--------|-----------|-----------------------------------------------------------------------------------|
//! | gzip   | 1         | RFC 1952                                                                          |
//! | snappy | 2         | the Java client: xerial blocks behind a magic; librdkafka and others: raw snappy  |
//! | lz4    | 3         | LZ4 frame                                                                         |
//! | zstd   | 4         | RFC 8878                                                                          |
//!
//! Source: Kafka documentation, "Message Format"; xerial/snappy-java, `SnappyCodec`.

use std::fmt;
use std::io::{self, Read, Write};

/// Bits 0 to 2 of a batch's attributes.
const CODEC_MASK: i16 = 0x07;

/// `SnappyCodec`'s magic; after it stand two big-endian `i32`: version and lowest compatible version, which readers
/// do not look at (old writers filled them in little-endian).
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0x00];
const XERIAL_HEADER_BYTES: usize = 16;
const _: () = assert!(XERIAL_HEADER_BYTES == XERIAL_MAGIC.len() + 2 * size_of::<i32>());

/// Output grows by this much at a time, so that a false length field never reserves more than real bytes fill.
const CHUNK_BYTES: usize = 64 * 1024;

/// How a batch's records are packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// The codec that a batch's attributes name. Errors: `UnknownCodec` for 5, 6 and 7.
    pub fn from_attributes(attributes: i16) -> Result<Codec, CompressionError> {
        match attributes & CODEC_MASK {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            id => Err(CompressionError::UnknownCodec { id: id as u8 }),
        }
    }

    /// The codec's bits in a batch's attributes.
    pub fn attribute_bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Kafka's name of the codec, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// What a batch may become when it is unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecompressBounds {
    /// The output is never longer, whatever the input claims.
    pub output_bytes_max: usize,
    /// Output bytes for each input byte; inputs whose output stays within 64 KiB are not held to it.
    pub ratio_max: usize,
}

impl DecompressBounds {
    fn output_bytes_max_for(&self, input_bytes: usize) -> usize {
        self.output_bytes_max.min(input_bytes.saturating_mul(self.ratio_max).max(CHUNK_BYTES))
    }
}

/// Why a batch could not be unpacked.
#[derive(Debug)]
pub enum CompressionError {
    /// The attributes name no codec.
    UnknownCodec { id: u8 },
    /// The output would pass `output_bytes_max`, or `ratio_max` for an input of this length.
    TooLarge { output_bytes_max: usize },
    /// The bytes are not what the codec writes.
    Corrupt { codec: Codec, cause: io::Error },
    /// Raw snappy, or a block of the xerial form, does not decode.
    CorruptSnappy { cause: snap::Error },
    /// The codec failed to pack.
    Pack { codec: Codec, cause: io::Error },
    /// The xerial form ends inside its header or a block, or a block's length is negative.
    CorruptXerial { position: usize },
}

impl fmt::Display for CompressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressionError::UnknownCodec { id } => write!(f, "no codec has the number {id}"),
            CompressionError::TooLarge { output_bytes_max } => {
                write!(f, "unpacked records pass the bound of {output_bytes_max} bytes")
            }
            CompressionError::Corrupt { codec, .. } => write!(f, "decompress {}", codec.name()),
            CompressionError::CorruptSnappy { .. } => f.write_str("decompress snappy"),
            CompressionError::Pack { codec, .. } => write!(f, "compress {}", codec.name()),
            CompressionError::CorruptXerial { position } => {
                write!(f, "snappy block at byte {position} is cut")
            }
        }
    }
}

impl std::error::Error for CompressionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CompressionError::Corrupt { cause, .. } | CompressionError::Pack { cause, .. } => Some(cause),
            CompressionError::CorruptSnappy { cause } => Some(cause),
            CompressionError::UnknownCodec { .. }
            | CompressionError::TooLarge { .. }
            | CompressionError::CorruptXerial { .. } => None,
        }
    }
}

/// What the Java client puts into one block of snappy. Source: xerial/snappy-java, `SnappyOutputStream`.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// Appends the packed form of a batch's records to `out`; snappy in the Java client's form. `level` is for gzip and zstd,
/// which have a default of their own.
pub fn compress(
    codec: Codec,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let packed = |cause| CompressionError::Pack { codec, cause };
    match codec {
        Codec::None => out.extend_from_slice(input),
        Codec::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut writer = flate2::write::GzEncoder::new(out, level);
            writer.write_all(input).and_then(|()| writer.finish()).map_err(packed)?;
        }
        Codec::Snappy => {
            out.extend_from_slice(&XERIAL_MAGIC);
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            let mut encoder = snap::raw::Encoder::new();
            for block in input.chunks(XERIAL_BLOCK_BYTES) {
                let length_at = out.len();
                let start = length_at + 4;
                out.resize(start + snap::raw::max_compress_len(block.len()), 0);
                let length =
                    encoder.compress(block, &mut out[start..]).map_err(|cause| packed(cause.into()))?;
                let length_bytes = i32::try_from(length).expect("a block is 32 KiB").to_be_bytes();
                out[length_at..start].copy_from_slice(&length_bytes);
                out.truncate(start + length);
            }
        }
        Codec::Lz4 => {
            // Independent blocks of 64 KiB, as the Java client's: its reader takes no others.
            let blocks = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut writer = lz4_flex::frame::FrameEncoder::with_frame_info(blocks, out);
            writer.write_all(input).map_err(packed)?;
            writer.finish().map_err(|cause| packed(io::Error::other(cause)))?;
        }
        Codec::Zstd => {
            let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            zstd::stream::copy_encode(input, out, level).map_err(packed)?;
        }
    }
    Ok(())
}

/// Unpacks the records part of a batch into `out`, which is cleared first and holds a part of the output on error.
/// Bytes: `out` never grows past the bounds.
pub fn decompress(
    codec: Codec,
    input: &[u8],
    bounds: DecompressBounds,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    out.clear();
    let output_bytes_max = bounds.output_bytes_max_for(input.len());
    match codec {
        Codec::None => {
            if input.len() > bounds.output_bytes_max {
                return Err(CompressionError::TooLarge { output_bytes_max: bounds.output_bytes_max });
            }
            out.extend_from_slice(input);
            Ok(())
        }
        // Several members in a row are one stream in RFC 1952, and Java's GZIPInputStream reads them so.
        Codec::Gzip => {
            read_bounded(codec, flate2::bufread::MultiGzDecoder::new(input), output_bytes_max, out)
        }
        Codec::Snappy => unsnap(input, output_bytes_max, out),
        Codec::Lz4 => {
            // The decoder takes the end of its input between two blocks for the end of the frame.
            let mut source = EndWatch { rest: input, passed: false };
            read_bounded(codec, lz4_flex::frame::FrameDecoder::new(&mut source), output_bytes_max, out)?;
            if source.passed {
                return Err(CompressionError::Corrupt { codec, cause: io::ErrorKind::UnexpectedEof.into() });
            }
            Ok(())
        }
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(input)
                .map_err(|cause| CompressionError::Corrupt { codec, cause })?;
            read_bounded(codec, decoder, output_bytes_max, out)
        }
    }
}

fn read_bounded(
    codec: Codec,
    mut source: impl Read,
    output_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    loop {
        // One byte beyond the bound is asked for: a decoder that has it proves the output too large.
        let filled = out.len();
        let step = CHUNK_BYTES.min(output_bytes_max + 1 - filled);
        out.resize(filled + step, 0);
        let read = loop {
            match source.read(&mut out[filled..]) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = match read {
            Ok(read) => read,
            Err(cause) => {
                out.truncate(filled);
                return Err(CompressionError::Corrupt { codec, cause });
            }
        };
        out.truncate(filled + read);
        if read == 0 {
            return Ok(());
        }
        if out.len() > output_bytes_max {
            out.truncate(output_bytes_max);
            return Err(CompressionError::TooLarge { output_bytes_max });
        }
    }
}

/// A slice that remembers whether somebody asked for more than it has.
struct EndWatch<'a> {
    rest: &'a [u8],
    passed: bool,
}

impl Read for EndWatch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.passed |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

fn unsnap(input: &[u8], output_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    if !input.starts_with(&XERIAL_MAGIC) {
        return unsnap_block(input, output_bytes_max, out);
    }
    let mut position = XERIAL_HEADER_BYTES;
    if input.len() < position {
        return Err(CompressionError::CorruptXerial { position: 0 });
    }
    while position < input.len() {
        let cut = CompressionError::CorruptXerial { position };
        let Some((length, rest)) = input[position..].split_first_chunk::<4>() else {
            return Err(cut);
        };
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            return Err(cut);
        };
        let Some(block) = rest.get(..length) else {
            return Err(cut);
        };
        unsnap_block(block, output_bytes_max, out)?;
        position += 4 + length;
    }
    Ok(())
}

fn unsnap_block(block: &[u8], output_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let corrupt = |cause| CompressionError::CorruptSnappy { cause };
    let block_bytes = snap::raw::decompress_len(block).map_err(corrupt)?;
    // Snappy needs its whole output reserved ahead, so the claimed length is held to the bounds before it is believed.
    if block_bytes > output_bytes_max.saturating_sub(out.len()) {
        return Err(CompressionError::TooLarge { output_bytes_max });
    }
    let filled = out.len();
    out.resize(filled + block_bytes, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[filled..]);
    out.truncate(filled + written.as_ref().map_or(0, |bytes| *bytes));
    written.map(drop).map_err(corrupt)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    const ROOMY: DecompressBounds = DecompressBounds { output_bytes_max: 8 << 20, ratio_max: 100_000 };

    /// Packs as clients do; snappy raw, as librdkafka does.
    pub(crate) fn compress(codec: Codec, input: &[u8]) -> Vec<u8> {
        match codec {
            Codec::None => input.to_vec(),
            Codec::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                writer.write_all(input).unwrap();
                writer.finish().unwrap()
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(input).unwrap(),
            Codec::Lz4 => {
                let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
                writer.write_all(input).unwrap();
                writer.finish().unwrap()
            }
            Codec::Zstd => zstd::stream::encode_all(input, 3).unwrap(),
        }
    }

    fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = XERIAL_MAGIC.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for block in blocks {
            let block = compress(Codec::Snappy, block);
            bytes.extend_from_slice(&(block.len() as i32).to_be_bytes());
            bytes.extend_from_slice(&block);
        }
        bytes
    }

    fn unpack(codec: Codec, input: &[u8], bounds: DecompressBounds) -> Result<Vec<u8>, CompressionError> {
        let mut out = b"old contents".to_vec();
        let result = decompress(codec, input, bounds, &mut out);
        assert!(out.len() <= bounds.output_bytes_max, "{} bytes pass the bound", out.len());
        result.map(|()| out)
    }

    #[test]
    fn every_codec_round_trips() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for length in [0, 1, 100, CHUNK_BYTES, CHUNK_BYTES + 1, text.len()] {
                let packed = compress(codec, &text[..length]);
                let unpacked = unpack(codec, &packed, ROOMY).unwrap();
                assert!(unpacked == text[..length], "{codec:?} with {length} bytes");
            }
            assert_eq!(Codec::from_attributes(codec.attribute_bits() | 0x78).unwrap(), codec);
        }
        assert!(matches!(Codec::from_attributes(7), Err(CompressionError::UnknownCodec { id: 7 })));
    }

    #[test]
    fn what_a_producer_packs_is_unpacked() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for (length, level) in [(0, None), (1, Some(1)), (CHUNK_BYTES + 1, Some(9)), (text.len(), None)] {
                let mut packed = b"kept".to_vec();
                super::compress(codec, level, &text[..length], &mut packed).unwrap();
                assert_eq!(&packed[..4], b"kept");
                assert!(length < 100_000 || codec == Codec::None || packed.len() < length / 2);
                let unpacked = unpack(codec, &packed[4..], ROOMY).unwrap();
                assert!(unpacked == text[..length], "{codec:?} with {length} bytes");
            }
        }
    }

    #[test]
    fn both_forms_of_snappy_are_recognised() {
        assert_eq!(unpack(Codec::Snappy, &xerial(&[b"one ", b"two"]), ROOMY).unwrap(), b"one two");
        assert_eq!(unpack(Codec::Snappy, &xerial(&[]), ROOMY).unwrap(), b"");
        assert_eq!(unpack(Codec::Snappy, &compress(Codec::Snappy, b"one"), ROOMY).unwrap(), b"one");
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let two = [compress(Codec::Gzip, b"one "), compress(Codec::Gzip, b"two")].concat();
        assert_eq!(unpack(Codec::Gzip, &two, ROOMY).unwrap(), b"one two");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let zeros = vec![0u8; 4 << 20];
        for codec in ALL {
            let packed = compress(codec, &zeros);
            let by_size = DecompressBounds { output_bytes_max: 1 << 20, ratio_max: usize::MAX };
            assert!(
                matches!(unpack(codec, &packed, by_size), Err(CompressionError::TooLarge { output_bytes_max }) if output_bytes_max == 1 << 20),
                "{codec:?}"
            );
            let by_ratio = DecompressBounds { output_bytes_max: 64 << 20, ratio_max: 2 };
            assert!(
                matches!(unpack(codec, &packed, by_ratio), Err(CompressionError::TooLarge { .. })),
                "{codec:?}"
            );
            let exact = DecompressBounds { output_bytes_max: zeros.len(), ratio_max: usize::MAX };
            assert_eq!(unpack(codec, &packed, exact).unwrap().len(), zeros.len(), "{codec:?}");
        }
        let blocks = xerial(&[&zeros[..1 << 19], &zeros[..1 << 19], &zeros[..1 << 19]]);
        let bounds = DecompressBounds { output_bytes_max: 1 << 20, ratio_max: usize::MAX };
        assert!(matches!(unpack(Codec::Snappy, &blocks, bounds), Err(CompressionError::TooLarge { .. })));
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        // Raw snappy that claims 2 GiB in five bytes.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
        assert!(matches!(unpack(Codec::Snappy, &claim, ROOMY), Err(CompressionError::TooLarge { .. })));
        let uncompressed = DecompressBounds { output_bytes_max: 3, ratio_max: 1 };
        assert!(matches!(unpack(Codec::None, b"four", uncompressed), Err(CompressionError::TooLarge { .. })));
    }

    #[test]
    fn cut_and_false_input_is_an_error() {
        for codec in ALL {
            let packed = compress(codec, b"some records, some records, some records");
            for cut in 1..packed.len() {
                assert!(unpack(codec, &packed[..cut], ROOMY).is_err(), "{codec:?} cut at {cut}");
            }
            assert!(unpack(codec, b"\xffnot packed at all", ROOMY).is_err(), "{codec:?}");
        }
        let blocks = xerial(&[b"one", b"two"]);
        let whole = blocks.len();
        for cut in [8, 15, 17, 19, 21, whole - 1] {
            assert!(unpack(Codec::Snappy, &blocks[..cut], ROOMY).is_err(), "xerial cut at {cut}");
        }
        let mut negative = blocks;
        negative[16] = 0xff;
        assert!(matches!(
            unpack(Codec::Snappy, &negative, ROOMY),
            Err(CompressionError::CorruptXerial { position: 16 })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn packed_bytes_unpack_to_themselves(input in proptest::collection::vec(any::<u8>(), 0..4000)) {
            for codec in ALL {
                let unpacked = unpack(codec, &compress(codec, &input), ROOMY).unwrap();
                prop_assert_eq!(&unpacked, &input);
            }
        }

        #[test]
        fn any_bytes_end_within_the_bound(input in proptest::collection::vec(any::<u8>(), 0..400), flip in any::<prop::sample::Index>(), bit in 0u8..8) {
            let bounds = DecompressBounds { output_bytes_max: 10_000, ratio_max: 50 };
            for codec in ALL {
                let _ = unpack(codec, &input, bounds);
                let mut packed = compress(codec, &input);
                let at = flip.index(packed.len());
                packed[at] ^= 1 << bit;
                let _ = unpack(codec, &packed, bounds);
            }
        }
    }
}
