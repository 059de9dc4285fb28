//! Reasons for which a recording, a series or an instrument was not taken as asked; each is counted in the header.

/// A counted reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Drop {
    /// Recording of NaN or an infinity: ignored.
    NonFinite = 0,
    /// Negative recording on a counter or histogram: ignored.
    Negative = 1,
    /// Recording whose attribute set got no series of its own: counted in the overflow series.
    Overflow = 2,
    /// Recording whose histogram found no room for its slot: counted in the overflow series.
    NoPage = 3,
    /// Recording on an instrument for which the segment had no room: lost.
    NoInstrument = 4,
    /// Attribute set longer than a series can keep: counted in the overflow series.
    LongAttributes = 5,
    /// Offset read from the segment that cannot be right: the recording is lost.
    Corrupt = 6,
    /// Panic in native code that was caught at the Python border.
    Panic = 7,
    /// Amount that is no number, or attributes that are no mapping: answered as the SDK does.
    WrongType = 8,
    /// Exemplar for which the segment had no room, or which was replaced before anyone could read it.
    NoExemplar = 9,
    /// Running span for which the span table had no room: measured all the same, and not shown.
    NoSpan = 10,
}

impl Drop {
    /// All reasons with the name under which each is reported.
    pub const ALL: [(Drop, &'static str); 11] = [
        (Drop::NonFinite, "non_finite"),
        (Drop::Negative, "negative"),
        (Drop::Overflow, "overflow"),
        (Drop::NoPage, "no_page"),
        (Drop::NoInstrument, "no_instrument"),
        (Drop::LongAttributes, "long_attributes"),
        (Drop::Corrupt, "corrupt"),
        (Drop::Panic, "panic"),
        (Drop::WrongType, "wrong_type"),
        (Drop::NoExemplar, "no_exemplar"),
        (Drop::NoSpan, "no_span"),
    ];
}
