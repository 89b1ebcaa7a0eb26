//! Request targets (RFC 9112 3.2): origin-form and absolute-form, which all methods on offer may have.

use crate::protocol::http1::authority::Authority;
use crate::protocol::http1::error::RequestError;
use crate::protocol::name::{Name, escape_for_log};

/// A target that has been cut but not decoded.
pub(super) struct Target<'b> {
    pub(super) text: &'b str,
    /// The host that an absolute target names.
    pub(super) authority: Option<Authority<'b>>,
    pub(super) path: &'b [u8],
    /// The bytes behind the `?`.
    query: &'b [u8],
}

impl Target<'_> {
    /// Returns the name that the path gives.
    pub(super) fn name(&self) -> Result<Name, RequestError> {
        Ok(Name::parse(self.path)?)
    }

    /// The target of an OPTIONS that is for the daemon and no file of it (RFC 9112 3.2.4).
    pub(super) const ASTERISK: Target<'static> =
        Target { text: "*", authority: None, path: b"/", query: b"" };

    /// Tells whether the query has this parameter, such as `archive=tar`. Others are ignored.
    pub(super) fn has_parameter(&self, parameter: &str) -> bool {
        !self.query.is_empty()
            && self.query.split(|&byte| byte == b'&').any(|pair| pair == parameter.as_bytes())
    }
}

/// Cuts a target.
pub(super) fn parse(target: &[u8]) -> Result<Target<'_>, RequestError> {
    let text = std::str::from_utf8(target)
        .ok()
        .filter(|_| !target.iter().any(u8::is_ascii_control))
        .ok_or_else(|| RequestError::TargetBytes { target: escape_for_log(target) })?;
    if target.contains(&b'#') {
        return Err(RequestError::TargetFragment { target: escape_for_log(target) });
    }
    let (authority, origin) = if target.starts_with(b"/") { (None, target) } else { split_absolute(target)? };
    let (path, query) = match memchr::memchr(b'?', origin) {
        Some(at) => (&origin[..at], &origin[at + 1..]),
        None => (origin, b"".as_slice()),
    };
    Ok(Target { text, authority, path, query })
}

/// Splits an absolute-form target into its host and its path and query; the path may be empty, which means the
/// root.
fn split_absolute(target: &[u8]) -> Result<(Option<Authority<'_>>, &[u8]), RequestError> {
    let Some(rest) = strip_scheme(target) else {
        return Err(RequestError::TargetForm { target: escape_for_log(target) });
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    match Authority::parse(authority) {
        Some(named) => Ok((Some(named), origin)),
        None => Err(RequestError::TargetAuthority { authority: escape_for_log(authority) }),
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}
