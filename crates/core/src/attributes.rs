//! Canonical bytes of an attribute set: one byte string per set, whatever the order and the process it came from.
//!
//! ```text
//! set     = pair*                     sorted by key, no key twice
//! pair    = text value
//! value   = 'n' | 't' | 'f' | 'i' i64 | 'd' f64 | 's' text | 'b' text | 'l' count value* | 'm' count pair*
//! text    = length bytes              length and count: unsigned LEB128
//! ```
//!
//! The tag keeps `1`, `1.0` and `true` apart, as the OpenTelemetry data model does. `-0.0` and `0.0` are one value, and so are all
//! NaNs. Bytes read back from a segment are not trusted: [`decode`] accepts exactly what [`encode`] writes.

/// An attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string. Lone surrogates, which Python strings can hold, arrive as their three-byte form.
    Text(Vec<u8>),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping, sorted by key.
    Map(Vec<(Vec<u8>, Value)>),
}

/// Longest canonical form a series keeps, in bytes. Longer sets are counted in the overflow series.
pub const MAX_BYTES: usize = 8192;
/// Deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 16;

/// Attribute pairs, key and value.
pub type Pairs = Vec<(Vec<u8>, Value)>;

/// Appends `number` as unsigned LEB128.
fn put_length(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length-prefixed byte string.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_length(out, text.len());
    out.extend_from_slice(text);
}

/// Appends a tagged string value without building a [`Value`].
pub fn put_string_value(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b's');
    put_text(out, text);
}

/// Appends a tagged value.
pub fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Int(number) => {
            out.push(b'i');
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Float(number) => {
            let number = if number.is_nan() { f64::NAN } else { number + 0.0 };
            out.push(b'd');
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        Value::Text(text) => put_string_value(out, text),
        Value::Bytes(bytes) => {
            out.push(b'b');
            put_text(out, bytes);
        }
        Value::List(items) => {
            out.push(b'l');
            put_length(out, items.len());
            for item in items {
                put_value(out, item);
            }
        }
        Value::Map(pairs) => {
            out.push(b'm');
            put_length(out, pairs.len());
            for (key, value) in pairs {
                put_text(out, key);
                put_value(out, value);
            }
        }
    }
}

/// Canonical bytes of `pairs`, which are sorted in place; of two pairs with one key the later one stays.
pub fn encode(pairs: &mut Pairs) -> Vec<u8> {
    sort(pairs);
    let mut out = Vec::with_capacity(pairs.len() * 32);
    for (key, value) in pairs.iter() {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    out
}

/// Sorts by key, nested mappings included; of two pairs with one key the later one stays.
fn sort(pairs: &mut Pairs) {
    fn sort_value(value: &mut Value) {
        match value {
            Value::Map(pairs) => sort(pairs),
            Value::List(items) => items.iter_mut().for_each(sort_value),
            _ => {}
        }
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let mut kept: Pairs = Vec::with_capacity(pairs.len());
    for (key, mut value) in pairs.drain(..) {
        sort_value(&mut value);
        match kept.last_mut() {
            Some(last) if last.0 == key => last.1 = value,
            _ => kept.push((key, value)),
        }
    }
    *pairs = kept;
}

/// Reads bytes from front to back; every answer is `None` once something does not fit.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        if len > self.rest.len() {
            return None;
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(head)
    }

    pub(crate) fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    /// An unsigned LEB128 number of at most 28 bits in its shortest form.
    pub(crate) fn length(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return (shift == 0 || byte != 0).then_some(number);
            }
        }
        None
    }

    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.length()?;
        self.take(len)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let deeper = || depth.checked_sub(1);
        Some(match self.byte()? {
            b'n' => Value::Null,
            b't' => Value::Bool(true),
            b'f' => Value::Bool(false),
            b'i' => Value::Int(i64::from_le_bytes(self.eight()?)),
            b'd' => {
                let number = f64::from_bits(u64::from_le_bytes(self.eight()?));
                let canonical = if number.is_nan() { f64::NAN } else { number + 0.0 };
                (canonical.to_bits() == number.to_bits()).then_some(Value::Float(number))?
            }
            b's' => Value::Text(self.text()?.to_vec()),
            b'b' => Value::Bytes(self.text()?.to_vec()),
            b'l' => {
                let (count, depth) = (self.length()?, deeper()?);
                Value::List(
                    (0..count.min(self.rest.len() + 1))
                        .map(|_| self.value(depth))
                        .collect::<Option<_>>()
                        .filter(|items: &Vec<Value>| items.len() == count)?,
                )
            }
            b'm' => {
                let (count, depth) = (self.length()?, deeper()?);
                Value::Map(self.pairs(Some(count), depth)?)
            }
            _ => return None,
        })
    }

    fn pairs(&mut self, count: Option<usize>, depth: usize) -> Option<Pairs> {
        let mut pairs: Pairs = Vec::new();
        while count.map_or(!self.is_done(), |count| pairs.len() < count) {
            let key = self.text()?.to_vec();
            if pairs.last().is_some_and(|last| last.0 >= key) {
                return None;
            }
            let value = self.value(depth)?;
            pairs.push((key, value));
        }
        Some(pairs)
    }
}

/// The attribute pairs of canonical bytes, or `None` if the bytes are not canonical.
pub fn decode(bytes: &[u8]) -> Option<Pairs> {
    Reader::new(bytes).pairs(None, MAX_DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            any::<String>().prop_map(|s| Value::Text(s.into_bytes())),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((any::<Vec<u8>>(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn set() -> impl Strategy<Value = Pairs> {
        prop::collection::vec((any::<String>().prop_map(String::into_bytes), value()), 0..6)
    }

    proptest! {
        #[test]
        fn decoding_gives_back_the_sorted_set(mut pairs in set()) {
            let bytes = encode(&mut pairs);
            let decoded = decode(&bytes).unwrap();
            prop_assert_eq!(encode(&mut decoded.clone()), bytes);
            prop_assert_eq!(decoded.len(), pairs.len());
        }

        #[test]
        fn the_order_of_pairs_does_not_matter(mut pairs in set()) {
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.dedup_by(|a, b| a.0 == b.0);
            let mut reversed: Pairs = pairs.iter().rev().cloned().collect();
            prop_assert_eq!(encode(&mut reversed), encode(&mut pairs));
        }

        #[test]
        fn only_canonical_bytes_are_accepted(bytes in any::<Vec<u8>>()) {
            if let Some(mut pairs) = decode(&bytes) {
                prop_assert_eq!(encode(&mut pairs), bytes);
            }
        }
    }

    #[test]
    fn one_and_one_point_zero_and_true_differ() {
        let of = |value| encode(&mut vec![(b"k".to_vec(), value)]);
        let all = [of(Value::Int(1)), of(Value::Float(1.0)), of(Value::Bool(true))];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert_eq!(of(Value::Float(0.0)), of(Value::Float(-0.0)));
    }
}
