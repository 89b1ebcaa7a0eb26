//! Lifetimes as people write them: `90s`, `24h`, `7days`.

use std::fmt;
use std::time::Duration;

/// A time span that is written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(pub Duration);

impl Lifetime {
    /// Reads numbers with their units (`1h 30m`). One without a unit is refused: seconds and milliseconds are too
    /// easily taken for each other.
    pub fn parse(text: &str) -> Result<Lifetime, String> {
        let span = humantime::parse_duration(text).map(Lifetime);
        span.map_err(|_| format!("{text:?} is no time span: write a number and a unit (90s, 24h, 7days)"))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_with_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("24h", 86_400),
            ("1day", 86_400),
            ("7days", 604_800),
            ("1h 30m", 5_400),
            ("1.5h", 5_400),
            ("0s", 0),
        ] {
            let span = Lifetime::parse(text).unwrap();
            assert_eq!(span.0, Duration::from_secs(seconds), "{text}");
            assert_eq!(Lifetime::parse(&span.to_string()), Ok(span), "{text}");
        }
    }

    #[test]
    fn refused_spans() {
        for text in ["", "90", "-1h", "h", "1 parsec", "1h 30", "99999999999999999999h"] {
            assert!(Lifetime::parse(text).is_err(), "{text:?} was read as {:?}", Lifetime::parse(text));
        }
    }
}
