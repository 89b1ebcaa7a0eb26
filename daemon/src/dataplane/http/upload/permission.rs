//! Who may write: the holder of the token where other hosts reach the data plane, and no web page.

use super::super::super::worker::Worker;
use super::answer::Answer;
use crate::protocol::http1::request::WriteFields;

/// Refuses writes without the token where one is needed, and those of web pages.
///
/// A browser sends Origin (RFC 6454 7) with each write, other clients send none. A page that holds the token is its
/// owner's.
pub(super) fn check(worker: &Worker, fields: &WriteFields) -> Result<(), Answer> {
    let live = worker.live();
    let presented = fields.authorization.as_ref().and_then(|credentials| credentials.bearer());
    let is_holder = live.token.as_ref().zip(presented).is_some_and(|(token, presented)| token.is(presented));
    if is_holder {
        return Ok(());
    }
    if !live.settings.data_is_local() {
        let detail = "uploads need the token of this daemon: Authorization: Bearer TOKEN";
        return Err(Answer::problem(401, detail).field("WWW-Authenticate", "Bearer"));
    }
    match &fields.origin {
        Some(_) => Err(Answer::problem(403, "web pages may not write without the token of this daemon")),
        None => Ok(()),
    }
}
