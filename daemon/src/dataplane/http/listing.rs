//! A directory as a page for people or as JSON for programs.

use std::fmt::Write;
use std::os::fd::OwnedFd;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::worker::Worker;
use super::response::{Asked, Response};
use crate::files::{Entry, FileError, list};
use crate::protocol::date;
use crate::protocol::http1::request::Request;

/// Everything but the unreserved characters of RFC 3986 2.3 is escaped in links.
const LINK_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Lists `directory`, whose name is the request's.
pub(super) async fn respond(
    worker: &Worker,
    request: &Request,
    asked: &Asked<'_>,
    directory: OwnedFd,
) -> Result<Response, FileError> {
    let name = request.name.as_str().trim_end_matches('/').to_owned();
    let as_json = request.accepts_json;
    // Writing ten thousand lines takes milliseconds: that is done on the disk thread too.
    let render = move || -> Result<(String, bool), FileError> {
        let (entries, cut_off) = list(&directory)?;
        Ok((if as_json { json(&entries) } else { page(&name, &entries, cut_off) }, cut_off))
    };
    let (text, cut_off) = worker.disk.run_or_refuse(render).await.map_err(|_| FileError::Busy)??;
    let media_type = if as_json { "application/json" } else { "text/html; charset=utf-8" };
    Ok(Response::text_with(asked, 200, media_type, text.as_bytes(), |head| {
        head.field("Vary", "Accept").field("Cache-Control", "no-cache");
        if cut_off {
            head.field("X-Listing", "cut off");
        }
    }))
}

/// An array of objects with name, type, size and mtime, as nginx's autoindex writes it.
fn json(entries: &[Entry]) -> String {
    let list: Vec<_> = entries
        .iter()
        .map(|entry| {
            let mtime = date::http_date(entry.modified);
            if entry.is_directory {
                serde_json::json!({ "name": entry.name, "type": "directory", "mtime": mtime })
            } else {
                serde_json::json!({ "name": entry.name, "type": "file", "mtime": mtime, "size": entry.size })
            }
        })
        .collect();
    let mut text = serde_json::Value::Array(list).to_string();
    text.push('\n');
    text
}

/// Links are absolute paths made of escaped segments, so that they are right with and without a trailing slash
/// and never name another host.
fn page(name: &str, entries: &[Entry], cut_off: bool) -> String {
    let base = link(name);
    let title = format!("/{}", escape(name));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}}\
         table{{border-collapse:collapse;width:100%}}td{{padding:.15em 1em .15em 0}}\
         td+td{{text-align:right;white-space:nowrap;color:#666;font-variant-numeric:tabular-nums}}\
         </style></head><body><h1>{title}</h1><table>\n"
    );
    if let Some((parent, _)) = name.rsplit_once('/') {
        let _ = writeln!(text, "<tr><td><a href=\"{}/\">../</a></td><td></td><td></td></tr>", link(parent));
    } else if !name.is_empty() {
        text.push_str("<tr><td><a href=\"/\">../</a></td><td></td><td></td></tr>\n");
    }
    for entry in entries {
        let slash = if entry.is_directory { "/" } else { "" };
        let size = if entry.is_directory { String::new() } else { entry.size.to_string() };
        let _ = writeln!(
            text,
            "<tr><td><a href=\"{base}/{}{slash}\">{}{slash}</a></td><td>{size}</td><td>{}</td></tr>",
            utf8_percent_encode(&entry.name, LINK_ESCAPED),
            escape(&entry.name),
            date::http_date(entry.modified),
        );
    }
    text.push_str("</table>");
    if cut_off {
        text.push_str("<p>Only the first entries are shown.</p>");
    }
    text.push_str("</body></html>\n");
    text
}

/// A name as an absolute path, each segment escaped; empty for the root.
fn link(name: &str) -> String {
    name.split('/').filter(|segment| !segment.is_empty()).fold(String::new(), |mut path, segment| {
        let _ = write!(path, "/{}", utf8_percent_encode(segment, LINK_ESCAPED));
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

    use super::{Entry, json, page};

    fn entry(name: &str, is_directory: bool) -> Entry {
        Entry { name: name.to_owned(), is_directory, size: 3, modified: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn names_are_escaped_for_where_they_stand() {
        let text = page("a b", &[entry("<&\"'>", false), entry("sub", true)], false);
        assert!(text.contains("<title>/a b</title>"), "{text}");
        assert!(text.contains("href=\"/a%20b/%3C%26%22%27%3E\">&lt;&amp;&quot;&#39;&gt;</a>"), "{text}");
        assert!(text.contains("href=\"/a%20b/sub/\">sub/</a>"), "{text}");
        assert!(text.contains("href=\"/\">../</a>"), "{text}");
    }

    #[test]
    fn the_root_links_to_paths_not_to_hosts() {
        let text = page("", &[entry("evil.example", true)], false);
        assert!(text.contains("href=\"/evil.example/\""), "{text}");
        assert!(!text.contains("href=\"//"), "{text}");
    }

    #[test]
    fn json_lists_name_type_size_and_time() {
        let text = json(&[entry("sub", true), entry("f", false)]);
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list[0]["type"], "directory");
        assert_eq!(list[1]["name"], "f");
        assert_eq!(list[1]["size"], 3);
        assert_eq!(list[1]["mtime"], "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
