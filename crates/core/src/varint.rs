//! Numbers of variable length, seven bits a byte, the lowest first (Protocol Buffers, "Base 128 Varints").

/// Appends a number.
#[inline]
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes the number at the begin of `bytes`; of one that is cut off what is there.
#[inline]
pub fn take(bytes: &mut &[u8]) -> u64 {
    // Nearly all are one byte.
    if let [byte @ 0..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return u64::from(*byte);
    }
    let (mut number, mut shift) = (0, 0);
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift >= u64::BITS {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(numbers in prop::collection::vec((any::<u64>(), 0..64_u32).prop_map(|(n, shift)| n >> shift), 0..20)) {
            let mut out = Vec::new();
            for number in &numbers {
                put(&mut out, *number);
            }
            let mut bytes = &out[..];
            let taken: Vec<u64> = numbers.iter().map(|_| take(&mut bytes)).collect();
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(taken, numbers);
        }
    }

    #[test]
    fn a_number_that_is_cut_off_ends_with_the_bytes() {
        let mut bytes = &[0xFF, 0xFF][..];
        assert_eq!((take(&mut bytes), bytes.len()), (0x3FFF, 0));
        assert_eq!(take(&mut bytes), 0);
    }
}
