//! A control connection: hyper between its time-outs.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time;

use super::gate::{Gate, Refusal, Refused, Verdict};
use super::head_deadline::{HeadDeadline, RequestClock};
use super::routes;
use super::shared::Shared;
use super::stream::Stream;
use super::write_pace::WritePace;
use crate::limits::{PaceMinimum, Peer};
use crate::protocol::detect::TLS_ON_PLAIN_PORT;
use crate::protocol::http1::request::HEAD_BYTES_MAX;

/// The time in which a connection without a request yet may bring one when the plane stops: hyper would close it
/// at once (graceful_shutdown, 1.12), and the request may be on its way. It lies within the grace that a stop has.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// The time by which hyper's own limit on a head is later than ours, which tells the client.
const HYPER_SLACK: Duration = Duration::from_secs(5);

/// Serves requests until the peer closes, a time-out strikes or the plane stops.
pub(super) async fn serve(
    stream: Stream,
    peer: Peer,
    clock: RequestClock,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let live = shared.live();
    let send_timeout = Duration::from_millis(live.settings.send_timeout_ms);
    if let Err(error) = stream.set_options(send_timeout) {
        tracing::debug!(%peer, %error, "control connection lost before its first request");
        return;
    }
    let head_timeout = Duration::from_millis(live.settings.head_timeout_ms);
    let idle_timeout = Duration::from_millis(live.settings.idle_timeout_ms);
    let verdict = Verdict::default();
    let stream =
        WritePace::new(stream, send_timeout, PaceMinimum::of(&live.settings), Arc::clone(&shared.telemetry));
    let stream = HeadDeadline::new(stream, clock.clone(), head_timeout, idle_timeout);
    let gate = Gate::new(stream, clock.clone(), verdict.clone());
    let (requests, judged) = (clock.clone(), verdict.clone());
    let service = service_fn(move |request| {
        let (shared, in_request) = (Arc::clone(&shared), clock.start_request());
        let verdict = judged.clone();
        async move {
            let response = routes::answer(shared, peer, request, &verdict, &in_request).await;
            drop(in_request);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            // Without a timer hyper's time-outs do nothing.
            .timer(TokioTimer::new())
            // The time runs from the end of the request before (hyper 1.12, Conn::poll_read_head), and hyper
            // closes without an answer: HeadDeadline's limits come first.
            .header_read_timeout(idle_timeout + head_timeout + HYPER_SLACK)
            // The gate lets no longer head pass.
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(gate), service)
    );
    drop(live);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stopped.changed() => {
            let grace = if requests.is_fresh() { FIRST_REQUEST_GRACE } else { Duration::ZERO };
            match time::timeout(grace, connection.as_mut()).await {
                Ok(result) => result,
                Err(_) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Some(Refused { why: Refusal::Tls, .. }) = verdict.take() {
        tracing::info!(%peer, error = TLS_ON_PLAIN_PORT, "connection refused");
    }
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "control connection ended early");
    }
}
