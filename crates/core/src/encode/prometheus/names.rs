//! Names and units of metrics, as the stock exporter maps them.

/// Units that Prometheus has words for.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];
/// Units behind a slash.
const PER: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn look_up<'a>(table: &[(&str, &'a str)], unit: &'a str) -> &'a str {
    table.iter().find(|(from, _)| *from == unit).map_or(unit, |(_, to)| to)
}

/// `text` with each run of characters that are neither letters nor digits of ASCII as one underscore; colons may be left in names of metrics.
fn sanitised(text: &str, colons: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_run = false;
    for found in text.chars() {
        if found.is_ascii_alphanumeric() || (colons && found == ':') {
            out.push(found);
            in_run = false;
        } else if !in_run {
            out.push('_');
            in_run = true;
        }
    }
    out
}

/// As [`sanitised`], with an underscore in place of a digit at the begin; never empty.
fn whole(text: &str, colons: bool) -> String {
    let rest = text.strip_prefix(|first: char| first.is_ascii_digit());
    let out = match rest {
        Some(rest) => sanitised(&format!("_{rest}"), colons),
        None => sanitised(text, colons),
    };
    if out.is_empty() {
        "_".to_owned()
    } else {
        out
    }
}

/// The name of a metric, without unit and suffix.
pub fn metric(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        whole(name, true)
    } else {
        whole(&format!("{prefix}_{name}"), true)
    }
}

/// The name of a label.
pub fn label(key: &str) -> String {
    whole(key, false)
}

/// The unit as a name has it; empty if it has none.
pub fn unit(unit: &str) -> String {
    let annotation = unit.find('{').zip(unit.rfind('}')).filter(|(open, close)| open < close);
    let unit = match annotation {
        Some((open, close)) => format!("{}{}", &unit[..open], &unit[close + 1..]),
        None => unit.to_owned(),
    };
    if let Some((_, word)) = UNITS.iter().find(|(from, _)| *from == unit) {
        return (*word).to_owned();
    }
    if let Some((top, bottom)) = unit.split_once('/') {
        let (top, bottom) = (sanitised(top, true), sanitised(bottom, true));
        if !bottom.is_empty() {
            let (top, bottom) = (look_up(&UNITS, &top), look_up(&PER, &bottom));
            return if top.is_empty() {
                format!("per_{bottom}")
            } else {
                format!("{top}_per_{bottom}")
            };
        }
    }
    sanitised(&unit, true).trim_matches('_').to_owned()
}

/// `name` with its unit at the end, once.
pub fn with_unit(name: String, unit: &str) -> String {
    let has = unit.is_empty() || name.strip_suffix(unit).is_some_and(|before| before.ends_with('_'));
    if has {
        name
    } else {
        format!("{name}_{unit}")
    }
}
