//! Writes a directory entry by entry, as a page for people or as JSON for programs.

use std::io::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::files::Entry;
use crate::protocol::date;

/// Everything but the unreserved characters of RFC 3986 2.3 is escaped in links.
const LINK_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a listing looks.
#[derive(Debug)]
pub(super) enum Form {
    /// An array of objects with name, type, size and mtime, as nginx's autoindex writes it.
    Json {
        /// Whether no entry has been written yet.
        is_empty: bool,
    },
    /// A table. Links are absolute paths made of escaped segments, so that they are right with and without a trailing
    /// slash and never name another host.
    Page {
        /// The directory's own path.
        base: String,
    },
}

#[derive(Serialize)]
struct Item<'a> {
    mtime: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    r#type: &'static str,
}

impl Form {
    /// The form of a directory of this name.
    pub(super) fn new(as_json: bool, name: &str) -> Form {
        if as_json { Form::Json { is_empty: true } } else { Form::Page { base: link(name) } }
    }

    /// The media type that tells a client which form it is.
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Form::Json { .. } => "application/json",
            Form::Page { .. } => "text/html; charset=utf-8",
        }
    }

    /// Writes the part before the entries of the directory `name`.
    pub(super) fn begin(&self, name: &str, out: &mut Vec<u8>) {
        match self {
            Form::Json { .. } => out.push(b'['),
            Form::Page { .. } => begin_page(name, out),
        }
    }

    /// Writes an entry.
    pub(super) fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        let mtime = date::http_date(entry.modified);
        match self {
            Form::Json { is_empty } => {
                if !std::mem::replace(is_empty, false) {
                    out.push(b',');
                }
                let r#type = if entry.is_directory { "directory" } else { "file" };
                let size = (!entry.is_directory).then_some(entry.size);
                // Numbers and strings always have a JSON form, and writing to memory can't fail.
                let _ = serde_json::to_writer(out, &Item { mtime, name: &entry.name, size, r#type });
            }
            Form::Page { base } => {
                let slash = if entry.is_directory { "/" } else { "" };
                let size = if entry.is_directory { String::new() } else { entry.size.to_string() };
                let _ = writeln!(
                    out,
                    "<tr><td><a href=\"{base}/{}{slash}\">{}{slash}</a></td><td>{size}</td><td>{mtime}</td></tr>",
                    utf8_percent_encode(&entry.name, LINK_ESCAPED),
                    escape(&entry.name),
                );
            }
        }
    }

    /// Writes the part behind the entries.
    pub(super) fn end(&self, is_sorted: bool, out: &mut Vec<u8>) {
        match self {
            Form::Json { .. } => out.extend_from_slice(b"]\n"),
            Form::Page { .. } => {
                out.extend_from_slice(b"</table>");
                if !is_sorted {
                    out.extend_from_slice(b"<p>Too many entries to be sorted.</p>");
                }
                out.extend_from_slice(b"</body></html>\n");
            }
        }
    }
}

fn begin_page(name: &str, out: &mut Vec<u8>) {
    let title = format!("/{}", escape(name));
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}}\
         table{{border-collapse:collapse;width:100%}}td{{padding:.15em 1em .15em 0}}\
         td+td{{text-align:right;white-space:nowrap;color:#666;font-variant-numeric:tabular-nums}}\
         </style></head><body><h1>{title}</h1><table>\n"
    );
    if let Some((parent, _)) = name.rsplit_once('/') {
        let _ = writeln!(out, "<tr><td><a href=\"{}/\">../</a></td><td></td><td></td></tr>", link(parent));
    } else if !name.is_empty() {
        out.extend_from_slice(b"<tr><td><a href=\"/\">../</a></td><td></td><td></td></tr>\n");
    }
}

/// A name as an absolute path, each segment escaped; empty for the root.
fn link(name: &str) -> String {
    name.split('/').filter(|segment| !segment.is_empty()).fold(String::new(), |mut path, segment| {
        path.push('/');
        path.extend(utf8_percent_encode(segment, LINK_ESCAPED));
        path
    })
}

/// Text for HTML content and attribute values.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Entry, Form};

    fn entry(name: &str, is_directory: bool) -> Entry {
        Entry { name: name.to_owned(), is_directory, size: 3, modified: SystemTime::UNIX_EPOCH }
    }

    fn written(as_json: bool, name: &str, entries: &[Entry]) -> String {
        let (mut form, mut out) = (Form::new(as_json, name), Vec::new());
        form.begin(name, &mut out);
        entries.iter().for_each(|entry| form.write(entry, &mut out));
        form.end(true, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_escaped_for_where_they_stand() {
        let text = written(false, "a b", &[entry("<&\"'>", false), entry("sub", true)]);
        assert!(text.contains("<title>/a b</title>"), "{text}");
        assert!(text.contains("href=\"/a%20b/%3C%26%22%27%3E\">&lt;&amp;&quot;&#39;&gt;</a>"), "{text}");
        assert!(text.contains("href=\"/a%20b/sub/\">sub/</a>"), "{text}");
        assert!(text.contains("href=\"/\">../</a>"), "{text}");
    }

    #[test]
    fn the_root_links_to_paths_not_to_hosts() {
        let text = written(false, "", &[entry("evil.example", true)]);
        assert!(text.contains("href=\"/evil.example/\""), "{text}");
        assert!(!text.contains("href=\"//"), "{text}");
    }

    #[test]
    fn json_lists_name_type_size_and_time() {
        let text = written(true, "", &[entry("sub", true), entry("f", false)]);
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&list[0]["type"], list[0].get("size")), (&"directory".into(), None));
        assert_eq!(list[1]["name"], "f");
        assert_eq!(list[1]["size"], 3);
        assert_eq!(list[1]["mtime"], "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(written(true, "", &[]), "[]\n");
    }
}
