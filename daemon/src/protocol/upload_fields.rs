//! The fields of resumable uploads in one request (draft section 4.1).

use std::ops::RangeInclusive;

use sfv::{Item, Parser};

/// The values of `Upload-Draft-Interop-Version` that can be answered: 5 is -03, 6 -04 and -05, 7 to -08, 8 to -11,
/// 9 from -12 on. They differ in the fields that an answer must have, and answers here have them all; and in that
/// 5 has no media type.
pub const INTEROP_VERSIONS: RangeInclusive<u64> = 5..=9;

/// The largest integer of structured fields (RFC 9651 3.3.1), and so the longest upload.
pub const INTEGER_MAX: u64 = 999_999_999_999_999;

/// The draft's fields in one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadFields {
    /// `Upload-Offset`, the offset of the body in the file.
    pub offset: Option<u64>,
    /// `Upload-Complete`, whether the body's end is the file's.
    pub complete: Option<bool>,
    /// `Upload-Length`, the bytes of the whole file.
    pub length: Option<u64>,
    /// `Upload-Draft-Interop-Version`.
    pub interop_version: Option<u64>,
    /// The name of the first field whose value isn't allowed.
    pub malformed: Option<&'static str>,
    /// Whether `Upload-Incomplete` is there.
    pub is_obsolete: bool,
}

impl UploadFields {
    /// Reads the fields' values.
    pub(super) fn parse(
        offset: Option<&[u8]>,
        complete: Option<&[u8]>,
        length: Option<&[u8]>,
        interop_version: Option<&[u8]>,
    ) -> UploadFields {
        let mut malformed = None;
        let fields = UploadFields {
            offset: read("Upload-Offset", offset, integer, &mut malformed),
            complete: read("Upload-Complete", complete, boolean, &mut malformed),
            length: read("Upload-Length", length, integer, &mut malformed),
            interop_version: read("Upload-Draft-Interop-Version", interop_version, integer, &mut malformed),
            malformed: None,
            is_obsolete: false,
        };
        UploadFields { malformed, ..fields }
    }

    /// Returns the version that a 104 must name; `None` where none may be sent, since the client would not
    /// understand it.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        self.interop_version.filter(|version| INTEROP_VERSIONS.contains(version))
    }
}

fn read<T>(
    name: &'static str,
    field: Option<&[u8]>,
    value: impl FnOnce(&[u8]) -> Option<T>,
    malformed: &mut Option<&'static str>,
) -> Option<T> {
    let field = field?;
    let value = value(field);
    if value.is_none() {
        malformed.get_or_insert(name);
    }
    value
}

fn integer(field: &[u8]) -> Option<u64> {
    Parser::new(field).parse::<Item>().ok()?.bare_item.as_integer()?.try_into().ok()
}

fn boolean(field: &[u8]) -> Option<bool> {
    Parser::new(field).parse::<Item>().ok()?.bare_item.as_boolean()
}
