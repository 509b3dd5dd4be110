//! Base64 with the standard alphabet and padding, for SCRAM. Source: RFC 4648, section 4.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * at) & 0x3f) as usize];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// `None` for anything that `encode` does not write.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let letters = chunk.iter().take_while(|letter| **letter != b'=').count();
        let mut word = 0u32;
        for letter in &chunk[..letters] {
            word = word << 6 | ALPHABET.iter().position(|known| known == letter)? as u32;
        }
        let count = letters.checked_sub(1)?;
        let word = word << (6 * (4 - letters));
        bytes.extend_from_slice(&word.to_be_bytes()[1..1 + count]);
    }
    // One text for each value: no padding in the middle, none missing, no bits beyond the last byte.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_bytes() {
        // The vectors of RFC 4648, section 10.
        let check = |bytes: &str, text: &str| {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        };
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
        for wrong in ["Z", "Zg", "Zg=", "Zh==", "=", "====", "Zg==Zg==", "Zm9v\n", "Zm-v"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
