//! The state that all control requests share.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::error::ApiError;
use super::lookup::Lookups;
use super::refusal_log::RefusalLog;
use super::registry::StreamRegistry;
use super::target::OwnDataPlane;
use crate::config::Live;
use crate::job::Mailboxes;
use crate::limits::{AddressShares, Descriptors, Plane, Reserved};
use crate::telemetry::{RequestId, RequestIds, Telemetry};

/// The settings, the counters and the limits that all control requests share.
pub(super) struct Shared {
    pub(super) live: watch::Receiver<Arc<Live>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) registry: Arc<StreamRegistry>,
    pub(super) mailboxes: Mailboxes,
    pub(super) own: OwnDataPlane,
    pub(super) shares: AddressShares,
    pub(super) descriptors_max: Option<u64>,
    pub(super) refusals: RefusalLog,
    pub(super) lookups: Lookups,
    pub(super) request_ids: Mutex<RequestIds>,
}

impl Shared {
    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// Returns the id of a request whose client called it `sent`.
    pub(super) fn name_request(&self, sent: Option<Box<str>>) -> RequestId {
        self.request_ids.lock().unwrap_or_else(PoisonError::into_inner).name(sent)
    }

    /// Reserves room for an answer that may wait for its reader.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Reserved, ApiError> {
        let bytes_max = self.live.borrow().settings.waiting_bytes_max;
        let reserved = self.telemetry.budget.reserve(Plane::Control, bytes as u64, bytes_max);
        reserved.map_err(|_| ApiError::NoRoom)
    }

    /// Returns the descriptors that the settings ask for, as far as the process may have them.
    pub(super) fn descriptors(&self, live: &Live) -> Descriptors {
        Descriptors::divide(self.descriptors_max, &live.settings)
    }
}
