//! The routes of the control plane, from a request to its answer.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::caller::Caller;
use super::error::ApiError;
use super::gate::{REFUSED_TARGET, Refusal, Refused, Verdict};
use super::head_deadline::InRequest;
use super::response::{self, Answer};
use super::shared::Shared;
use super::streams::StreamCaller;
use super::{auth, metrics, streams};
use crate::limits::Peer;
use crate::protocol::http1::caller::request_id;
use crate::protocol::http1::forwarded::ForwardedError;
use crate::protocol::name::escaped_for_log;
use crate::telemetry::{Health, RequestId, RootState, Status, Telemetry};

/// The field of a request's id.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The field with the id of the trace that a request belongs to (W3C Trace Context 3.2).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const TEXT: &str = "text/plain; charset=utf-8";

/// The resource that a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Health,
    Metrics,
    Stream,
    Streams,
    OneStream(&'a str),
}

impl Route<'_> {
    fn of(path: &str) -> Option<Route<'_>> {
        match path {
            "/health" => Some(Route::Health),
            "/metrics" => Some(Route::Metrics),
            "/stream" => Some(Route::Stream),
            "/streams" => Some(Route::Streams),
            _ => path.strip_prefix("/streams/").filter(|id| !id.contains('/')).map(Route::OneStream),
        }
    }

    /// Returns the methods that the route has, as Allow lists them.
    fn allow(self) -> &'static str {
        if self == Route::Stream { "POST" } else { "GET, HEAD" }
    }

    fn has(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// Answers `request`, counts the answer and logs it.
pub(super) async fn answer(
    shared: Arc<Shared>,
    peer: Peer,
    request: Request<Incoming>,
    verdict: &Verdict,
    in_request: &InRequest,
) -> Answer {
    // The verdict may be on bytes that came behind this request.
    let is_refused = request.uri().path() == REFUSED_TARGET;
    let mut refused = if is_refused { verdict.take() } else { None };
    // The request that the gate put in place of another has none of its fields.
    let live = shared.live();
    let caller = Caller::of(peer, request.headers(), &live.proxies);
    let client = caller.as_ref().map_or(peer, |caller| caller.address);
    let mut account = match &mut refused {
        Some(refused) => Account::of_refused(&shared, client, refused),
        None => Account::new(&shared, client, &request),
    };
    let result = match refused {
        Some(refused) => Err(refusal(&shared, refused.why)),
        None => {
            // A proxy that names nobody stands for many clients.
            let is_proxy = client.is_trusted(&live.proxies);
            // The settings are released, since an answer may take hours.
            drop(live);
            let holder = if is_proxy { None } else { client.group() };
            route(&shared, caller, request, &StreamCaller { holder, in_request }).await
        }
    };
    let mut response = result.unwrap_or_else(|error| {
        if error.is_refused_caller() {
            shared.refusals.refused(client, &account.path, &error);
        }
        response::problem(&error)
    });
    if shared.telemetry.is_draining() {
        response::make_last(&mut response);
    }
    account.status = response.status().as_u16();
    account.name(&mut response);
    response
}

/// The status, never sent, of a request whose client left before its answer: NGINX's.
const CLIENT_LEFT: u16 = 499;

/// An account of a request, which counts and logs it when it is over, by an answer or because its client left,
/// which drops it.
struct Account {
    telemetry: Arc<Telemetry>,
    peer: Peer,
    method: String,
    /// The path, escaped.
    path: String,
    id: RequestId,
    status: u16,
}

/// The text that the log has for a part that couldn't be read.
const UNREAD: &str = "-";

impl Account {
    fn new(shared: &Shared, peer: Peer, request: &Request<Incoming>) -> Account {
        let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let id = request_id(field(X_REQUEST_ID), field(TRACEPARENT));
        let path = escaped_for_log(request.uri().path()).into_owned();
        Account::named(shared, peer, request.method().to_string(), path, id)
    }

    fn of_refused(shared: &Shared, peer: Peer, refused: &mut Refused) -> Account {
        let or_unread = |text: Option<String>| text.unwrap_or_else(|| UNREAD.to_owned());
        let (method, path) = (or_unread(refused.method.take()), or_unread(refused.path.take()));
        Account::named(shared, peer, method, path, refused.id.take())
    }

    fn named(shared: &Shared, peer: Peer, method: String, path: String, id: Option<Box<str>>) -> Account {
        Account {
            telemetry: Arc::clone(&shared.telemetry),
            peer,
            method,
            path,
            id: shared.name_request(id),
            status: CLIENT_LEFT,
        }
    }

    /// Tells the client the id of its request.
    fn name(&self, response: &mut Answer) {
        if let Ok(id) = HeaderValue::from_bytes(self.id.as_bytes()) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Account { telemetry, peer, method, path, id, status } = self;
        let id = id.as_str();
        telemetry.control.requests.add(Status::of(*status), 1);
        // Health checks aren't logged, since they would drown everything else.
        if path != "/health" {
            tracing::debug!(%peer, %method, path, status, id, "control request");
        }
    }
}

/// Returns the error of a request in whose place the gate put another.
fn refusal(shared: &Shared, why: Refusal) -> ApiError {
    match why {
        Refusal::Request(error) => ApiError::Head(error),
        Refusal::Late => ApiError::HeadSilent(shared.live().settings.head_timeout_ms),
        Refusal::Ended => ApiError::HeadCutShort,
        Refusal::Tls => ApiError::UnknownPath,
    }
}

async fn route(
    shared: &Shared,
    caller: Result<Caller, ForwardedError>,
    request: Request<Incoming>,
    stream_caller: &StreamCaller<'_>,
) -> Result<Answer, ApiError> {
    let (parts, body) = request.into_parts();
    let route = Route::of(parts.uri.path());
    // Health is open to everybody: it tells nothing but whether to send traffic here.
    if route != Some(Route::Health) {
        auth::check(&parts, caller?, shared.live().token.as_ref())?;
    }
    let route = route.ok_or(ApiError::UnknownPath)?;
    if !route.has(&parts.method) {
        return Err(ApiError::Method { method: parts.method.to_string(), allow: route.allow() });
    }
    match route {
        Route::Health => Ok(health(shared)),
        Route::Metrics => metrics::answer(shared, &parts.headers),
        Route::Streams => streams::list(shared),
        Route::OneStream(id) => streams::show(shared, id),
        Route::Stream => streams::run(shared, &parts.uri, body, stream_caller).await,
    }
}

fn health(shared: &Shared) -> Answer {
    match shared.telemetry.health() {
        Health::Serving => response::body(StatusCode::OK, TEXT, serving(&shared.telemetry)),
        Health::RootRemoved => {
            response::body(StatusCode::SERVICE_UNAVAILABLE, TEXT, "root removed".to_owned())
        }
        Health::DiskStuck => {
            response::body(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stalled: disk threads".to_owned())
        }
        Health::Draining => response::body(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining"),
        Health::Stalled(worker) => {
            response::body(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("stalled: worker {worker}"))
        }
    }
}

/// Returns `OK`, and a line for each fault beside which the daemon serves: a root that was replaced, and each
/// mount that doesn't answer.
fn serving(telemetry: &Telemetry) -> String {
    let mut text = "OK".to_owned();
    if telemetry.root.get() == RootState::Replaced {
        text.push_str("\nroot replaced: reload");
    }
    for mount in telemetry.disk().silent {
        let (point, seconds) = (escaped_for_log(mount.point.as_bytes()), mount.silence.as_secs());
        text.push_str(&format!("\nmount {point} doesn't answer ({seconds} s)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::Route;

    #[test]
    fn paths() {
        for (path, route) in [
            ("/health", Some(Route::Health)),
            ("/metrics", Some(Route::Metrics)),
            ("/stream", Some(Route::Stream)),
            ("/streams", Some(Route::Streams)),
            ("/streams/ab12", Some(Route::OneStream("ab12"))),
            ("/streams/", Some(Route::OneStream(""))),
            ("/streams/a/b", None),
            ("/health/", None),
            ("/Health", None),
            ("//health", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn head_goes_wherever_get_goes() {
        for route in [Route::Health, Route::Metrics, Route::Streams, Route::OneStream("a")] {
            assert!(
                route.has(&Method::GET) && route.has(&Method::HEAD) && !route.has(&Method::POST),
                "{route:?}"
            );
        }
        assert!(Route::Stream.has(&Method::POST) && !Route::Stream.has(&Method::GET));
    }
}
