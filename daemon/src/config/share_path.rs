//! The path below which a share is served.

use std::fmt;

use toml::Value;

use super::value::Typed;

/// Longest path of a share, in bytes: one name of a file (NAME_MAX of Linux), as those who write it by hand need.
const PATH_BYTES_MAX: usize = 255;

/// A path prefix, as a request's path is once it is decoded: `/`, or segments each with a slash before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharePath(String);

impl SharePath {
    /// The path of everything that no other share has.
    pub fn root() -> SharePath {
        SharePath("/".to_owned())
    }

    /// Reads a path. An error says what is wrong with it.
    pub fn parse(text: &str) -> Result<SharePath, String> {
        let wrong =
            |reason: &str| Err(format!("{text:?} {reason}: expected a path, as /iso or /mirror/debian"));
        let Some(segments) = text.strip_prefix('/') else { return wrong("has no slash at its begin") };
        if text.len() > PATH_BYTES_MAX {
            return wrong("is longer than 255 bytes");
        }
        if text.contains('\0') {
            return wrong("has a zero byte");
        }
        if text == "/" {
            return Ok(SharePath::root());
        }
        if segments.ends_with('/') {
            return wrong("ends with a slash");
        }
        if segments.split('/').any(|segment| ["", ".", ".."].contains(&segment)) {
            return wrong("has a segment that is empty, . or ..");
        }
        Ok(SharePath(text.to_owned()))
    }

    /// The path, with the slash at its begin.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a name, which has no slash at its begin, is called within the share; None where it isn't below it.
    pub fn within<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let own = self.0.as_bytes().get(1..).unwrap_or_default();
        if own.is_empty() {
            return Some(name);
        }
        match name.strip_prefix(own)? {
            [] => Some(&[]),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }
}

impl fmt::Display for SharePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Typed for Option<SharePath> {
    fn from_value(value: &Value) -> Option<Option<SharePath>> {
        SharePath::parse(value.as_str()?).ok().map(Some)
    }

    fn to_value(&self) -> Option<Value> {
        self.as_ref().map(|path| path.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::SharePath;

    #[test]
    fn a_path_has_whole_segments() {
        for good in ["/", "/iso", "/mirror/debian", "/.x", "/a b"] {
            assert_eq!(SharePath::parse(good).map(|path| path.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["", "iso", "/iso/", "//", "/a//b", "/..", "/a/./b", "/\0", &format!("/{}", "x".repeat(255))]
        {
            assert!(SharePath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_belong_to_the_share_whose_segments_they_begin_with() {
        let iso = SharePath::parse("/iso").unwrap();
        for (name, within) in [
            ("iso", Some("")),
            ("iso/a", Some("a")),
            ("iso/a/b", Some("a/b")),
            ("isolated", None),
            ("a/iso", None),
            ("", None),
        ] {
            assert_eq!(iso.within(name.as_bytes()), within.map(str::as_bytes), "{name}");
        }
        assert_eq!(SharePath::root().within(b"iso/a"), Some(&b"iso/a"[..]));
    }
}
