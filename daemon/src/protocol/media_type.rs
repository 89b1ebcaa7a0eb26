//! The media type that a file's name promises.

use std::borrow::Cow;

/// What is said of a name whose extension means nothing: RFC 9110 8.3 leaves the guess to the client.
const UNKNOWN: &str = "application/octet-stream";

/// The `Content-Type` of a file by its extension, without regard to case. Text is announced as UTF-8, since
/// without a charset a browser falls back to a legacy encoding of its locale.
#[must_use]
pub fn content_type(name: &str) -> Cow<'static, str> {
    let guess = mime_guess::from_path(name).first_raw().unwrap_or(UNKNOWN);
    if guess.starts_with("text/") {
        return Cow::Owned(format!("{guess}; charset=utf-8"));
    }
    Cow::Borrowed(guess)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_give_the_type() {
        let table = [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b/INDEX.HTML", "text/html; charset=utf-8"),
            ("notes.txt", "text/plain; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("data.json", "application/json"),
            ("disk.tar.gz", "application/gzip"),
            ("film.mp4", "video/mp4"),
            ("noextension", "application/octet-stream"),
            ("strange.q9zx", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(content_type(name), expected, "{name:?}");
        }
    }
}
