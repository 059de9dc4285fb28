//! Metric streams: what one view, or none, makes of the recordings of an instrument (OpenTelemetry metrics SDK specification, "View").
//!
//! An instrument has one stream for each view that matches it, or one of view number 0 if none does. The stream decides how series are
//! stored; a reader decides how they leave. Where readers of one process want another storage or another cardinality limit of the same
//! view, there is a stream for each.

use crate::attributes::{put_text, Reader};
use crate::hdr::Level;
use crate::instrument::Kind;

/// What the cells of a series hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Storage {
    /// Sum of what was recorded.
    Sum = 1,
    /// Total as a callback reported it, one for each worker.
    Total = 2,
    /// Last value.
    Last = 3,
    /// Slots, and the sum.
    Distribution = 4,
    /// Number of values and their sum.
    Mean = 5,
}

impl Storage {
    /// The storage with this number.
    pub const fn from_number(number: u8) -> Option<Storage> {
        Some(match number {
            1 => Storage::Sum,
            2 => Storage::Total,
            3 => Storage::Last,
            4 => Storage::Distribution,
            5 => Storage::Mean,
            _ => return None,
        })
    }

    /// Whether what a worker contributed to a series of this kind of instrument ends with its life.
    pub fn ends_with_worker(self, kind: Kind) -> bool {
        match self {
            Storage::Last => true,
            Storage::Total => kind != Kind::ObservableCounter,
            Storage::Sum => kind == Kind::UpDownCounter,
            Storage::Distribution | Storage::Mean => false,
        }
    }

    /// Whether the recording method of the instrument stores in this way without being told.
    pub fn is_native(self, kind: Kind) -> bool {
        Aggregation::Default.storage(kind) == Some(self)
    }

    /// Whether series have a second histogram for negative values.
    pub fn has_mirror(self, kind: Kind) -> bool {
        self == Storage::Distribution && matches!(kind, Kind::UpDownCounter | Kind::Gauge)
    }
}

/// How the values of a series become a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregation {
    /// As the reader wants it for this kind of instrument, or as the kind itself says.
    Default,
    /// Nothing is kept.
    Drop,
    /// Sum of the values.
    Sum,
    /// Last value.
    LastValue,
    /// Histogram with given boundaries, or those of the instrument's advice.
    Explicit {
        /// Upper bounds of all buckets but the last.
        boundaries: Option<Vec<f64>>,
        /// Whether minimum and maximum leave too.
        record_min_max: bool,
    },
    /// Base-2 exponential histogram.
    Exponential {
        /// Most buckets of either sign.
        max_size: u32,
        /// Finest scale.
        max_scale: i32,
        /// Whether minimum and maximum leave too.
        record_min_max: bool,
    },
    /// A histogram as the reader wants it, kept with so many significant digits, and quantiles of a window beside it.
    Hdr {
        /// 1, 2 or 3.
        significant_digits: u8,
        /// From 0 to 1.
        quantiles: Vec<f64>,
        /// Seconds.
        window: f64,
    },
    /// Exponentially weighted moving average of the rate or of the values.
    Ewma {
        /// Time constant in seconds.
        tau: f64,
    },
}

impl Aggregation {
    /// What is kept for this aggregation of this kind of instrument; `None` for nothing. The SDK exports no histograms of observable
    /// instruments either.
    pub fn storage(&self, kind: Kind) -> Option<Storage> {
        let observable = kind.is_observable();
        match self {
            Aggregation::Drop => None,
            Aggregation::Default => Some(match kind {
                Kind::Counter | Kind::UpDownCounter => Storage::Sum,
                Kind::Histogram => Storage::Distribution,
                Kind::ObservableCounter | Kind::ObservableUpDownCounter => Storage::Total,
                Kind::Gauge | Kind::ObservableGauge => Storage::Last,
            }),
            Aggregation::Sum if observable => Some(Storage::Total),
            Aggregation::Sum => Some(Storage::Sum),
            Aggregation::LastValue => Some(Storage::Last),
            Aggregation::Explicit { .. } | Aggregation::Exponential { .. } | Aggregation::Hdr { .. } => {
                (!observable).then_some(Storage::Distribution)
            }
            Aggregation::Ewma { .. } => Some(match kind {
                Kind::Counter | Kind::UpDownCounter => Storage::Sum,
                Kind::ObservableCounter | Kind::ObservableUpDownCounter => Storage::Total,
                Kind::Histogram | Kind::Gauge | Kind::ObservableGauge => Storage::Mean,
            }),
        }
    }

    /// This aggregation of a view, as a reader that wants `preferred` for the kind of instrument sees it.
    pub fn or<'a>(&'a self, preferred: &'a Aggregation) -> &'a Aggregation {
        match self {
            Aggregation::Default => preferred,
            stated => stated,
        }
    }

