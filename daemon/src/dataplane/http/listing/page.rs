//! Writes a directory for people: one page without anything from elsewhere, that works without its script too.
//!
//! All links are relative, so that they are right behind a proxy that puts a prefix before the path. What sorts is a
//! form and no link, and so is the archive: whoever mirrors a directory by its links gets each listing once.

use std::io::Write;
use std::sync::LazyLock;

use percent_encoding::percent_encode;
use sfv::ItemSerializer;
use sha2::{Digest as _, Sha256};

use super::about::About;
use super::text::{digits, escape, size};
use crate::files::Entry;
use crate::protocol::date::iso_date;
use crate::protocol::listing::{Order, SortKey};
use crate::protocol::name::SEGMENT_ESCAPED;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Entries of one body of the table. A browser lays out those that are seen.
const CHUNK_ENTRIES: u64 = 200;

/// Hexadecimal digits of a digest that are shown; the rest is in its title.
const DIGEST_DIGITS: usize = 16;

/// The policy that lets a browser use the page's own style and script, and ask this server for it in another order.
pub(super) fn security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let (style, script) = (hash(STYLE), hash(SCRIPT));
        format!(
            "default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'self'; \
             frame-ancestors 'self'"
        )
    });
    &POLICY
}

/// Names an inline element by its content, as CSP 3 does.
fn hash(content: &str) -> String {
    // A byte sequence of structured fields is base64 between colons.
    let encoded = ItemSerializer::new().bare_item(&Sha256::digest(content)[..]).finish();
    format!("'sha256-{}'", encoded.trim_matches(':'))
}

/// A page, as far as it has been written.
#[derive(Debug)]
pub(super) struct Page {
    about: About,
    directories: u64,
    files: u64,
    bytes: u128,
}

impl Page {
    /// Makes a page of which nothing is written.
    pub(super) fn new(about: About) -> Page {
        Page { about, directories: 0, files: 0, bytes: 0 }
    }

    /// Writes the part before the entries.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        let title = escape(&[b"/", self.about.path.as_slice()].concat());
        // Writing to memory can't fail.
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <style>{STYLE}</style></head>\n<body><header>"
        );
        self.write_path(out);
        let order = match self.about.order {
            Order::Sorted { key, is_descending: false } if self.about.is_sorted => key.word(),
            _ => "",
        };
        let _ = write!(
            out,
            "<label class=\"filter\" hidden><span>Filter by name</span><input id=\"filter\" type=\"search\" \
             placeholder=\"Filter  ( / )\" autocomplete=\"off\" spellcheck=\"false\"></label></header>\n<main>\
             <table data-order=\"{order}\" data-chunk=\"{CHUNK_ENTRIES}\"><caption>Entries of {title}</caption>\
             <thead><tr>"
        );
        for (key, label) in
            [(SortKey::Name, "Name"), (SortKey::Size, "Size"), (SortKey::Time, "Modified (UTC)")]
        {
            self.write_header(key, label, out);
        }
        out.extend_from_slice(b"</tr></thead>\n");
        if !self.about.path.is_empty() {
            out.extend_from_slice(
                b"<tbody class=\"up\"><tr class=\"d\"><td><a href=\"../\">Parent directory</a></td><td></td><td></td>\
                  </tr></tbody>\n",
            );
        }
    }

    /// Writes each directory on the way here as a link.
    fn write_path(&self, out: &mut Vec<u8>) {
        let segments: Vec<&[u8]> =
            self.about.path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).collect();
        let depth = segments.len();
        out.extend_from_slice(b"<h1>");
        if depth == 0 {
            out.extend_from_slice(b"Files");
        } else {
            let _ = write!(out, "<a href=\"{}\">Files</a>", "../".repeat(depth));
        }
        for (place, segment) in segments.into_iter().enumerate() {
            let name = escape(segment);
            out.extend_from_slice(b"<i>/</i>");
            let _ = match depth - place - 1 {
                0 => write!(out, "{name}"),
                above => write!(out, "<a href=\"{}\">{name}</a>", "../".repeat(above)),
            };
        }
        out.extend_from_slice(b"</h1>");
    }

    fn write_header(&self, key: SortKey, label: &str, out: &mut Vec<u8>) {
        let now = match self.about.order {
            Order::Sorted { key: sorted, is_descending } if self.about.is_sorted && sorted == key => {
                Some(is_descending)
            }
            _ => None,
        };
        let sort = match now {
            Some(false) => " aria-sort=\"ascending\"",
            Some(true) => " aria-sort=\"descending\"",
            None => "",
        };
        let desc = if now == Some(false) { "<input type=\"hidden\" name=\"desc\">" } else { "" };
        let word = key.word();
        let _ = write!(
            out,
            "<th scope=\"col\"{sort}><form>{desc}<button name=\"sort\" value=\"{word}\">{label}</button></form></th>"
        );
    }

    /// Writes an entry.
    pub(super) fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        if (self.directories + self.files).is_multiple_of(CHUNK_ENTRIES) {
            out.extend_from_slice(b"<tbody>\n");
        }
        let (link, name) = (percent_encode(&entry.name, SEGMENT_ESCAPED), escape(&entry.name));
        if entry.is_directory {
            self.directories += 1;
            let _ = write!(out, "<tr class=\"d\"><td><a href=\"./{link}/\">{name}/</a></td><td></td>");
        } else {
            self.files += 1;
            self.bytes += u128::from(entry.size);
            let _ = write!(out, "<tr><td><a href=\"./{link}\">{name}</a>");
            write_digests(entry, out);
            let (exact, human) = (entry.size, size(entry.size.into()));
            let _ =
                write!(out, "</td><td><data value=\"{exact}\" title=\"{exact} bytes\">{human}</data></td>");
        }
        let time = iso_date(entry.modified);
        let (day, minute) = (&time[..10], &time[11..16]);
        let _ = writeln!(out, "<td><time datetime=\"{time}\">{day} {minute}</time></td></tr>");
    }

    /// Writes the part behind the entries.
    pub(super) fn end(&self, out: &mut Vec<u8>) {
        let (directories, files) =
            (counted(self.directories, "directory", "directories"), counted(self.files, "file", "files"));
        let _ = write!(
            out,
            "</table></main>\n<footer><p id=\"total\" role=\"status\">{directories}, {files}, {}</p>",
            size(self.bytes)
        );
        if !self.about.is_sorted {
            let reason = match self.about.order {
                Order::Directory => "",
                Order::Sorted { .. } => ": there are too many to be sorted",
            };
            let _ = write!(out, "<p>In the order of the directory{reason}.</p>");
        }
        out.extend_from_slice(
            b"<form><button name=\"archive\" value=\"tar\">Download all as tar</button></form>",
        );
        let _ = write!(out, "</footer>\n<script>{SCRIPT}</script></body></html>\n");
    }
}

fn write_digests(entry: &Entry, out: &mut Vec<u8>) {
    for digest in entry.digests.to_fields() {
        let (algorithm, whole) = (digest.algorithm(), digits(digest.bytes()));
        let shown = &whole[..whole.len().min(DIGEST_DIGITS)];
        let rest = if shown.len() < whole.len() { "\u{2026}" } else { "" };
        let _ = write!(out, "<code title=\"{algorithm} {whole}\">{algorithm} {shown}{rest}</code>");
    }
}

fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
