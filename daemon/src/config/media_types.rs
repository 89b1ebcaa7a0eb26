//! Media types by the end of a name.

/// Says what is wrong with the end of a name and its media type (RFC 9110 8.3.1).
pub(super) fn check(end: &str, media_type: &str) -> Result<(), String> {
    if end.is_empty() || end.starts_with('.') || end.contains(['/', '\0']) {
        return Err(format!("{end:?} is no end of a name: write it without the dot before it, as zst"));
    }
    let essence = media_type.split(';').next().unwrap_or_default().trim_end();
    let is_type = essence.split_once('/').is_some_and(|(main, sub)| is_token(main) && is_token(sub));
    let is_text = media_type.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if is_type && is_text {
        return Ok(());
    }
    Err(format!("{media_type:?} is no media type: expected one, as application/zstd"))
}

/// A token of HTTP (RFC 9110 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn types_have_two_parts_and_ends_no_dot() {
        for (end, media_type) in
            [("zst", "application/zstd"), ("tar.gz", "a/b; charset=utf-8"), ("x", "image/svg+xml")]
        {
            assert_eq!(check(end, media_type), Ok(()));
        }
        for (end, media_type) in [
            (".zst", "a/b"),
            ("", "a/b"),
            ("a/b", "a/b"),
            ("x", "text"),
            ("x", "a/"),
            ("x", "a/b\r\nX: y"),
            ("x", "a b/c"),
        ] {
            assert!(check(end, media_type).is_err(), "{end} {media_type}");
        }
    }
}
