//! The texts of numbers and of foreign strings, as a reader should see them.

use super::metric::{Metric, Quantity};
use crate::statistics::{Spread, Verdict};

/// The text of a spread in the metric's unit: the median with its unit, and least to greatest in the same unit.
pub(crate) struct Measured {
    /// `9.21 GB/s`
    pub(crate) median: String,
    /// `9.02–9.35`
    pub(crate) range: String,
}

/// Returns the texts of a measured spread.
pub(crate) fn measured(metric: Metric, spread: Spread) -> Measured {
    let (divisor, unit) = unit_of(metric.quantity(), spread.median);
    let scaled = |value: f64| number(value / divisor);
    let space = if unit.is_empty() { "" } else { " " };
    Measured {
        median: format!("{}{space}{unit}", scaled(spread.median)),
        range: format!("{}–{}", scaled(spread.min), scaled(spread.max)),
    }
}

/// Writes one value in few digits, for the ticks of an axis: with its unit where that changes along the axis.
pub(crate) fn tick(quantity: Quantity, value: f64) -> String {
    let (divisor, unit) = unit_of(quantity, value);
    let digits = short(value / divisor);
    match quantity {
        Quantity::BytesPerSecond | Quantity::Microseconds | Quantity::Bytes => format!("{digits} {unit}"),
        Quantity::PerSecond | Quantity::SecondsPerGb | Quantity::Cores | Quantity::Plain => digits,
    }
}

/// Writes bytes as people name file sizes: `1 KiB`, `169 B`, `1.5 MiB`.
pub(crate) fn size(bytes: f64) -> String {
    let (divisor, unit) = binary_unit(bytes);
    format!("{} {unit}", short(bytes / divisor))
}

/// Writes a ratio's spread as `0.98 [0.96..1.01]`.
pub(crate) fn ratio_spread(ratio: Spread) -> String {
    format!("{} [{}..{}]", ratio_number(ratio.median), ratio_number(ratio.min), ratio_number(ratio.max))
}

/// Writes a ratio's range as `[0.96..1.01]`.
pub(crate) fn ratio_range(ratio: Spread) -> String {
    format!("[{}..{}]", ratio_number(ratio.min), ratio_number(ratio.max))
}

/// Returns the word for a verdict.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Higher => "higher",
        Verdict::Lower => "lower",
        Verdict::None => "none",
    }
}

/// Replaces control characters, which could steer a terminal or end an XML document, by escapes.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        if character.is_control() || is_bidirectional_control(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
        out
    })
}

/// Escapes `text` for an HTML body or a quoted attribute; line ends and tabs stay.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            other if other.is_control() || is_bidirectional_control(other) => {
                out.extend(other.escape_default())
            }
            other => out.push(other),
        }
    }
    out
}

/// Writes a command line as it could be typed; words with anything unusual in them are quoted.
pub(crate) fn command(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.chars().all(|of| of.is_ascii_alphanumeric() || "-_./:=,@%+".contains(of))
    };
    let quoted = words
        .iter()
        .map(|word| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Whether the character is an override or isolate, which reorders the text around it: a name could pass itself
/// off as another.
fn is_bidirectional_control(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the divisor of a value, and the name of the unit that then holds.
fn unit_of(quantity: Quantity, value: f64) -> (f64, &'static str) {
    let largest = |units: &[(f64, &'static str)]| {
        let fitting = units.iter().rev().find(|(divisor, _)| value.abs() >= *divisor);
        fitting.or(units.first()).copied().unwrap_or((1.0, ""))
    };
    match quantity {
        Quantity::BytesPerSecond => largest(&[(1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s")]),
        Quantity::PerSecond => (1.0, "/s"),
        Quantity::Microseconds => largest(&[(1.0, "µs"), (1e3, "ms"), (1e6, "s")]),
        Quantity::SecondsPerGb => (1.0, "s/GB"),
        Quantity::Bytes => binary_unit(value),
        Quantity::Cores => (1.0, "cores"),
        Quantity::Plain => (1.0, ""),
    }
}

fn binary_unit(value: f64) -> (f64, &'static str) {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut divisor = 1.0;
    for unit in units {
        if value.abs() < divisor * 1024.0 || unit == "TiB" {
            return (divisor, unit);
        }
        divisor *= 1024.0;
    }
    (1.0, "B")
}

/// Writes about three digits: more would claim a precision that no run here has.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => thousands(value),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

fn ratio_number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => thousands(value),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes a value without needless zeros: `1`, `2.5`, `0.05`, `10,000`.
fn short(value: f64) -> String {
    if value.abs() >= 99.95 {
        return thousands(value);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::{Metric, Quantity, command, escaped, measured, printable, ratio_spread, size, tick};
    use crate::statistics::Spread;

    #[test]
    fn numbers_with_three_digits_and_one_unit_for_a_range() {
        let text = measured(Metric::Throughput, Spread { median: 9.214e9, min: 0.905e9, max: 10.5e9 });
        assert_eq!((text.median.as_str(), text.range.as_str()), ("9.21 GB/s", "0.905–10.5"));
        let text = measured(Metric::RequestRate, Spread { median: 118_234.4, min: 99.0, max: 1_234_567.0 });
        assert_eq!((text.median.as_str(), text.range.as_str()), ("118,234 /s", "99.0–1,234,567"));
        let text = measured(Metric::LatencyP99, Spread { median: 2_800.0, min: 950.0, max: 31_000.0 });
        assert_eq!((text.median.as_str(), text.range.as_str()), ("2.80 ms", "0.950–31.0"));
        assert_eq!(ratio_spread(Spread { median: 0.978, min: 0.0123, max: 12.34 }), "0.98 [0.012..12.3]");
    }

    #[test]
    fn sizes_and_ticks_have_no_needless_zeros() {
        assert_eq!(
            [169.0, 1024.0, 1_048_576.0, 1_073_741_824.0].map(size),
            ["169 B", "1 KiB", "1 MiB", "1 GiB"]
        );
        assert_eq!(size(1_610_612_736.0), "1.5 GiB");
        assert_eq!(tick(Quantity::Microseconds, 100_000.0), "100 ms");
        assert_eq!(tick(Quantity::SecondsPerGb, 0.05), "0.05");
        assert_eq!(tick(Quantity::PerSecond, 10_000.0), "10,000");
    }

    #[test]
    fn foreign_text_can_neither_steer_a_terminal_nor_end_an_element() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(
            escaped("</td><script>\"'&\u{0}\u{202e}\n"),
            "&lt;/td&gt;&lt;script&gt;&quot;&#39;&amp;\\u{0}\\u{202e}\n"
        );
    }

    #[test]
    fn command_lines_can_be_typed_again() {
        let words = ["nginx", "-g", "daemon off;", "it's", ""].map(str::to_owned);
        assert_eq!(command(&words), r"nginx -g 'daemon off;' 'it'\''s' ''");
    }
}
