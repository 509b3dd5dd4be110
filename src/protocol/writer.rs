//! Writes primitives into a caller's buffer, and notes where slices of records go between them.

use bytes::{BufMut, Bytes, BytesMut};

/// The longest string that the wire carries in either form.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Writes after the bytes that the buffer holds already.
///
/// Records given as `Bytes` are copied into the buffer, or, in a writer made by `Writer::slices`, only remembered with
/// their place, to be sent from where they lie.
pub struct Writer<'b> {
    out: &'b mut BytesMut,
    /// Where the frame starts in `out`.
    start: usize,
    /// `None`: everything goes into `out`.
    cuts: Option<Vec<Cut>>,
    /// Bytes that lie in cuts and not in `out`.
    cut_bytes: usize,
}

/// Room for the places of slices, to be used again.
#[derive(Default)]
pub struct Cuts(Vec<Cut>);

/// A slice of records that follows the byte `position` of the buffer.
struct Cut {
    position: usize,
    slice: Bytes,
}

impl<'b> Writer<'b> {
    /// A writer that puts everything, records too, into `out`.
    pub fn contiguous(out: &'b mut BytesMut) -> Writer<'b> {
        let start = out.len();
        Writer { out, start, cuts: None, cut_bytes: 0 }
    }

    /// A writer that keeps slices of records as they are; end it with `into_slices`.
    pub fn slices(scratch: &'b mut BytesMut) -> Writer<'b> {
        let start = scratch.len();
        Writer { out: scratch, start, cuts: Some(Vec::new()), cut_bytes: 0 }
    }

    /// As `slices`, with room that was used before; end it with `move_slices`.
    pub(super) fn slices_in(scratch: &'b mut BytesMut, room: &mut Cuts) -> Writer<'b> {
        Writer { cuts: Some(std::mem::take(&mut room.0)), ..Writer::slices(scratch) }
    }

    /// Bytes written so far, those of remembered slices included.
    pub fn len(&self) -> usize {
        self.out.len() - self.start + self.cut_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the frame's length over its first four bytes, which the caller has left for it.
    pub(super) fn patch_frame_length(&mut self) {
        let length =
            i32::try_from(self.len() - 4).expect("a frame is far below 2 GiB: limits.rs bounds what goes in");
        self.out[self.start..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The pieces of the frame in order: small bytes cut out of the scratch buffer, and the slices between them.
    /// The scratch buffer is left without the frame's bytes and keeps what was in it before.
    pub(super) fn into_slices(self) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        self.move_slices(&mut Cuts::default(), &mut pieces);
        pieces
    }

    /// As `into_slices`, to the end of `pieces`; the room for places goes back.
    pub(super) fn move_slices(self, room: &mut Cuts, pieces: &mut Vec<Bytes>) {
        // A split at the front leaves the free room behind the frame where it is; `split_off` would take it along.
        let mut rest = if self.start == 0 { self.out.split() } else { self.out.split_off(self.start) };
        let mut cuts = self.cuts.unwrap_or_default();
        pieces.reserve(2 * cuts.len() + 1);
        let mut at = self.start;
        for Cut { position, slice } in cuts.drain(..) {
            if position > at {
                pieces.push(rest.split_to(position - at).freeze());
                at = position;
            }
            pieces.push(slice);
        }
        if !rest.is_empty() {
            pieces.push(rest.freeze());
        }
        room.0 = cuts;
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    pub(super) fn put_slices(&mut self, slices: &[Bytes]) {
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match &mut self.cuts {
                None => self.out.put_slice(slice),
                Some(cuts) => {
                    cuts.push(Cut { position: self.out.len(), slice: slice.clone() });
                    self.cut_bytes += slice.len();
                }
            }
        }
    }

    /// Counts bytes that others put there; an empty piece marks the place of each part. Panics in a writer that makes one piece.
    pub(super) fn leave_out(&mut self, bytes: usize, parts: usize) {
        let cuts = self.cuts.as_mut().expect("bytes are left out between pieces only");
        let position = self.out.len();
        cuts.extend((0..parts).map(|_| Cut { position, slice: Bytes::new() }));
        self.cut_bytes += bytes;
    }

    pub(super) fn put_uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    /// n + 1 as varint, 0 for null.
    pub(super) fn put_compact_length(&mut self, length: Option<usize>) {
        let length = length
            .map_or(0, |length| u32::try_from(length + 1).expect("fits in a frame, which is below 2 GiB"));
        self.put_uvarint(length);
    }

    /// 32 bits, -1 for null.
    pub(super) fn put_long_length(&mut self, length: Option<usize>) {
        let length =
            length.map_or(-1, |length| i32::try_from(length).expect("fits in a frame, which is below 2 GiB"));
        self.out.put_i32(length);
    }

    /// A string in the compact or the classic form. Only texts that we compose can be longer than the wire's limit
    /// (a peer's went through it on the way in), and those are cut.
    pub(super) fn put_str(&mut self, text: Option<&str>, compact: bool) {
        let text = text.map(cut_to_limit);
        match (text, compact) {
            (text, true) => self.put_compact_length(text.map(str::len)),
            (None, false) => self.out.put_i16(-1),
            (Some(text), false) => self.out.put_i16(text.len() as i16),
        }
        self.put(text.unwrap_or_default().as_bytes());
    }

    /// One tagged field: the tag, the size in bytes, then what `body` writes.
    pub(super) fn put_tagged_field(&mut self, tag: u32, body: impl FnOnce(&mut Writer<'_>)) {
        self.put_uvarint(tag);
        // The size is known only afterwards: the body is written behind one byte kept for the size, which does for 127
        // bytes, and moved up in the rare case that the size takes more.
        let size_at = self.out.len();
        self.out.put_u8(0);
        let cut_bytes = self.cut_bytes;
        body(self);
        assert!(cut_bytes == self.cut_bytes, "no schema has records inside a tagged field {tag}");
        let size = self.out.len() - size_at - 1;
        if size <= 0x7f {
            self.out[size_at] = size as u8;
            return;
        }
        let body = self.out.split_off(size_at + 1);
        self.out.truncate(size_at);
        self.put_uvarint(u32::try_from(size).expect("fits in a frame, which is below 2 GiB"));
        self.out.put_slice(&body);
    }
}

/// The longest prefix within the limit that ends at a character.
fn cut_to_limit(text: &str) -> &str {
    let mut end = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_keep_their_place_and_what_was_in_the_scratch_buffer_stays() {
        let mut scratch = BytesMut::from(&b"before"[..]);
        let mut writer = Writer::slices(&mut scratch);
        writer.put(b"....ab");
        writer.put_slices(&[Bytes::from_static(b"RECORDS"), Bytes::new(), Bytes::from_static(b"MORE")]);
        writer.put(b"cd");
        writer.patch_frame_length();
        assert_eq!(writer.len(), 19);
        let pieces = writer.into_slices();
        assert_eq!(pieces, [&b"\0\0\0\x0fab"[..], b"RECORDS", b"MORE", b"cd"]);
        assert_eq!(scratch, &b"before"[..]);
    }

    #[test]
    fn tagged_field_sizes_of_two_bytes_move_the_body() {
        for size in [0, 1, 127, 128, 300] {
            let mut out = BytesMut::new();
            let body = vec![7u8; size];
            Writer::contiguous(&mut out).put_tagged_field(5, |writer| writer.put(&body));
            let mut reader = crate::protocol::Reader::new(&out);
            let mut left = 1;
            let (tag, field) = reader.tagged_field(&mut left).unwrap().unwrap();
            assert_eq!((tag, field.remaining()), (5, &body[..]));
            assert!(reader.remaining().is_empty());
        }
    }

    #[test]
    fn a_text_beyond_the_wires_limit_is_cut_at_a_character() {
        let mut out = BytesMut::new();
        let text = "é".repeat(20_000);
        Writer::contiguous(&mut out).put_str(Some(&text), false);
        assert_eq!(out.len(), 2 + 32_766);
    }
}
