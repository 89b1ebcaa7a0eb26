//! Writes a directory entry by entry, as a page for people or as JSON for programs.

use crate::files::Entry;
use crate::protocol::http1::response::ResponseHead;

use super::about::About;
use super::json::Json;
use super::page::{self, Page};

/// How a listing looks.
#[derive(Debug)]
pub(super) enum Form {
    /// An array of objects.
    Json(Json),
    /// A page.
    Page(Box<Page>),
}

impl Form {
    /// A form of which nothing is written yet.
    pub(super) fn new(as_json: bool, about: About) -> Form {
        if as_json { Form::Json(Json::new(about.is_sorted)) } else { Form::Page(Box::new(Page::new(about))) }
    }

    /// The media type that tells a client which form it is.
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Form::Json(_) => "application/json",
            Form::Page(_) => "text/html; charset=utf-8",
        }
    }

    /// Writes the fields that tell a browser how to treat the form.
    pub(super) fn describe(&self, head: &mut ResponseHead<'_>) {
        head.field("X-Content-Type-Options", "nosniff");
        if let Form::Page(_) = self {
            head.field("Content-Security-Policy", page::security_policy());
        }
    }

    /// Writes the part before the entries.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        match self {
            Form::Json(json) => json.begin(out),
            Form::Page(page) => page.begin(out),
        }
    }

    /// Writes an entry.
    pub(super) fn write(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        match self {
            Form::Json(json) => json.write(entry, out),
            Form::Page(page) => page.write(entry, out),
        }
    }

    /// Writes the part behind the entries.
    pub(super) fn end(&self, out: &mut Vec<u8>) {
        match self {
            Form::Json(json) => json.end(out),
            Form::Page(page) => page.end(out),
        }
    }
}
