//! Request targets (RFC 9112 3.2): origin-form and absolute-form, which all methods on offer may have.

use crate::protocol::http1::authority::names_host;
use crate::protocol::http1::error::RequestError;
use crate::protocol::name::{Name, escape_for_log};

/// The target as text, and the name its path gives. The query is ignored; so is which host an absolute target
/// names, since one root serves all.
pub(super) fn parse(target: &[u8]) -> Result<(Box<str>, Name), RequestError> {
    let text = std::str::from_utf8(target)
        .ok()
        .filter(|_| !target.iter().any(u8::is_ascii_control))
        .ok_or_else(|| RequestError::TargetBytes { target: escape_for_log(target) })?;
    if target.contains(&b'#') {
        return Err(RequestError::TargetFragment { target: escape_for_log(target) });
    }
    let origin = if target.starts_with(b"/") { target } else { after_authority(target)? };
    let path = origin.split(|&byte| byte == b'?').next().unwrap_or_default();
    Ok((text.into(), Name::parse(path)?))
}

/// Path and query of an absolute-form target; the path may be empty, which means the root.
fn after_authority(target: &[u8]) -> Result<&[u8], RequestError> {
    let Some(rest) = strip_scheme(target) else {
        return Err(RequestError::TargetForm { target: escape_for_log(target) });
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    if !names_host(authority) {
        return Err(RequestError::TargetAuthority { authority: escape_for_log(authority) });
    }
    Ok(origin)
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}
