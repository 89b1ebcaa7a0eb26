//! Request methods (RFC 9110 9).

use std::fmt;

/// A method on offer; those that write are offered only where uploads are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET returns the file.
    Get,
    /// HEAD returns the head of a GET's answer, without the file's bytes.
    Head,
    /// PUT makes the body the file.
    Put,
    /// POST begins a resumable upload.
    Post,
    /// PATCH continues a resumable upload.
    Patch,
    /// DELETE removes the file, or gives up an upload.
    Delete,
    /// OPTIONS asks which methods there are, and whether a page of another origin may use them.
    Options,
}

impl Method {
    /// Returns the value of `Allow`, by whether uploads are on.
    #[must_use]
    pub fn allowed(uploads: bool) -> &'static str {
        if uploads { "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS" } else { "GET, HEAD, OPTIONS" }
    }

    /// Whether the method changes nothing.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options)
    }

    /// Returns the method as it stands in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Whether the byte is a `tchar` of RFC 9110 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
