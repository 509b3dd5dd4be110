//! Splits a stream into frames: an int32 length and that many bytes (Kafka protocol guide, "Protocol Primitive Types").
//!
//! A frame that lies whole in a receive buffer is lent from it; only a frame that crosses buffers is copied. It has memory for
//! the whole of it once a part has arrived that is worth it: a claimed length allocates nothing.

use bytes::Bytes;

use crate::buffer::{Block, note_copied};

/// Bytes of the length before a frame.
const LENGTH_BYTES: usize = 4;

/// A frame of which so much has arrived has memory for all of it, so that it does not move while it grows. Each byte that a peer
/// sends claims this much memory at most, and memory that was not written to before is not there yet.
const WHOLE_PER_ARRIVED: usize = 64;

/// One request without its length prefix.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Lent from the receive buffer; gone when the buffer goes back.
    Lent(&'a [u8]),
    /// Assembled from several buffers.
    Owned(Bytes),
}

impl Frame<'_> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Frame::Lent(bytes) => bytes,
            Frame::Owned(bytes) => bytes,
        }
    }

    /// A part of this frame that outlives the receive buffer: shared when the frame is owned, copied when it is lent.
    pub fn keep(&self, part: &[u8]) -> Bytes {
        match self {
            Frame::Lent(_) => {
                note_copied(part.len());
                Bytes::copy_from_slice(part)
            }
            Frame::Owned(bytes) => bytes.slice_ref(part),
        }
    }
}

/// Why the stream cannot go on; the connection is closed without a reply, as Kafka does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length is negative or zero.
    BadLength(i32),
    TooLarge {
        length: i32,
        length_max: u32,
    },
}

/// The unfinished frame of one connection.
#[derive(Debug)]
pub struct FrameSplitter {
    length_max: u32,
    /// The beginning of a frame, length prefix included; empty between frames.
    carry: Block,
}

impl FrameSplitter {
    pub fn new(length_max: u32) -> FrameSplitter {
        FrameSplitter { length_max, carry: Block::default() }
    }

    /// Takes the next frame from the front of `input`, which is advanced over what was used. `None`: all of `input` is
    /// used up and a frame is still incomplete. Errors: the stream is unusable from here on.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        if self.carry.is_empty() {
            if let Some(length) = peek_length(input) {
                let length = self.check(length)?;
                if input.len() >= LENGTH_BYTES + length {
                    let frame = &input[LENGTH_BYTES..LENGTH_BYTES + length];
                    *input = &input[LENGTH_BYTES + length..];
                    return Ok(Some(Frame::Lent(frame)));
                }
                self.make_room(LENGTH_BYTES + length, input.len());
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        if self.carry.len() < LENGTH_BYTES {
            take(&mut self.carry, input, LENGTH_BYTES);
        }
        let Some(length) = peek_length(&self.carry) else { return Ok(None) };
        let length = self.check(length)?;
        self.make_room(LENGTH_BYTES + length, input.len());
        take(&mut self.carry, input, LENGTH_BYTES + length);
        if self.carry.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        // A fresh buffer for the next frame: this one travels on with the request.
        let mut whole = std::mem::take(&mut self.carry).split();
        let _ = whole.split_to(LENGTH_BYTES);
        Ok(Some(Frame::Owned(whole.freeze())))
    }

    /// Room for the whole frame, if enough of it is here.
    fn make_room(&mut self, whole_bytes: usize, more: usize) {
        let is_worth = (self.carry.len() + more).saturating_mul(WHOLE_PER_ARRIVED) >= whole_bytes;
        if self.carry.capacity() < whole_bytes && is_worth {
            let mut block = Block::take(Block::size_for(whole_bytes));
            block.extend_from_slice(&self.carry);
            self.carry = block;
        }
    }

    /// Memory held for an unfinished frame.
    pub fn held_bytes(&self) -> usize {
        self.carry.capacity()
    }

    fn check(&self, length: i32) -> Result<usize, FrameError> {
        if length <= 0 {
            return Err(FrameError::BadLength(length));
        }
        if length as u32 > self.length_max {
            return Err(FrameError::TooLarge { length, length_max: self.length_max });
        }
        Ok(length as usize)
    }
}

fn peek_length(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk::<LENGTH_BYTES>().map(|b| i32::from_be_bytes(*b))
}

/// Moves bytes from `input` until `carry` holds `wanted` or `input` ends.
fn take(carry: &mut Block, input: &mut &[u8], wanted: usize) {
    let count = wanted.saturating_sub(carry.len()).min(input.len());
    carry.extend_from_slice(&input[..count]);
    note_copied(count);
    *input = &input[count..];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `stream` cut at `cuts` and returns the frames or the error.
    fn check(stream: &[u8], piece_bytes: usize, expected: Result<&[&[u8]], FrameError>) {
        let mut splitter = FrameSplitter::new(1000);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            let mut input = piece;
            loop {
                match splitter.next(&mut input) {
                    Ok(Some(frame)) => frames.push(frame.bytes().to_vec()),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(Err(error), expected, "pieces of {piece_bytes}");
                        return;
                    }
                }
            }
            assert!(input.is_empty());
        }
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        assert_eq!(Ok(frames.as_slice()), expected, "pieces of {piece_bytes}");
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let stream = b"\0\0\0\x03abc\0\0\0\x01d\0\0\0\x05efghi";
        for piece_bytes in 1..=stream.len() {
            check(stream, piece_bytes, Ok(&[b"abc", b"d", b"efghi"]));
        }
    }

    #[test]
    fn bad_lengths_end_the_stream_before_anything_is_allocated() {
        for piece_bytes in [1, 3, 100] {
            check(b"\0\0\0\0", piece_bytes, Err(FrameError::BadLength(0)));
            check(b"\xff\xff\xff\xff", piece_bytes, Err(FrameError::BadLength(-1)));
            check(
                b"\x7f\xff\xff\xff",
                piece_bytes,
                Err(FrameError::TooLarge { length: i32::MAX, length_max: 1000 }),
            );
        }
    }

    #[test]
    fn an_unfinished_frame_holds_what_arrived_and_no_more() {
        let mut splitter = FrameSplitter::new(100_000_000);
        let mut input: &[u8] = &[5, 0xf5, 0xe0, 0xff, 1, 2, 3];
        assert!(splitter.next(&mut input).expect("a legal length").is_none());
        assert!((7..1000).contains(&splitter.held_bytes()), "{}", splitter.held_bytes());
    }

    #[test]
    fn a_large_frame_does_not_move_while_it_arrives() {
        let frame: Vec<u8> = (0..300_000u32).map(|i| (i / 3) as u8).collect();
        let mut stream = (frame.len() as i32).to_be_bytes().to_vec();
        stream.extend_from_slice(&frame);
        let mut splitter = FrameSplitter::new(1 << 20);
        let mut places = std::collections::BTreeSet::new();
        for piece in stream.chunks(5000) {
            let mut input = piece;
            match splitter.next(&mut input).expect("a legal length") {
                Some(whole) => assert_eq!(whole.bytes(), frame),
                None => _ = places.insert(splitter.carry.as_ptr().addr()),
            }
        }
        assert_eq!(places.len(), 1);
        assert_eq!(splitter.held_bytes(), 0);
    }
}
