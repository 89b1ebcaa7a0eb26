//! Request methods (RFC 9110 9).

use std::fmt;

use crate::protocol::http1::error::RequestError;
use crate::protocol::name::escape_for_log;

/// The longest method that is looked at, in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17;
/// RFC 9112 3 has a longer one than the server knows answered with 501.
pub const METHOD_BYTES_MAX: usize = 32;

/// What `Allow` says in a 405.
pub const ALLOWED: &str = "GET, HEAD";

/// The methods of RFC 9110 9.3 and PATCH (RFC 5789) that are known and not offered.
const NOT_OFFERED: [&str; 7] = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// A method on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The file.
    Get,
    /// What GET would say, without the file's bytes.
    Head,
}

impl Method {
    /// The method as it stands in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
        }
    }

    /// Reads a whole method name. Methods are case-sensitive.
    pub(super) fn parse(name: &[u8]) -> Result<Method, RequestError> {
        match name {
            b"GET" => return Ok(Method::Get),
            b"HEAD" => return Ok(Method::Head),
            _ => {}
        }
        match NOT_OFFERED.into_iter().find(|method| method.as_bytes() == name) {
            Some(method) => Err(RequestError::MethodNotOffered { method }),
            None => Err(RequestError::MethodUnknown { method: escape_for_log(name) }),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Whether a method name can still become one, given what came of it.
pub(super) fn check_spelling(name: &[u8]) -> Result<(), RequestError> {
    let looked_at = &name[..name.len().min(METHOD_BYTES_MAX + 1)];
    if !looked_at.iter().copied().all(is_token_byte) {
        return Err(RequestError::MethodInvalid { method: escape_for_log(looked_at) });
    }
    if name.len() > METHOD_BYTES_MAX {
        return Err(RequestError::MethodUnknown { method: format!("{}...", escape_for_log(looked_at)) });
    }
    Ok(())
}

/// `tchar` of RFC 9110 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
