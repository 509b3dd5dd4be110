//! The values of records: each unique, each able to show that a byte of it was changed or moved.

use std::sync::LazyLock;

use crate::choices::Choices;

/// More than the largest value, so that two values rarely share their filler, or a sector of it.
const FILLER_BYTES: usize = 1 << 20;

static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut choices = Choices::new(0);
    (0..FILLER_BYTES / 8).flat_map(|_| choices.word().to_le_bytes()).collect()
});

/// The largest value.
pub const VALUE_BYTES_MAX: usize = FILLER_BYTES / 4;

/// A value of at least `bytes`: its name, a space, and filler that depends on the name.
pub fn make(name: &str, bytes: usize, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(name.as_bytes());
    into.push(b' ');
    let length = bytes.saturating_sub(into.len());
    into.extend_from_slice(filler(name, length));
}

/// The name of a value, or what is wrong with it.
pub fn name_of(value: &[u8]) -> Result<&str, String> {
    let end = value.iter().take(64).position(|byte| *byte == b' ');
    let name = end.and_then(|end| std::str::from_utf8(&value[..end]).ok());
    let Some(name) = name else {
        return Err(format!("a value of {} bytes without a name: {}", value.len(), start_of(value)));
    };
    let found = &value[name.len() + 1..];
    if found.len() > VALUE_BYTES_MAX {
        return Err(format!("{name} has grown to {} bytes", value.len()));
    }
    let expected = filler(name, found.len());
    match found.iter().zip(expected).position(|(a, b)| a != b) {
        None => Ok(name),
        Some(at) => Err(format!(
            "{name}, {} bytes, is another from byte {} on: {}",
            value.len(),
            name.len() + 1 + at,
            start_of(&found[at..])
        )),
    }
}

fn filler(name: &str, length: usize) -> &'static [u8] {
    assert!(length <= VALUE_BYTES_MAX, "a value of {length} bytes");
    // FNV-1a, and a mixer behind it: alone it puts names that differ in their last digit at the same place.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let start = Choices::new(hash).word() as usize % (FILLER_BYTES - VALUE_BYTES_MAX);
    &FILLER[start..start + length]
}

fn start_of(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(32)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_name_and_any_change() {
        let mut value = Vec::new();
        for bytes in [0, 100, VALUE_BYTES_MAX] {
            make("plain-1:17", bytes, &mut value);
            assert_eq!(value.len(), bytes.max("plain-1:17 ".len()));
            assert_eq!(name_of(&value), Ok("plain-1:17"));
        }
        for at in [0, 11, 512, VALUE_BYTES_MAX - 1] {
            value[at] ^= 1;
            assert!(name_of(&value).is_err(), "byte {at} was changed");
            value[at] ^= 1;
        }
        assert!(name_of(&[0; 700]).is_err());
        assert!(name_of(b"").is_err());
    }

    #[test]
    fn a_sector_of_another_value_is_noticed() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        make("plain-1:1", 4096, &mut one);
        make("plain-1:2", 4096, &mut other);
        one[512..1024].copy_from_slice(&other[512..1024]);
        assert!(name_of(&one).is_err());
    }
}
