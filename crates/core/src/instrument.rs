//! What an instrument is: kind, name, unit, description, scope and bucket boundaries, and the form in the segment of one of its streams.

use crate::attributes::{self, put_text, Pairs, Reader};
use crate::stream::Stream;

/// Kind of an instrument; decides what its cells mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Monotonic sum of increments.
    Counter = 1,
    /// Sum of increments of either sign.
    UpDownCounter = 2,
    /// Distribution of values.
    Histogram = 3,
    /// Last value set.
    Gauge = 4,
    /// Monotonic total reported by a callback.
    ObservableCounter = 5,
    /// Total reported by a callback that may fall.
    ObservableUpDownCounter = 6,
    /// Value reported by a callback.
    ObservableGauge = 7,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Kind; 7] = [
        Kind::Counter,
        Kind::UpDownCounter,
        Kind::Histogram,
        Kind::Gauge,
        Kind::ObservableCounter,
        Kind::ObservableUpDownCounter,
        Kind::ObservableGauge,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Its name as the OpenTelemetry API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "Counter",
            Kind::UpDownCounter => "UpDownCounter",
            Kind::Histogram => "Histogram",
            Kind::Gauge => "Gauge",
            Kind::ObservableCounter => "ObservableCounter",
            Kind::ObservableUpDownCounter => "ObservableUpDownCounter",
            Kind::ObservableGauge => "ObservableGauge",
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the kind is a callback's.
    pub const fn is_observable(self) -> bool {
        matches!(
            self,
            Kind::ObservableCounter | Kind::ObservableUpDownCounter | Kind::ObservableGauge
        )
    }
}

/// An instrument with its instrumentation scope, and one of its streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    /// Kind.
    pub kind: Kind,
    /// Name, lower-cased.
    pub name: String,
    /// Unit as given (UCUM).
    pub unit: String,
    /// Description.
    pub description: String,
    /// Name of the scope.
    pub scope_name: String,
    /// Version of the scope.
    pub scope_version: Option<String>,
    /// Schema URL of the scope.
    pub scope_schema_url: Option<String>,
    /// Attributes of the scope, canonical bytes.
    pub scope_attributes: Vec<u8>,
    /// The stream.
    pub stream: Stream,
    /// Bucket boundaries advised at creation; not part of the identity.
    pub boundaries: Option<Vec<f64>>,
}

impl Descriptor {
    /// The bytes that say which stream this is: all but the advice.
    pub fn identity(&self) -> Vec<u8> {
        let mut out = vec![self.kind as u8];
        put_text(&mut out, self.name.as_bytes());
        put_text(&mut out, self.unit.as_bytes());
        put_text(&mut out, self.description.as_bytes());
        self.put_scope(&mut out);
        self.stream.encode(&mut out);
        out
    }

    /// The bytes that say which scope this is.
    pub fn scope_identity(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_scope(&mut out);
        out
    }

    fn put_scope(&self, out: &mut Vec<u8>) {
        put_text(out, self.scope_name.as_bytes());
        for optional in [&self.scope_version, &self.scope_schema_url] {
            out.push(u8::from(optional.is_some()));
            put_text(out, optional.as_deref().unwrap_or("").as_bytes());
        }
        put_text(out, &self.scope_attributes);
    }

    /// Identity followed by the advice.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.identity();
        out.push(u8::from(self.boundaries.is_some()));
        for boundary in self.boundaries.iter().flatten() {
            out.extend_from_slice(&boundary.to_bits().to_le_bytes());
        }
        out
    }

    /// Reads what [`Descriptor::encode`] wrote, or `None` if the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Option<Descriptor> {
        let mut reader = Reader::new(bytes);
        let kind = Kind::from_number(reader.byte()?)?;
        let mut text = || String::from_utf8(reader.text()?.to_vec()).ok();
        let (name, unit, description, scope_name) = (text()?, text()?, text()?, text()?);
        let mut optional = || {
            let present = reader.byte()?;
            let text = String::from_utf8(reader.text()?.to_vec()).ok()?;
            Some((present == 1).then_some(text))
        };
        let (scope_version, scope_schema_url) = (optional()?, optional()?);
        let scope_attributes = reader.text()?.to_vec();
        attributes::decode(&scope_attributes)?;
        let stream = Stream::decode(&mut reader)?;
        let has_boundaries = reader.byte()? == 1;
        let mut boundaries = Vec::new();
        while !reader.is_done() {
            boundaries.push(f64::from_bits(u64::from_le_bytes(reader.eight()?)));
        }
        Some(Descriptor {
            kind,
            name,
            unit,
            description,
            scope_name,
            scope_version,
            scope_schema_url,
            scope_attributes,
            stream,
            boundaries: has_boundaries.then_some(boundaries),
        })
    }

    /// Name under which the stream leaves.
    pub fn exported_name(&self) -> &str {
        if self.stream.name.is_empty() {
            &self.name
        } else {
            &self.stream.name
        }
    }

    /// Description with which the stream leaves.
    pub fn exported_description(&self) -> &str {
        if self.stream.description.is_empty() {
            &self.description
        } else {
            &self.stream.description
        }
    }

    /// The attributes of the scope.
    pub fn scope_pairs(&self) -> Pairs {
        attributes::decode(&self.scope_attributes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_gives_back_the_descriptor(
            name in ".{0,20}", unit in ".{0,8}", description in ".{0,40}", scope in ".{0,20}",
            version in proptest::option::of(".{0,8}"), boundaries in proptest::option::of(prop::collection::vec(-1e9..1e9, 0..20)),
        ) {
            let descriptor = Descriptor {
                stream: Stream::unviewed(Kind::Histogram),
                kind: Kind::Histogram, name, unit, description, scope_name: scope, scope_version: version,
                scope_schema_url: None, scope_attributes: Vec::new(), boundaries,
            };
            prop_assert_eq!(Descriptor::decode(&descriptor.encode()), Some(descriptor));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = Descriptor::decode(&bytes);
        }
    }
}
