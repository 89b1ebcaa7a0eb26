//! The forms that a client takes, by its `Accept` and `Accept-Encoding` fields (RFC 9110 12.5).

/// The weight of a member without one (RFC 9110 12.4.2), in thousandths.
const FULL_WEIGHT: u16 = 1000;

/// The weights that a client gives to the media types in which the daemon writes itself; None where it doesn't name
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    json: Option<u16>,
    html: Option<u16>,
}

impl Accepted {
    /// Reads a further line of `Accept`.
    pub fn add(&mut self, value: &[u8]) {
        for (name, weight) in weighted(value) {
            let named = match name {
                _ if name.eq_ignore_ascii_case(b"text/html") => &mut self.html,
                _ if name.eq_ignore_ascii_case(b"application/json") => &mut self.json,
                _ if name.eq_ignore_ascii_case(b"application/problem+json") => &mut self.json,
                _ => continue,
            };
            *named = (*named).max(Some(weight));
        }
    }

    /// Whether JSON is named, and not ruled out.
    #[must_use]
    pub fn takes_json(self) -> bool {
        self.json.is_some_and(|weight| weight > 0)
    }

    /// Whether HTML is named, and preferred to JSON. Whoever takes anything is a program.
    #[must_use]
    pub fn prefers_html(self) -> bool {
        self.html.is_some_and(|weight| weight > self.json.unwrap_or(0))
    }
}

/// Returns which of `codings`, which are in the order of the server's own preference, a client takes by the value of
/// its `Accept-Encoding`: the indices, the best first. A coding that the client names worse than the file as it is
/// isn't among them.
#[must_use]
pub fn codings_taken(value: &[u8], codings: &[&str]) -> Vec<usize> {
    let identity = weight_of(value, b"identity").unwrap_or(0);
    let any = weight_of(value, b"*").unwrap_or(0);
    let weight = |coding: &str| match (weight_of(value, coding.as_bytes()), coding) {
        // Its old name (RFC 9110 8.4.1.3).
        (None, "gzip") => weight_of(value, b"x-gzip").unwrap_or(any),
        (named, _) => named.unwrap_or(any),
    };
    let weights = codings.iter().map(|coding| weight(coding)).enumerate();
    let mut taken: Vec<(usize, u16)> =
        weights.filter(|(_, weight)| *weight > 0 && *weight >= identity).collect();
    // The sort is stable: of equal weights the server's order stays.
    taken.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    taken.into_iter().map(|(index, _)| index).collect()
}

/// The weight that a list gives to a name; None where it doesn't name it.
fn weight_of(list: &[u8], name: &[u8]) -> Option<u16> {
    weighted(list).find(|(named, _)| named.eq_ignore_ascii_case(name)).map(|(_, weight)| weight)
}

/// The members of a list, with their weights.
fn weighted(list: &[u8]) -> impl Iterator<Item = (&[u8], u16)> {
    let members = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty()).map(|member| {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|parameter| {
            let (key, value) = parameter.split_at_checked(2)?;
            key.eq_ignore_ascii_case(b"q=").then(|| thousandths(value))
        });
        (name, weight.unwrap_or(FULL_WEIGHT))
    })
}

/// Reads `0`, `1`, or either with up to three decimals; a weight that isn't one is none.
fn thousandths(value: &[u8]) -> u16 {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return 0,
    };
    if !matches!(whole, b'0' | b'1') || !decimals.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digits = [Some(whole), decimals.first(), decimals.get(1), decimals.get(2)];
    let weight = digits
        .into_iter()
        .fold(0, |weight, digit| weight * 10 + u16::from(digit.map_or(0, |digit| digit - b'0')));
    if weight > FULL_WEIGHT { 0 } else { weight }
}

#[cfg(test)]
mod tests {
    use super::{Accepted, codings_taken, thousandths};
    use proptest::prelude::*;

    #[test]
    fn codings_are_taken_by_weight_and_then_by_the_order_of_the_server() {
        for (value, taken) in [
            ("gzip", &["gzip"][..]),
            ("GZIP", &["gzip"]),
            ("x-gzip", &["gzip"]),
            ("gzip, deflate, br, zstd", &["zstd", "br", "gzip"]),
            ("gzip;q=1, br;q=0.5, zstd;q=0.75", &["gzip", "zstd", "br"]),
            ("br;q=0", &[]),
            ("br;q=0.000, gzip", &["gzip"]),
            ("*", &["zstd", "br", "gzip"]),
            ("*;q=0.5, gzip;q=0", &["zstd", "br"]),
            ("gzip, *;q=0", &["gzip"]),
            ("identity", &[]),
            ("identity;q=0", &[]),
            ("identity, gzip", &["gzip"]),
            ("identity;q=1, gzip;q=0.5", &[]),
            ("identity;q=0.5, gzip;q=1, br;q=0.4", &["gzip"]),
            ("identity;q=0, *", &["zstd", "br", "gzip"]),
            ("gzip ; q=0.5 , ,br", &["br", "gzip"]),
            ("gzip;q=2, br;q=1.001, zstd;q=x", &[]),
            ("gzip;Q=0.5", &["gzip"]),
            ("deflate", &[]),
            ("gzipped", &[]),
            ("", &[]),
        ] {
            let codings = ["zstd", "br", "gzip"];
            let found: Vec<_> =
                codings_taken(value.as_bytes(), &codings).into_iter().map(|index| codings[index]).collect();
            assert_eq!(found, taken, "{value:?}");
        }
    }

    #[test]
    fn html_is_preferred_where_it_is_named_and_json_is_not_named_as_well() {
        for (value, prefers_html, takes_json) in [
            ("*/*", false, false),
            ("", false, false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true, false),
            ("text/*", false, false),
            ("TEXT/HTML", true, false),
            ("application/json, text/html", false, true),
            ("application/json;q=0.5, text/html", true, true),
            ("application/problem+json, text/html;q=0.9", false, true),
            ("text/html;q=0", false, false),
            ("application/json; q=0.000", false, false),
            ("application/json;charset=utf-8", false, true),
        ] {
            let mut accepted = Accepted::default();
            accepted.add(value.as_bytes());
            assert_eq!(
                (accepted.prefers_html(), accepted.takes_json()),
                (prefers_html, takes_json),
                "{value}"
            );
        }
    }

    #[test]
    fn weights_have_three_decimals_at_most() {
        for (value, weight) in [
            ("1", 1000),
            ("1.000", 1000),
            ("0.5", 500),
            ("0.123", 123),
            ("0.", 0),
            ("0.1234", 0),
            ("1.1", 0),
            (".5", 0),
            ("-1", 0),
            ("", 0),
        ] {
            assert_eq!(thousandths(value.as_bytes()), weight, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_field_names_each_coding_at_most_once(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut taken = codings_taken(&value, &["zstd", "br", "gzip"]);
            let count = taken.len();
            taken.sort_unstable();
            taken.dedup();
            prop_assert!(taken.len() == count && taken.iter().all(|index| *index < 3));
        }
    }
}
