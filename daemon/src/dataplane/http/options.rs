//! Answers OPTIONS: which methods there are, and whether a page of another origin may use them.

use super::super::context::Worker;
use super::exchange::Exchange;
use super::response::Response;
use crate::protocol::http1::method::Method;
use crate::protocol::upload;

/// The answer to OPTIONS: the methods that there are, for the name or (`*`) for any.
pub(super) fn answer(worker: &Worker, exchange: &Exchange) -> Response {
    let (request, asked) = (&exchange.request, exchange.asked(worker));
    let is_for_all = &*request.target == "*";
    let takes_uploads =
        if is_for_all { worker.takes_uploads() } else { worker.takes_upload_of(&request.name) };
    let methods = Method::allowed(takes_uploads);
    let mut fields = vec![("Allow", methods.to_owned())];
    if takes_uploads {
        fields.push(("Accept-Patch", upload::MEDIA_TYPE.to_owned()));
    }
    let preflight = request.read.as_ref().and_then(|fields| fields.preflight);
    if let (Some(cors), Some(preflight)) = (asked.cors, preflight) {
        fields.extend(cors.allow(preflight, methods));
    }
    Response::made(&asked, 204, &fields, None)
}
