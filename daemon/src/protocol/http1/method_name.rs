//! The method as a request line names it (RFC 9110 9.1): known or not, on offer or not.

use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::method::{Method, is_token_byte};
use crate::protocol::name::escape_for_log;

/// The longest method that is looked at, in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17; RFC
/// 9112 3 has a longer one than the server knows answered with 501.
const METHOD_BYTES_MAX: usize = 32;

/// The methods of RFC 9110 9.3 that are known and never offered.
const NOT_OFFERED: [&str; 2] = ["TRACE", "CONNECT"];

/// A method that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodName {
    Offered(Method),
    NotOffered(&'static str),
}

impl MethodName {
    /// Reads a whole method name. Methods are case-sensitive.
    pub(super) fn parse(name: &[u8]) -> Result<MethodName, RequestError> {
        let method = match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"PUT" => Method::Put,
            b"POST" => Method::Post,
            b"PATCH" => Method::Patch,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            _ => {
                let known = NOT_OFFERED.into_iter().find(|method| method.as_bytes() == name);
                let unknown = || RequestError::MethodUnknown { method: escape_for_log(name) };
                return known.map(MethodName::NotOffered).ok_or_else(unknown);
            }
        };
        Ok(MethodName::Offered(method))
    }

    /// Returns the method, where it is one on offer.
    pub(super) fn offered(self) -> Result<Method, RequestError> {
        match self {
            MethodName::Offered(method) => Ok(method),
            MethodName::NotOffered(method) => Err(RequestError::MethodNotOffered { method }),
        }
    }
}

/// Whether the bytes that have come can still become a method name.
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
