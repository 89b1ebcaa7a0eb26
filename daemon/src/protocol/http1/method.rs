//! Request methods (RFC 9110 9).

use std::fmt;

/// A method on offer, those that write only where uploads are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The file.
    Get,
    /// What GET would say, without the file's bytes.
    Head,
    /// The body becomes the file.
    Put,
    /// Begins a resumable upload.
    Post,
    /// Goes on with one.
    Patch,
    /// Removes the file, or gives up an upload.
    Delete,
}

impl Method {
    /// What `Allow` says in a 405, by whether uploads are on.
    #[must_use]
    pub fn allowed(uploads: bool) -> &'static str {
        if uploads { "GET, HEAD, PUT, POST, PATCH, DELETE" } else { "GET, HEAD" }
    }

    /// Whether the method leaves everything as it is.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }

    /// The method as it stands in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// `tchar` of RFC 9110 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
