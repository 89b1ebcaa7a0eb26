//! `Content-Disposition` (RFC 6266) tells a browser under which name to keep a download.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The characters that are escaped in a value: all but `attr-char` of RFC 8187 3.2.1.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The character that replaces those that the plain name can't have.
const REPLACEMENT: char = '_';

/// Returns the field of an attachment that is to be kept under this name. Clients that know `filename*` see it exactly;
/// the plain name has replacements for the characters that it can't have.
#[must_use]
pub fn attachment(name: &str) -> String {
    // A percent sign is escaped by some clients and taken as an escape by others (RFC 6266, appendix D).
    let is_plain = |character: char| matches!(character, ' '..='~') && !matches!(character, '"' | '\\' | '%');
    let plain: String =
        name.chars().map(|character| if is_plain(character) { character } else { REPLACEMENT }).collect();
    let mut value = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        // Writing to a String can't fail.
        let _ = write!(value, "; filename*=UTF-8''{}", percent_encode(name.as_bytes(), ESCAPED));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::attachment;

    #[test]
    fn a_plain_name_needs_no_second_one() {
        assert_eq!(attachment("a b-1.tar"), "attachment; filename=\"a b-1.tar\"");
    }

    #[test]
    fn what_the_plain_name_cannot_say_is_said_by_the_extended_one() {
        assert_eq!(
            attachment("\u{fc} \"50%\"\n.tar"),
            "attachment; filename=\"_ _50___.tar\"; filename*=UTF-8''%C3%BC%20%2250%25%22%0A.tar"
        );
    }
}
