//! Numbers as the stock exporter writes them: values as Go's `%v` of a float has them, bounds as Python's `repr`.

use std::io::Write;

/// Integers below this are floats without loss.
const EXACT: u64 = 1 << 53;
/// Number of digits before the point from which a positive value has an exponent.
const VALUE_DIGITS: i32 = 6;
/// As of a bound, and of a value below zero.
const REPR_DIGITS: i32 = 16;

/// Decimal digits of an integer.
struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(mut number: u64) -> Digits {
        let mut digits = Digits {
            text: [0; 20],
            start: 20,
        };
        loop {
            digits.start -= 1;
            digits.text[digits.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// Appends an integer as it is.
pub fn put_integer(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Digits::of(number).as_bytes());
}

/// Appends a count as a value. The path of nearly all samples.
pub fn put_count(out: &mut Vec<u8>, count: u64) {
    if count >= EXACT {
        return put_value(out, count as f64);
    }
    let digits = Digits::of(count);
    put_digits(out, digits.as_bytes(), digits.as_bytes().len() as i32, VALUE_DIGITS);
}

/// Appends a value.
pub fn put_value(out: &mut Vec<u8>, value: f64) {
    if value >= 0.0 && value < EXACT as f64 && value.fract() == 0.0 && value.is_sign_positive() {
        return put_count(out, value as u64);
    }
    put(out, value, if value > 0.0 { VALUE_DIGITS } else { REPR_DIGITS });
}

/// Appends the upper bound of a bucket.
pub fn put_bound(out: &mut Vec<u8>, bound: f64) {
    put(out, bound, REPR_DIGITS);
}

/// Appends a float with an exponent if there are more than `most` digits before the point, or four zeros behind it.
fn put(out: &mut Vec<u8>, value: f64, most: i32) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        if value > 0.0 {
            out.push(b'+');
        }
        return out.extend_from_slice(b"Inf");
    }
    // The shortest digits that are this number: 17 at most, a point, and an exponent of 5.
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    let written = write!(rest, "{:e}", value.abs()).map_or(0, |()| 32 - rest.len());
    let text = &text[..written];
    let split = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let exponent = text
        .get(split + 1..)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let exponent: i32 = exponent.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let mut digits = [0; 24];
    let mut count = 0;
    for byte in text[..split].iter().filter(|byte| **byte != b'.') {
        digits[count] = *byte;
        count += 1;
    }
    put_digits(out, &digits[..count], exponent + 1, most);
}

/// Appends `0.digits * 10^point`.
fn put_digits(out: &mut Vec<u8>, digits: &[u8], point: i32, most: i32) {
    let is_zero = digits == b"0";
    if !is_zero && (point > most || point < -3) {
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        let significant = &digits[..digits.len() - zeros];
        out.push(significant[0]);
        if significant.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&significant[1..]);
        }
        out.push(b'e');
        out.push(if point > 0 { b'+' } else { b'-' });
        let exponent = u64::from((point - 1).unsigned_abs());
        if exponent < 10 {
            out.push(b'0');
        }
        return put_integer(out, exponent);
    }
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', -point as usize));
        return out.extend_from_slice(digits);
    }
    let before = (point as usize).min(digits.len());
    out.extend_from_slice(&digits[..before]);
    out.extend(std::iter::repeat_n(b'0', point as usize - before));
    out.push(b'.');
    out.extend_from_slice(if before < digits.len() { &digits[before..] } else { b"0" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_the_stock_exporter_writes_them() {
        let table = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-7.0, "-7.0"),
            (0.1, "0.1"),
            (999_999.0, "999999.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (123_456_789.125, "1.23456789125e+08"),
            (-1_234_567.0, "-1234567.0"),
            (9_007_199_254_740_993.0, "9.007199254740992e+15"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (-1.5e16, "-1.5e+16"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1.5e-300, "1.5e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ];
        for (value, expected) in table {
            assert_eq!(text(|out| put_value(out, value)), expected);
        }
    }

    #[test]
    fn bounds_are_written_as_python_writes_them() {
        for (bound, expected) in [
            (5.0, "5.0"),
            (0.005, "0.005"),
            (10_000_000.0, "10000000.0"),
            (1e16, "1e+16"),
            (1_234_567_890_123_456.0, "1234567890123456.0"),
            (2.5e-7, "2.5e-07"),
            (-0.5, "-0.5"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(text(|out| put_bound(out, bound)), expected);
        }
    }

    #[test]
    fn counts_are_values() {
        for count in [0, 9, 10, 999_999, 1_000_000, 1_000_001, EXACT - 1, EXACT + 2, u64::MAX] {
            assert_eq!(
                text(|out| put_count(out, count)),
                text(|out| put(out, count as f64, VALUE_DIGITS))
            );
        }
        assert_eq!(text(|out| put_integer(out, u64::MAX)), "18446744073709551615");
    }
}
