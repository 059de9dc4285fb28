//! The bodies of the fuzz targets with repeatable damage: a short look that needs no fuzzer.

mod fixture;

use fixture::{descriptor, scaled, Random};
use otel_perf_core::attributes::{encode, Pairs, Value as Attribute};
use otel_perf_core::instrument::Kind;

#[path = "../../fuzz/bodies/attribute_bytes.rs"]
mod attribute_bytes;
#[path = "../../fuzz/bodies/segment_validation.rs"]
mod segment_validation;

fn bytes(random: &mut Random, bound: usize) -> Vec<u8> {
    (0..random.below(bound)).map(|_| random.next() as u8).collect()
}

fn value(random: &mut Random, depth: usize) -> Attribute {
    match random.below(if depth == 0 { 6 } else { 8 }) {
        0 => Attribute::Null,
        1 => Attribute::Bool(random.below(2) == 0),
        2 => Attribute::Int(random.next() as i64),
        3 => Attribute::Float(f64::from_bits(random.next())),
        4 => Attribute::Text(bytes(random, 200)),
        5 => Attribute::Bytes(bytes(random, 20)),
        6 => Attribute::List((0..random.below(4)).map(|_| value(random, depth - 1)).collect()),
        _ => Attribute::Map(pairs(random, depth - 1)),
    }
}

fn pairs(random: &mut Random, depth: usize) -> Pairs {
    (0..random.below(4))
        .map(|_| (bytes(random, 10), value(random, depth)))
        .collect()
}

/// Changes, drops, doubles or inserts a few bytes.
fn disturb(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, random.next() as u8),
        }
    }
}

#[test]
fn decoders_accept_only_what_encoders_write() {
    let mut random = Random(2024);
    for _ in 0..20_000 {
        let set = encode(&mut pairs(&mut random, 3));
        let mut disturbed = set.clone();
        disturb(&mut random, &mut disturbed);
        attribute_bytes::check(&disturbed);
        let mut described = descriptor(Kind::Histogram, "duration", "s");
        described.scope_attributes = set;
        described.boundaries = (random.below(2) == 0).then(|| vec![f64::from_bits(random.next())]);
        let mut disturbed = described.encode();
        disturb(&mut random, &mut disturbed);
        attribute_bytes::check(&disturbed);
        attribute_bytes::check(&bytes(&mut random, 40));
    }
}

/// Orders to overwrite a few places, mostly with small numbers and with values near the ends of their range.
fn orders(random: &mut Random) -> Vec<u8> {
    let mut orders = Vec::new();
    for _ in 0..=random.below(6) {
        let reach = 1 << random.below(17);
        let place = random.below(reach) as u16;
        let place = if random.below(2) == 0 { place & !3 } else { place };
        let len = [1, 2, 4, 8, 32][random.below(5)];
        orders.push(random.next() as u8);
        orders.extend(place.to_le_bytes());
        orders.push(len as u8);
        let word = match random.below(4) {
            0 => random.next(),
            1 => random.below(1_000) as u64,
            2 => u64::MAX - random.below(3) as u64,
            _ => 1 << random.below(64),
        };
        orders.extend(word.to_le_bytes().iter().cycle().take(len));
    }
    orders
}

#[test]
fn a_damaged_segment_is_used_without_panic_and_without_hanging() {
    let scratch = segment_validation::Scratch::new();
    let mut random = Random(2025);
    for _ in 0..scaled(20_000) {
        scratch.check(&orders(&mut random));
    }
}
