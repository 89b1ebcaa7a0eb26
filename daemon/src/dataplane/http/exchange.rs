//! A request that is being answered.

use std::sync::Arc;
use std::time::Instant;

use super::super::context::Worker;
use super::body::Discarded;
use super::cors::{self, Cors};
use super::response::Asked;
use crate::config::Share;
use crate::protocol::http1::request::Request;
use crate::protocol::name::escaped_for_log;
use crate::telemetry::RequestId;

/// A request that is being answered.
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) id: RequestId,
    pub(super) started: Instant,
    /// How far a body that nobody wants has been dropped.
    pub(super) discarded: Discarded,
    pub(super) keep_alive: bool,
    /// Bytes that an upload's body brought.
    pub(super) uploaded_bytes: u64,
    /// Its share, where pages of other origins may read that.
    cors: Option<Arc<Share>>,
}

impl Exchange {
    /// Begins to answer a request whose head came at `started`, and logs that.
    pub(super) fn begin(
        worker: &Worker,
        mut request: Request,
        discarded: Discarded,
        started: Instant,
    ) -> Exchange {
        let keep_alive = request.keep_alive && discarded.is_whole && !worker.is_draining();
        let id = worker.request_ids.name(request.caller.as_mut().and_then(|caller| caller.id.take()));
        let cors = cors::share_of(worker, &request);
        let exchange = Exchange { request, id, started, discarded, keep_alive, uploaded_bytes: 0, cors };
        exchange.log_begin();
        exchange
    }

    fn log_begin(&self) {
        tracing::debug!(
            id = self.id.as_str(),
            method = self.request.method.as_str(),
            path = &*escaped_for_log(&*self.request.target),
            "request begins"
        );
    }

    /// The exchange of a request that has brought `uploaded_bytes` of an upload.
    pub(super) fn of_upload(self, uploaded_bytes: u64) -> Exchange {
        Exchange { uploaded_bytes, ..self }
    }

    /// The exchange once it has to wait. A reload may want access lines by the time it ends, and its line says how long
    /// it took.
    pub(super) fn timed(self, worker: &Worker) -> Exchange {
        if worker.live().settings.writes_access_lines() {
            return self;
        }
        Exchange { started: Instant::now(), ..self }
    }

    /// The traits of the request that shape every answer to it.
    pub(super) fn asked<'w>(&'w self, worker: &'w Worker) -> Asked<'w> {
        let Exchange { request, keep_alive, id, cors, .. } = self;
        Asked {
            worker,
            method: request.method,
            version: request.version,
            keep_alive: *keep_alive,
            id,
            prefers_html: request.prefers_html,
            cors: cors.as_ref().and_then(|share| Cors::of(share, request)),
        }
    }
}
