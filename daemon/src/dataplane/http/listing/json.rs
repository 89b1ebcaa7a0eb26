//! Writes a directory for programs: an array with an object for each entry. Names and types are as nginx's autoindex
//! has them.

use std::borrow::Cow;

use percent_encoding::percent_encode;
use serde::Serialize;

use crate::files::{Digests, Entry};
use crate::protocol::date::iso_date;
use crate::protocol::media_type::content_type;
use crate::protocol::name::SEGMENT_ESCAPED;

/// An array, as far as it has been written.
#[derive(Debug)]
pub(super) struct Json {
    is_sorted: bool,
    is_empty: bool,
}

#[derive(Serialize)]
struct Item<'a> {
    /// The name, with a replacement for each byte that isn't UTF-8.
    name: Cow<'a, str>,
    /// The name percent-encoded, where `name` lacks something of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    /// Relative to the directory.
    href: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digests: Option<&'a Digests>,
    /// Only where the array isn't.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsorted: bool,
}

impl Json {
    /// Makes an array of which nothing is written.
    pub(super) fn new(is_sorted: bool) -> Json {
        Json { is_sorted, is_empty: true }
    }

    /// Writes the part before the entries.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        out.push(b'[');
    }

    /// Writes an entry.
    pub(super) fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_empty, false) {
            out.extend_from_slice(b",\n");
        }
        let (escaped, is_file) = (percent_encode(&entry.name, SEGMENT_ESCAPED), !entry.is_directory);
        let name = String::from_utf8_lossy(&entry.name);
        let item = Item {
            name_bytes: matches!(name, Cow::Owned(_)).then(|| escaped.to_string()),
            name,
            href: format!("./{escaped}{}", if is_file { "" } else { "/" }),
            r#type: if is_file { "file" } else { "directory" },
            size: is_file.then_some(entry.size),
            mtime: iso_date(entry.modified),
            media_type: is_file.then(|| content_type(&entry.name)),
            digests: Some(&entry.digests).filter(|digests| !digests.algorithms().is_empty()),
            unsorted: !self.is_sorted,
        };
        // Numbers and strings always have a JSON form, and writing to memory can't fail.
        let _ = serde_json::to_writer(out, &item);
    }

    /// Writes the part behind the entries.
    pub(super) fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]\n");
    }
}
