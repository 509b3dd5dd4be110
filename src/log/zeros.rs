//! Zeros ahead of the bytes: a write into a hole, or into space that is only reserved, makes the file system commit its own
//! journal at the next flush, which is a second flush; a write into zeros does not.

use std::io;

use bytes::Bytes;

use crate::buffer::AlignedBuffer;
use crate::model::Position;
use crate::reactor::{DIRECT_BLOCK_BYTES, File, Files};

/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// Writes zeros from `start` to `end`, both aligned if the file is direct; the caller sees to their durability.
pub(super) fn write_zeros(
    files: &mut dyn Files,
    file: File,
    start: Position,
    end: Position,
) -> io::Result<()> {
    let piece_bytes = PIECE_BYTES.min((end - start) as usize).next_multiple_of(DIRECT_BLOCK_BYTES);
    let mut zeros = AlignedBuffer::with_capacity(piece_bytes);
    while zeros.len() < piece_bytes {
        zeros.extend_from_slice(&[0; DIRECT_BLOCK_BYTES]);
    }
    let zeros: Bytes = zeros.freeze();
    let mut at = start;
    while at < end {
        let length = (end - at).min(piece_bytes as u64);
        files.write_at(file, at, &zeros[..length as usize])?;
        at += length;
    }
    Ok(())
}
