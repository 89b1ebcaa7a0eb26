//! Names: the file below the root that a request path means, and the escaping of foreign bytes for logs.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// The most bytes that [`escape_for_log`] shows. A target may have 8 KiB; a log line that long helps nobody.
pub const LOGGED_BYTES_MAX: usize = 512;

/// The segment that is reserved for uploads: the directory that their partials lie in. It is never served nor
/// listed.
pub const RESERVED_SEGMENT: &str = ".streamd-uploads";

/// A path relative to the root, decoded and normalised: no leading `/`, no empty, `.` or `..` segment, no NUL. Every
/// other byte may stand in it, as in any name on Linux: backslashes, control characters, and what isn't UTF-8. The root
/// itself is the empty name.
///
/// A slash at the end of the request path is kept, so that opening `file/` fails instead of finding `file`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Reads a path as it stands in a request target, without its query.
    ///
    /// Percent-escapes are decoded once and before anything else, so `%2F` separates segments and `..%2f` is
    /// a dot segment, as in nginx. Repeated slashes count as one. Dot segments are removed as in RFC 3986
    /// 5.2.4: one that climbs above the root stays at the root.
    ///
    /// # Errors
    /// [`NameError`] for an incomplete escape, and for NUL, raw or escaped.
    pub fn parse(path: &[u8]) -> Result<Name, NameError> {
        let escape_at = memchr::memchr_iter(b'%', path).find(|&at| !is_escape(&path[at..]));
        if let Some(at) = escape_at {
            let end = path.len().min(at + 3);
            return Err(NameError::Escape { escape: escape_for_log(&path[at..end]) });
        }
        let decoded: Cow<'_, [u8]> = percent_decode(path).into();
        if decoded.contains(&0) {
            return Err(NameError::Nul);
        }
        Ok(Name(remove_dot_segments(&decoded)))
    }

    /// Returns the name that [`Name::text`] writes like this, if there is one.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Name> {
        let bytes = path_of_text(text)?;
        let is_name = !bytes.contains(&0) && remove_dot_segments(&bytes) == *bytes;
        is_name.then(|| Name(bytes.into_owned()))
    }

    /// The name as text that says it without loss; see [`text_of_path`].
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        text_of_path(&self.0)
    }

    /// Returns the name, relative to the root; it ends in `/` when the request path did.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of an entry of the directory that has this name, with or without a slash at its end.
    #[must_use]
    pub fn join(&self, entry: &str) -> Name {
        let slash: &[u8] = if self.is_directory() { b"" } else { b"/" };
        Name([&self.0, slash, entry.as_bytes()].concat())
    }

    /// The name with something behind it, which has no slash.
    #[must_use]
    pub fn with_end(&self, end: &str) -> Name {
        Name([&self.0, end.as_bytes()].concat())
    }

    /// Returns the path as a URL has it, for `Location`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", percent_encode(&self.0, PATH_ESCAPED))
    }

    /// Returns the last so many bytes as a name, which begins where a segment does: the name within a directory.
    #[must_use]
    pub fn ending(&self, bytes: usize) -> Cow<'_, Name> {
        let from = self.0.len().saturating_sub(bytes);
        if from == 0 { Cow::Borrowed(self) } else { Cow::Owned(Name(self.0[from..].to_owned())) }
    }

    /// Whether the request can only mean a directory: the root, or a path that ended in a slash or a dot
    /// segment.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.0.is_empty() || self.0.ends_with(b"/")
    }

    /// Whether the name begins with `directory` and a slash.
    #[must_use]
    pub fn lies_in(&self, directory: &[u8]) -> bool {
        self.0.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Whether any segment is [`RESERVED_SEGMENT`], in whatever case, since a file system may ignore case.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.split(|&byte| byte == b'/').any(is_reserved_segment)
    }

    /// Returns the upload that the name means, where it is `DIRECTORY/.streamd-uploads/ID`.
    #[must_use]
    pub fn upload_resource(&self) -> Option<UploadResource> {
        let slash = memchr::memrchr(b'/', &self.0)?;
        let (staging, id) = (&self.0[..slash], &self.0[slash + 1..]);
        let id = UploadId::parse(std::str::from_utf8(id).ok()?)?;
        let directory = staging.strip_suffix(RESERVED_SEGMENT.as_bytes())?;
        let is_whole_segment = directory.is_empty() || directory.ends_with(b"/");
        let staging = Name(staging.to_owned());
        (is_whole_segment && !Name(directory.to_owned()).is_reserved())
            .then_some(UploadResource { staging, id })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Name(\"{}\")", self.0.escape_ascii())
    }
}

/// Whether one segment of a name is [`RESERVED_SEGMENT`], in whatever case.
#[must_use]
pub fn is_reserved_segment(segment: &[u8]) -> bool {
    segment.eq_ignore_ascii_case(RESERVED_SEGMENT.as_bytes())
}

/// A path relative to the root as one line of text that says it without loss: as it is, or, where it isn't UTF-8 or
/// holds control characters, as a URL has it, with a slash before it, which no relative path has.
#[must_use]
pub fn text_of_path(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(format!("/{}", percent_encode(path, PATH_ESCAPED))),
    }
}

/// The path that [`text_of_path`] writes like this; None where it writes none like this.
#[must_use]
pub fn path_of_text(text: &str) -> Option<Cow<'_, [u8]>> {
    let Some(escaped) = text.strip_prefix('/') else { return Some(Cow::Borrowed(text.as_bytes())) };
    let path: Cow<'_, [u8]> = percent_decode(escaped.as_bytes()).into();
    (text_of_path(&path) == text).then_some(path)
}

