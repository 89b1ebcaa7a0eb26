//! Conditional requests (RFC 9110 13): whether a GET or HEAD is answered, found unchanged, or refused, and whether a
//! write may go on.

use std::time::SystemTime;

use crate::protocol::date::whole_seconds;

/// The conditions of one request; by default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`, its lines joined with `, `.
    pub if_match: Option<Box<[u8]>>,
    /// `If-None-Match`, its lines joined with `, `.
    pub if_none_match: Option<Box<[u8]>>,
    /// `If-Modified-Since`; `None` also when it is no valid date (RFC 9110 13.1.3: ignored).
    pub if_modified_since: Option<SystemTime>,
    /// `If-Unmodified-Since`; `None` also when it is no valid date (RFC 9110 13.1.4: ignored).
    pub if_unmodified_since: Option<SystemTime>,
}

/// The validators of a file at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag, with its quotes, and `W/` before them where it is weak (RFC 9110 8.8.1).
    pub etag: String,
    /// The last modification; anything below a second is ignored. `None` where HTTP has no date for it, and then a
    /// date of a request says nothing (13.1.3, 13.1.4).
    pub modified: Option<SystemTime>,
}

/// The verdict of the conditions on a GET or HEAD of an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request is answered as if there were no conditions.
    Proceed,
    /// The answer is 304: the client's copy is current.
    NotModified,
    /// The answer is 412.
    Failed,
}

/// Weighs the conditions of a GET or HEAD in the order of RFC 9110 13.2.2: a date counts only where the
/// corresponding entity-tag field is absent.
#[must_use]
pub fn evaluate(preconditions: &Preconditions, validators: &Validators) -> Verdict {
    let unfit = match (&preconditions.if_match, preconditions.if_unmodified_since) {
        (Some(list), _) => !matches(list, validators, Comparison::Strong),
        (None, Some(date)) => validators.is_unchanged_since(date) == Some(false),
        (None, None) => false,
    };
    if unfit {
        return Verdict::Failed;
    }
    let current = match (&preconditions.if_none_match, preconditions.if_modified_since) {
        (Some(list), _) => matches(list, validators, Comparison::Weak),
        (None, Some(date)) => validators.is_unchanged_since(date) == Some(true),
        (None, None) => false,
    };
    if current { Verdict::NotModified } else { Verdict::Proceed }
}

/// Whether a PUT, POST, PATCH or DELETE may change a file that is now `current`, or that doesn't exist, in the order of
/// RFC 9110 13.2.2; if not, the answer is 412.
///
/// `If-Modified-Since` is for reads alone (13.1.3). A file that doesn't exist was not left unmodified: its removal is a
/// change that `If-Unmodified-Since` guards against like any other.
#[must_use]
pub fn permits_write(preconditions: &Preconditions, current: Option<&Validators>) -> bool {
    let names_current = |list: &[u8], comparison| current.is_some_and(|file| matches(list, file, comparison));
    let fits = match (&preconditions.if_match, preconditions.if_unmodified_since) {
        (Some(list), _) => names_current(list, Comparison::Strong),
        (None, Some(date)) => current.is_some_and(|file| file.is_unchanged_since(date) != Some(false)),
        (None, None) => true,
    };
    fits && !preconditions.if_none_match.as_deref().is_some_and(|list| names_current(list, Comparison::Weak))
}

/// Whether `Range` is to be obeyed (RFC 9110 13.1.5): without `If-Range` always; with a tag when it is the file's
/// own and both are strong. Any other value means the whole file, and so does a date: within its second a file can
/// be changed, and programs that set modification times may set the same one twice.
#[must_use]
pub fn range_applies(if_range: Option<&[u8]>, validators: &Validators) -> bool {
    if_range.is_none_or(|field| !validators.is_weak() && field == validators.etag.as_bytes())
}

impl Validators {
    fn is_weak(&self) -> bool {
        self.etag.starts_with("W/")
    }

    /// Returns the tag with its quotes, without `W/`.
    fn opaque(&self) -> &[u8] {
        self.etag.strip_prefix("W/").unwrap_or(&self.etag).as_bytes()
    }

    /// Whether the file is unchanged since `date`; None where HTTP has no date for the last modification.
    fn is_unchanged_since(&self, date: SystemTime) -> Option<bool> {
        Some(whole_seconds(self.modified?) <= whole_seconds(date))
    }
}

/// The comparison of entity tags (RFC 9110 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A tag marked `W/`, on either side, equals nothing.
    Strong,
    /// The mark `W/` is ignored.
    Weak,
}

/// Whether the list is `*` or names the file's tag. A malformed list ends at its fault: the tags before that
/// count.
fn matches(list: &[u8], validators: &Validators, comparison: Comparison) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = list;
    while let Some((tag, after)) = next_tag(rest) {
        let comparable = comparison == Comparison::Weak || !(tag.weak || validators.is_weak());
        if comparable && tag.opaque == validators.opaque() {
            return true;
        }
        rest = after;
    }
    false
}

struct EntityTag<'f> {
    weak: bool,
    /// The tag with its quotes.
    opaque: &'f [u8],
}

/// Returns the first tag of a list and the rest of the list. A comma inside the quotes belongs to the tag; there
/// is no escaping.
fn next_tag(list: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let start = list.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
    let list = &list[start..];
    let (weak, tag) = match list.strip_prefix(b"W/") {
        Some(tag) => (true, tag),
        None => (false, list),
    };
    let inner = tag.strip_prefix(b"\"")?;
    let (opaque, rest) = tag.split_at(memchr::memchr(b'"', inner)? + 2);
    let rest = rest.trim_ascii_start();
    if !rest.is_empty() && !rest.starts_with(b",") {
        return None;
    }
    Some((EntityTag { weak, opaque }, rest))
}

#[cfg(test)]
mod tests;
