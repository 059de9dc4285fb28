//! What must hold when arbitrary bytes are decoded as an attribute set or as a descriptor.

use otel_perf_core::attributes::{decode, encode};
use otel_perf_core::instrument::Descriptor;

/// Panics if a decoder accepts bytes that no encoder writes, or does not read back what an encoder wrote.
pub fn check(bytes: &[u8]) {
    if let Some(mut pairs) = decode(bytes) {
        assert_eq!(encode(&mut pairs), bytes, "accepted, but not canonical");
    }
    if let Some(descriptor) = Descriptor::decode(bytes) {
        assert!(bytes.starts_with(&descriptor.identity()[..1]));
        let _ = descriptor.scope_pairs();
        let encoded = descriptor.encode();
        // Compared by bytes, because a boundary may be NaN.
        let again = Descriptor::decode(&encoded).map(|descriptor| descriptor.encode());
        assert_eq!(
            again,
            Some(encoded),
            "a descriptor changed on its way through the segment"
        );
    }
}