/// An upload that can be continued under a name of its own, until it gets the one that it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadResource {
    /// The directory that its partial lies in; its last segment is [`RESERVED_SEGMENT`].
    pub staging: Name,
    /// The id of the upload in that directory.
    pub id: UploadId,
}

/// The characters that a segment of a path must escape: all but the `unreserved` ones of RFC 3986 2.3.
pub const SEGMENT_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same of a path of several segments.
pub const PATH_ESCAPED: &AsciiSet = &SEGMENT_ESCAPED.remove(b'/');

impl UploadResource {
    /// Makes the resource of an upload in the root's staging directory.
    #[must_use]
    pub fn of_root(id: UploadId) -> UploadResource {
        UploadResource { staging: Name(RESERVED_SEGMENT.into()), id }
    }

    /// Makes the resource of an upload whose staging directory is in this directory: a name's bytes, or `.` for the
    /// root.
    #[must_use]
    pub fn beside(directory: &[u8], id: UploadId) -> UploadResource {
        match directory {
            b"." => UploadResource::of_root(id),
            directory => {
                let staging = [directory, b"/", RESERVED_SEGMENT.as_bytes()].concat();
                UploadResource { staging: Name(staging), id }
            }
        }
    }

    /// Returns the path as a URL has it, for `Location`, below the path of the share.
    #[must_use]
    pub fn path_below(&self, share: &str) -> String {
        let share = percent_encode(share.trim_end_matches('/').as_bytes(), PATH_ESCAPED);
        format!("{share}/{}/{}", percent_encode(&self.staging.0, PATH_ESCAPED), self.id)
    }
}

/// The id of an upload: 32 lower-case hexadecimal digits. It is drawn at random, since whoever knows it may
/// continue the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(pub u128);

impl UploadId {
    /// Parses an id that is spelled as [`fmt::Display`] spells it, and in no other way.
    #[must_use]
    pub fn parse(text: &str) -> Option<UploadId> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == UPLOAD_ID_DIGITS && digits)
            .then(|| u128::from_str_radix(text, 16).ok().map(UploadId))?
    }
}

const UPLOAD_ID_DIGITS: usize = 32;

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:0UPLOAD_ID_DIGITS$x}", self.0)
    }
}

/// Why a path is no name. Each of these is answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The path has a `%` without two hexadecimal digits.
    #[error(
        "the path holds `{escape}`, where `%` must be followed by two hexadecimal digits (write `%` as `%25`)"
    )]
    Escape {
        /// The `%` and the bytes after it, escaped for logs.
        escape: String,
    },
    /// The path has the one byte that no name on Linux may hold.
    #[error("the path holds a NUL, which no name can hold")]
    Nul,
}

/// Writes foreign bytes as text for a log line or an error: printable ASCII as it is, everything else and `"` and
/// `\` as `\xNN`. Past [`LOGGED_BYTES_MAX`] bytes of input it ends in `...`.
#[must_use]
pub fn escape_for_log(bytes: &[u8]) -> String {
    escape_up_to(bytes, LOGGED_BYTES_MAX, is_plain)
}

/// Whether a byte is shown as it is.
fn is_plain(byte: u8) -> bool {
    byte != b'\\' && is_plain_in_sentence(byte)
}

fn is_plain_in_sentence(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"'
}

fn escape_up_to(bytes: &[u8], bytes_max: usize, is_plain: impl Fn(u8) -> bool) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let shown = &bytes[..bytes.len().min(bytes_max)];
    let mut text = String::with_capacity(shown.len() + 3);
    for &byte in shown {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str("\\x");
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    if shown.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// Escapes as [`escape_for_log`] does, without a copy where nothing has to be escaped.
#[must_use]
pub fn escaped_for_log(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Cow<'_, str> {
    escaped_up_to(bytes.as_ref(), LOGGED_BYTES_MAX)
}

/// Escapes as [`escaped_for_log`] does, and shows at most `bytes_max` bytes.
#[must_use]
pub fn escaped_up_to(bytes: &[u8], bytes_max: usize) -> Cow<'_, str> {
    if bytes.len() <= bytes_max
        && are_all(bytes, is_plain)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(escape_up_to(bytes, bytes_max, is_plain))
}

/// Cuts and escapes a sentence of ours, in which foreign bytes are escaped already: escaping backslashes again
/// would show a byte that nobody sent.
#[must_use]
pub fn sentence_up_to(sentence: &str, bytes_max: usize) -> Cow<'_, str> {
    if sentence.len() <= bytes_max && are_all(sentence.as_bytes(), is_plain_in_sentence) {
        return Cow::Borrowed(sentence);
    }
    Cow::Owned(escape_up_to(sentence.as_bytes(), bytes_max, is_plain_in_sentence))
}

/// Tests all bytes: without an early end the compiler handles sixteen at a time.
fn are_all(bytes: &[u8], is_plain: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |plain, &byte| plain & is_plain(byte))
}

/// Whether `bytes`, which begin with `%`, begin with a whole escape.
fn is_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    // The name is empty or ends in '/' between any two segments.
    let mut name = Vec::with_capacity(path.len() + 1);
    let mut ends_in_file = false;
    for segment in path.split(|&byte| byte == b'/') {
        ends_in_file = !matches!(segment, b"" | b"." | b"..");
        if ends_in_file {
            name.extend_from_slice(segment);
            name.push(b'/');
        } else if segment == b".." {
            let above = name.strip_suffix(b"/").unwrap_or_default();
            let parent = memchr::memrchr(b'/', above).map_or(0, |slash| slash + 1);
            name.truncate(parent);
        }
    }
    if ends_in_file {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests;
