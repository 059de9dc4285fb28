//! Protocol Buffers, the writing half (<https://protobuf.dev/programming-guides/encoding/>): fields are appended to one buffer in the order of the calls.
//!
//! A method whose name ends in `_set` writes its field whatever the value, as a field with presence wants it; the others leave the default value out.

use crate::varint;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

/// A message that is being written.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// A message of about so many bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer {
            out: Vec::with_capacity(bytes),
        }
    }

    /// The bytes of the message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Number of bytes written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written after the first `len` bytes. Must not reach out of the message that is open.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    #[inline]
    fn varint(&mut self, number: u64) {
        varint::put(&mut self.out, number);
    }

    #[inline]
    fn tag(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    /// A field of type `bool`, `uint32`, `uint64`, an enumeration, or an `int64` that is not negative.
    pub fn uint(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.uint_set(field, number);
        }
    }

    /// As [`Writer::uint`], also if it is zero. An `int64` is written as its two's complement.
    pub fn uint_set(&mut self, field: u32, number: u64) {
        self.tag(field, VARINT);
        self.varint(number);
    }

    /// A field of type `sint32`.
    pub fn sint32(&mut self, field: u32, number: i32) {
        self.uint(field, u64::from((number << 1 ^ number >> 31) as u32));
    }

    /// A field of type `fixed64`.
    pub fn fixed64(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.fixed64_set(field, number);
        }
    }

    /// As [`Writer::fixed64`], also if it is zero; `sfixed64` as its two's complement.
    pub fn fixed64_set(&mut self, field: u32, number: u64) {
        self.tag(field, FIXED64);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    /// A field of type `double`, also if it is zero.
    pub fn double_set(&mut self, field: u32, number: f64) {
        self.fixed64_set(field, number.to_bits());
    }

    /// A field of type `string` or `bytes`.
    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes_set(field, bytes);
        }
    }

    /// As [`Writer::bytes`], also if it is empty.
    pub fn bytes_set(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, DELIMITED);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A packed field of type `repeated fixed64`.
    pub fn packed_fixed64(&mut self, field: u32, numbers: &[u64]) {
        if numbers.is_empty() {
            return;
        }
        self.tag(field, DELIMITED);
        self.varint(numbers.len() as u64 * 8);
        let start = self.out.len();
        self.out.resize(start + numbers.len() * 8, 0);
        for (bytes, number) in self.out[start..].chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
    }

    /// A packed field of type `repeated uint64`.
    pub fn packed_uint(&mut self, field: u32, numbers: &[u64]) {
        if !numbers.is_empty() {
            self.message(field, |writer| numbers.iter().for_each(|number| writer.varint(*number)));
        }
    }

    /// Fields that were written elsewhere.
    pub fn fields(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A message within this one, also if it is empty; `body` writes its fields.
    pub fn message<T>(&mut self, field: u32, body: impl FnOnce(&mut Writer) -> T) -> T {
        self.tag(field, DELIMITED);
        let start = self.out.len();
        // Most are shorter than 128 bytes; the others are moved to make room for their length, which costs less than to measure them before.
        self.out.push(0);
        let answer = body(self);
        self.close(start);
        answer
    }

    /// Writes the length of a message whose length byte is at `start`.
    fn close(&mut self, start: usize) {
        let len = self.out.len() - start - 1;
        if len < 0x80 {
            self.out[start] = len as u8;
            return;
        }
        let extra = len.ilog2() as usize / 7;
        self.out.resize(self.out.len() + extra, 0);
        self.out.copy_within(start + 1..=start + len, start + 1 + extra);
        for (index, byte) in self.out[start..=start + extra].iter_mut().enumerate() {
            let more = if index < extra { 0x80 } else { 0 };
            *byte = (len >> (7 * index)) as u8 & 0x7f | more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn numbers_are_those_of_the_protobuf_documentation() {
        assert_eq!(written(|w| w.uint(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|w| w.bytes(2, b"testing")), b"\x12\x07testing");
        assert_eq!(
            written(|w| w.message(3, |w| w.uint(1, 150))),
            [0x1a, 0x03, 0x08, 0x96, 0x01]
        );
        assert_eq!(
            written(|w| w.packed_uint(6, &[3, 270, 86942])),
            [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]
        );
        for (number, byte) in [(-1, 1), (1, 2), (-2, 3), (2, 4)] {
            assert_eq!(written(|w| w.sint32(1, number)), [0x08, byte]);
        }
        assert_eq!(written(|w| w.sint32(1, i32::MIN)), [0x08, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(written(|w| w.uint_set(1, -1_i64 as u64)).len(), 11);
    }

    #[test]
    fn defaults_are_written_only_where_presence_matters() {
        let nothing = written(|w| {
            w.uint(1, 0);
            w.sint32(1, 0);
            w.fixed64(1, 0);
            w.bytes(1, b"");
            w.packed_fixed64(1, &[]);
            w.packed_uint(1, &[]);
        });
        assert_eq!(nothing, []);
        assert_eq!(written(|w| w.uint_set(1, 0)), [0x08, 0]);
        assert_eq!(written(|w| w.bytes_set(1, b"")), [0x0a, 0]);
        assert_eq!(written(|w| w.double_set(1, 0.0)), [0x09, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|w| w.message(1, |_| ())), [0x0a, 0]);
    }

    #[test]
    fn messages_of_every_length_begin_with_it() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let body = vec![7; len];
            let plain = written(|w| w.bytes_set(16, &body));
            let message = written(|w| w.message(16, |w| w.out.extend_from_slice(&body)));
            assert_eq!(message, plain, "{len}");
        }
    }
}
