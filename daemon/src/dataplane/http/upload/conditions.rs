//! The conditions of a write, which hold until its file is published: for an upload in several requests those of the
//! first, so they are noted with the upload, and those of the last where that has its own.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::super::super::platform;
use crate::files::{FileError, Found, Root};
use crate::protocol::conditional::{Preconditions, Validators, permits_write};
use crate::protocol::name::Name;

/// The conditions of a request that writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions(Preconditions);

/// Their form in a note.
#[derive(Default, Serialize, Deserialize)]
struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_none_match: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_unmodified_since_s: Option<u64>,
}

impl Conditions {
    pub(super) fn of(preconditions: &Preconditions) -> Conditions {
        // If-Modified-Since is for reads (RFC 9110 13.1.3).
        Conditions(Preconditions { if_modified_since: None, ..preconditions.clone() })
    }

    /// From what [`Conditions::note`] wrote.
    pub(super) fn from_note(note: &str) -> Conditions {
        let Note { if_match, if_none_match, if_unmodified_since_s } =
            serde_json::from_str(note).unwrap_or_default();
        let bytes = |list: Option<String>| list.map(|list| list.into_bytes().into_boxed_slice());
        Conditions(Preconditions {
            if_match: bytes(if_match),
            if_none_match: bytes(if_none_match),
            if_modified_since: None,
            if_unmodified_since: if_unmodified_since_s
                .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
        })
    }

    /// As text, empty where there are none.
    pub(super) fn note(&self) -> String {
        if self.are_none() {
            return String::new();
        }
        // Entity tags of ours are ASCII, so what is lost of others could not have matched.
        let text = |list: &Option<Box<[u8]>>| list.as_ref().map(|list| String::from_utf8_lossy(list).into());
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let note = Note {
            if_match: text(&self.0.if_match),
            if_none_match: text(&self.0.if_none_match),
            if_unmodified_since_s: self.0.if_unmodified_since.map(seconds),
        };
        serde_json::to_string(&note).unwrap_or_default()
    }

    pub(super) fn are_none(&self) -> bool {
        self.0 == Preconditions::default()
    }

    /// Whether nothing may have the name yet.
    pub(super) fn want_new(&self) -> bool {
        self.0.if_none_match.as_deref().is_some_and(|list| list.trim_ascii() == b"*")
    }

    pub(super) fn permit(&self, current: Option<&Validators>) -> bool {
        permits_write(&self.0, current)
    }

    /// Whether they hold for the file that `name` means now. Waits for the disk.
    pub(super) fn hold(&self, root: &Root, name: &Name) -> bool {
        if self.are_none() {
            return true;
        }
        match root.find(name) {
            Ok(Found::File(file)) => self.permit(Some(&file.validators(platform::wall_clock()))),
            Err(FileError::NotFound) => self.permit(None),
            // Whatever is wrong, the upload itself meets it too and can say what.
            Ok(Found::Directory(_)) | Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::Conditions;
    use crate::protocol::conditional::Preconditions;

    #[test]
    fn a_note_holds_the_conditions() {
        assert_eq!(Conditions::default().note(), "");
        assert!(Conditions::from_note("").are_none() && Conditions::from_note("no note").are_none());
        let preconditions = Preconditions {
            if_match: Some((*b"\"a\", W/\"b\"").into()),
            if_none_match: Some((*b"*").into()),
            if_modified_since: None,
            if_unmodified_since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        };
        let conditions = Conditions::of(&preconditions);
        assert_eq!(Conditions::from_note(&conditions.note()).0, preconditions);
        assert!(conditions.want_new());
    }
}