    /// The finest step of the precision ladder that is used.
    pub fn finest(&self) -> Level {
        match self {
            Aggregation::Hdr {
                significant_digits: 1, ..
            } => Level::OneHalf,
            Aggregation::Hdr {
                significant_digits: 2, ..
            } => Level::Two,
            _ => Level::Three,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut floats = |tag: u8, flags: &[u8], numbers: &[f64]| {
            out.push(tag);
            out.extend_from_slice(flags);
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_bits().to_le_bytes()).collect();
            put_text(out, &bytes);
        };
        match self {
            Aggregation::Default => floats(0, &[], &[]),
            Aggregation::Drop => floats(1, &[], &[]),
            Aggregation::Sum => floats(2, &[], &[]),
            Aggregation::LastValue => floats(3, &[], &[]),
            Aggregation::Explicit {
                boundaries,
                record_min_max,
            } => floats(
                4,
                &[u8::from(*record_min_max), u8::from(boundaries.is_some())],
                boundaries.as_deref().unwrap_or_default(),
            ),
            Aggregation::Exponential {
                max_size,
                max_scale,
                record_min_max,
            } => floats(
                5,
                &[u8::from(*record_min_max)],
                &[f64::from(*max_size), f64::from(*max_scale)],
            ),
            Aggregation::Hdr {
                significant_digits,
                quantiles,
                window,
            } => {
                let mut numbers = vec![*window];
                numbers.extend_from_slice(quantiles);
                floats(6, &[*significant_digits], &numbers);
            }
            Aggregation::Ewma { tau } => floats(7, &[], &[*tau]),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Aggregation> {
        let tag = reader.byte()?;
        let mut flag = || reader.byte();
        let (first, second) = match tag {
            4 => (flag()?, flag()?),
            5 | 6 => (flag()?, 0),
            _ => (0, 0),
        };
        let bytes = reader.text()?;
        let words = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let numbers: Vec<f64> = words.map(f64::from_bits).collect();
        let number = |index: usize| numbers.get(index).copied();
        Some(match tag {
            0 => Aggregation::Default,
            1 => Aggregation::Drop,
            2 => Aggregation::Sum,
            3 => Aggregation::LastValue,
            4 => Aggregation::Explicit {
                record_min_max: first == 1,
                boundaries: (second == 1).then_some(numbers),
            },
            5 => Aggregation::Exponential {
                record_min_max: first == 1,
                max_size: number(0)? as u32,
                max_scale: number(1)? as i32,
            },
            6 => Aggregation::Hdr {
                significant_digits: first,
                window: number(0)?,
                quantiles: numbers.get(1..)?.to_vec(),
            },
            7 => Aggregation::Ewma { tau: number(0)? },
            _ => return None,
        })
    }
}

/// One stream of an instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Number of the view, counted from 1; 0 where none matches.
    pub view: u32,
    /// 0, or the cardinality limit of the readers that wanted another one than most.
    pub variant: u32,
    /// What is kept.
    pub storage: Storage,
    /// What the view states.
    pub aggregation: Aggregation,
    /// Name under which it leaves; empty for that of the instrument.
    pub name: String,
    /// Description with which it leaves; empty for that of the instrument.
    pub description: String,
}

impl Stream {
    /// The stream of an instrument that no view matches.
    pub fn unviewed(kind: Kind) -> Stream {
        Stream {
            view: 0,
            variant: 0,
            storage: Aggregation::Default.storage(kind).unwrap_or(Storage::Sum),
            aggregation: Aggregation::Default,
            name: String::new(),
            description: String::new(),
        }
    }

    /// Appends the bytes that [`Stream::decode`] reads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.view.to_le_bytes());
        out.extend_from_slice(&self.variant.to_le_bytes());
        out.push(self.storage as u8);
        self.aggregation.encode(out);
        put_text(out, self.name.as_bytes());
        put_text(out, self.description.as_bytes());
    }

    /// Reads what [`Stream::encode`] wrote, or `None` if the bytes are something else.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Stream> {
        let numbers = reader.eight()?;
        let (view, variant) = numbers.split_at(4);
        let storage = Storage::from_number(reader.byte()?)?;
        let aggregation = Aggregation::decode(reader)?;
        let mut text = || String::from_utf8(reader.text()?.to_vec()).ok();
        Some(Stream {
            view: u32::from_le_bytes(view.try_into().ok()?),
            variant: u32::from_le_bytes(variant.try_into().ok()?),
            storage,
            aggregation,
            name: text()?,
            description: text()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aggregations() -> impl Strategy<Value = Aggregation> {
        let floats = prop::collection::vec(-1e9..1e9, 0..20);
        prop_oneof![
            Just(Aggregation::Default),
            Just(Aggregation::Drop),
            Just(Aggregation::Sum),
            Just(Aggregation::LastValue),
            (proptest::option::of(floats.clone()), any::<bool>()).prop_map(|(boundaries, record_min_max)| {
                Aggregation::Explicit {
                    boundaries,
                    record_min_max,
                }
            }),
            (1..1000_u32, -10..20_i32, any::<bool>()).prop_map(|(max_size, max_scale, record_min_max)| {
                Aggregation::Exponential {
                    max_size,
                    max_scale,
                    record_min_max,
                }
            }),
            (1..4_u8, floats, 0.1..1e6).prop_map(|(significant_digits, quantiles, window)| Aggregation::Hdr {
                significant_digits,
                quantiles,
                window,
            }),
            (0.1..1e6).prop_map(|tau| Aggregation::Ewma { tau }),
        ]
    }

    proptest! {
        #[test]
        fn decoding_gives_back_the_stream(
            aggregation in aggregations(), view in any::<u32>(), variant in any::<u32>(), storage in 1..6_u8,
            name in ".{0,20}", description in ".{0,40}",
        ) {
            let storage = Storage::from_number(storage).unwrap();
            let stream = Stream { view, variant, storage, aggregation, name, description };
            let mut bytes = Vec::new();
            stream.encode(&mut bytes);
            prop_assert_eq!(Stream::decode(&mut Reader::new(&bytes)), Some(stream));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = Stream::decode(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn only_what_the_kind_says_itself_is_native() {
        assert!(Storage::Sum.is_native(Kind::Counter));
        assert!(!Storage::Distribution.is_native(Kind::Counter));
        assert!(Storage::Last.is_native(Kind::Gauge));
        assert!(!Storage::Sum.is_native(Kind::Gauge));
    }
}
