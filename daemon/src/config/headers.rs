//! Fields that answers with a file have by the file's name.

use std::collections::BTreeMap;

use super::kind::Kind;
use super::media_types::is_token;
use super::pattern::Pattern;
use super::setting::settings;

/// Fields that say how an answer is framed, what is in it, or who sent it: they are streamd's to write.
const OWN_FIELDS: [&str; 17] = [
    "accept-ranges",
    "allow",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "location",
    "repr-digest",
    "server",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Longest value of a field, in bytes: as long as a content security policy gets, and the head stays one packet or two.
const VALUE_BYTES_MAX: usize = 2048;

settings! {
    /// Fields for the names that fit a pattern.
    pub struct HeaderSettings {
        /// Pattern of the names: *.js, /assets/*.
        r#match: Option<String> = None, "Fields are for some names, or for all: *.",
            Kind::Text { what: "PATTERN", example: "*.js", check: |text| Pattern::parse(text).map(|_| ()) },
            Share, Reload;
        /// The fields and their values.
        set: BTreeMap<String, String> = BTreeMap::new(), "A rule sets some.",
            Kind::Map { example: "{ Cache-Control = \"no-cache\" }", check }, Share, Reload;
    }
}

/// Says what is wrong with a field.
fn check(name: &str, value: &str) -> Result<(), String> {
    check_name(name)?;
    if OWN_FIELDS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{name} is written by streamd itself: leave it away"));
    }
    check_value(value)
}

/// Says what is wrong with the name of a field (RFC 9110 5.1).
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if is_token(name) { Ok(()) } else { Err(format!("{name:?} is no name of a field, as Cache-Control is")) }
}

/// Says what is wrong with the value of a field (RFC 9110 5.5).
pub(super) fn check_value(value: &str) -> Result<(), String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("a value of {} bytes is longer than {VALUE_BYTES_MAX}", value.len()));
    }
    if value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim() == value {
        return Ok(());
    }
    Err(format!("{value:?} is no value of a field: expected visible ASCII, without spaces around it"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn fields_that_frame_an_answer_and_values_that_end_one_are_refused() {
        assert_eq!(check("X-Frame-Options", "DENY"), Ok(()));
        for (name, value) in [
            ("Content-Length", "1"),
            ("ETAG", "x"),
            ("a b", "x"),
            ("", "x"),
            ("X", "a\r\nB: c"),
            ("X", " a"),
            ("X", "\u{e9}"),
        ] {
            assert!(check(name, value).is_err(), "{name}: {value}");
        }
    }
}
