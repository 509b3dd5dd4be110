//! CRC-32C (Castagnoli), the checksum of record batches, producer snapshots and our own formats.
//!
//! One place, so that the polynomial and the hardware path are chosen once.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use crc_fast::Digest;

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(Crc32Iscsi, bytes) as u32
}

/// The CRC-32C of what `crc` covers followed by `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    // A checksum is the register with all bits turned over.
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // The check value of CRC-32C, and RFC 3720 appendix B.4's 32 bytes of zeroes and of ones.
        let check = |bytes: &[u8], expected| assert_eq!(crc32c(bytes), expected, "{bytes:?}");
        check(b"", 0);
        check(b"123456789", 0xe306_9283);
        check(&[0; 32], 0x8a91_36aa);
        check(&[0xff; 32], 0x62a8_ab43);
    }

    #[test]
    fn appending_equals_the_whole() {
        assert_eq!(crc32c_append(crc32c(b"12345"), b"6789"), crc32c(b"123456789"));
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i * 31 % 251) as u8).collect();
        for cut in (0..bytes.len()).step_by(7) {
            let (one, other) = bytes.split_at(cut);
            assert_eq!(crc32c_append(crc32c(one), other), crc32c(&bytes), "cut at {cut}");
        }
    }
}
