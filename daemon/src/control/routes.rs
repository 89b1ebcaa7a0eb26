//! From a request to its answer.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::error::RequestError;
use super::response::{self, Answer};
use super::{Shared, auth, streams};
use crate::telemetry::{Health, Status};

const TEXT: &str = "text/plain; charset=utf-8";

/// What a path stands for.
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

    /// The methods it has, as Allow lists them.
    fn allow(self) -> &'static str {
        if self == Route::Stream { "POST" } else { "GET, HEAD" }
    }

    fn has(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// Answers `request`, counts the answer and logs it.
pub(super) async fn answer(shared: Arc<Shared>, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = route(&shared, request).await.unwrap_or_else(|error| {
        if error.is_refused_caller() {
            shared.refusals.refused(peer, &path, &error);
        }
        response::problem(&error)
    });
    if shared.telemetry.health() == Health::Draining {
        response::make_last(&mut response);
    }
    let status = response.status().as_u16();
    shared.telemetry.control.requests.add(Status::of(status), 1);
    // Health checks would drown everything else.
    if path != "/health" {
        tracing::debug!(%peer, %method, ?path, status, "control request");
    }
    response
}

async fn route(shared: &Shared, request: Request<Incoming>) -> Result<Answer, RequestError> {
    let (parts, body) = request.into_parts();
    let route = Route::of(parts.uri.path());
    // Open to everybody: it tells nothing but whether to send traffic here.
    if route != Some(Route::Health) {
        auth::check(&parts, shared.live().token.as_ref())?;
    }
    let route = route.ok_or(RequestError::UnknownPath)?;
    if !route.has(&parts.method) {
        return Err(RequestError::Method { method: parts.method.to_string(), allow: route.allow() });
    }
    match route {
        Route::Health => Ok(health(shared)),
        Route::Metrics => Ok(metrics(shared)),
        Route::Streams => Ok(streams::list(shared)),
        Route::OneStream(id) => streams::show(shared, id),
        Route::Stream => streams::run(shared, &parts.uri, body).await,
    }
}

fn health(shared: &Shared) -> Answer {
    match shared.telemetry.health() {
        Health::Serving => response::body(StatusCode::OK, TEXT, "OK"),
        Health::Draining => response::body(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining"),
        Health::Stalled(worker) => {
            response::body(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("stalled: worker {worker}"))
        }
    }
}

fn metrics(shared: &Shared) -> Answer {
    let (content_type, text) = shared.telemetry.expose();
    response::body(StatusCode::OK, content_type, text)
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
