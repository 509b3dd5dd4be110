//! Random bodies of messages, made from their shapes: every length, null and tag as the version has it.

use corelog::protocol::shape::{FieldShape, Shape};
use corelog::protocol::{ApiKey, Format};

/// A seeded stream of numbers (SplitMix64; Steele, Lea, Flood: Fast splittable pseudorandom number generators).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }
}

/// The payload of tagged fields that no schema knows.
pub const UNKNOWN_TAG_PAYLOAD: &[u8] = b"\xde\xad\xbe\xef\xde\xad";

/// Makes one body.
pub struct Generator<'r> {
    random: &'r mut Random,
    format: Format,
    /// Adds this tag, where the struct does not know it, to every struct.
    unknown_tag: Option<u32>,
    /// How many structs got the unknown tag.
    pub unknown_tags_written: usize,
    out: Vec<u8>,
}

impl<'r> Generator<'r> {
    pub fn new(api: ApiKey, version: i16, random: &'r mut Random) -> Generator<'r> {
        let format = api.format(version).expect("the caller picks a version that is served");
        Generator { random, format, unknown_tag: None, unknown_tags_written: 0, out: Vec::new() }
    }

    pub fn with_unknown_tag(mut self, tag: u32) -> Generator<'r> {
        self.unknown_tag = Some(tag);
        self
    }

    /// The bytes of one value of this shape, and how many unknown tags are in it.
    pub fn body(mut self, shape: Shape) -> (Vec<u8>, usize) {
        self.value(shape);
        (self.out, self.unknown_tags_written)
    }

    fn value(&mut self, shape: Shape) {
        match shape {
            Shape::Bool => {
                let byte = self.random.below(2) as u8;
                self.out.push(byte);
            }
            Shape::Int8 => self.integer(1),
            Shape::Int16 => self.integer(2),
            Shape::Int32 => self.integer(4),
            Shape::Int64 => self.integer(8),
            Shape::Uuid => {
                let (high, low) =
                    if self.random.below(4) == 0 { (0, 0) } else { (self.random.word(), self.random.word()) };
                self.out.extend_from_slice(&high.to_be_bytes());
                self.out.extend_from_slice(&low.to_be_bytes());
            }
            Shape::String => {
                let text = self.text();
                self.short_length(Some(text.len()));
                self.out.extend_from_slice(text.as_bytes());
            }
            Shape::Bytes => {
                let size = self.size();
                self.long_length(Some(size));
                for _ in 0..size {
                    let byte = self.random.word() as u8;
                    self.out.push(byte);
                }
            }
            Shape::Array(element) => {
                let count = self.random.below(4) as usize;
                self.long_length(Some(count));
                for _ in 0..count {
                    self.value(*element);
                }
            }
            Shape::Struct(fields) => self.fields(fields),
        }
    }

    fn fields(&mut self, fields: &[FieldShape]) {
        let version = self.format.version;
        let present = || fields.iter().filter(|field| (field.present)(version));
        for field in present().filter(|field| field.tag.is_none()) {
            self.field(field);
        }
        if !self.format.flexible {
            return;
        }
        let mut tagged = Vec::new();
        for (tag, field) in present().filter_map(|field| field.tag.map(|tag| (tag, field))) {
            if self.random.below(2) == 0 {
                let behind = std::mem::take(&mut self.out);
                self.field(field);
                tagged.push((tag, std::mem::replace(&mut self.out, behind)));
            }
        }
        if let Some(unknown) = self.unknown_tag
            && fields.iter().all(|field| field.tag != Some(unknown))
        {
            tagged.push((unknown, UNKNOWN_TAG_PAYLOAD.to_vec()));
            self.unknown_tags_written += 1;
        }
        tagged.sort();
        self.uvarint(tagged.len() as u32);
        for (tag, payload) in tagged {
            self.uvarint(tag);
            self.uvarint(payload.len() as u32);
            self.out.extend_from_slice(&payload);
        }
    }

    fn field(&mut self, field: &FieldShape) {
        let nullable = (field.nullable)(self.format.version);
        let null = nullable && self.random.below(4) == 0;
        match field.shape {
            Shape::Struct(_) if nullable => {
                self.out.push(if null { 0xff } else { 1 });
                if !null {
                    self.value(field.shape);
                }
            }
            Shape::String if null => self.short_length(None),
            _ if null => self.long_length(None),
            shape => self.value(shape),
        }
    }

    /// Often small or at an end of the range, where defaults and sentinels are.
    fn integer(&mut self, width: usize) {
        let value = match self.random.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => self.random.below(100) as i64,
            _ => self.random.word() as i64,
        };
        self.out.extend_from_slice(&value.to_be_bytes()[8 - width..]);
    }

    fn text(&mut self) -> String {
        let alphabet = ['a', 'Z', '0', '.', '-', 'é', '漢', '🦀', '\0'];
        (0..self.size()).map(|_| alphabet[self.random.below(alphabet.len() as u64) as usize]).collect()
    }

    /// Sometimes none, sometimes more than one varint byte holds.
    fn size(&mut self) -> usize {
        match self.random.below(8) {
            0 => 0,
            1 => 127 + self.random.below(3) as usize,
            _ => self.random.below(12) as usize,
        }
    }

    fn short_length(&mut self, length: Option<usize>) {
        match length {
            _ if self.format.flexible => self.uvarint(length.map_or(0, |length| length as u32 + 1)),
            None => self.out.extend_from_slice(&(-1i16).to_be_bytes()),
            Some(length) => self.out.extend_from_slice(&(length as i16).to_be_bytes()),
        }
    }

    fn long_length(&mut self, length: Option<usize>) {
        match length {
            _ if self.format.flexible => self.uvarint(length.map_or(0, |length| length as u32 + 1)),
            None => self.out.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(length) => self.out.extend_from_slice(&(length as i32).to_be_bytes()),
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
