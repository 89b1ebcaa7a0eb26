//! The counts of a load's connections.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::result::Latency;
use crate::statistics::fairness;

/// The longest latency that is recorded: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// The significant digits of latencies: 0.1 %.
const DIGITS: u8 = 3;

/// The counts of one thread, or of all.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Answers that came whole and right.
    pub requests: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Failures by their description.
    pub errors: BTreeMap<String, u64>,
    /// Cold pulls after which the file stayed in the page cache.
    pub pulls_warm: u64,
    /// Bytes of each connection.
    pub connection_bytes: Vec<u64>,
    /// The uploads of connections, by their numbers.
    uploads: BTreeMap<usize, ConnectionUploads>,
    latency: Histogram<u64>,
}

/// The uploads of one connection, each to the same name.
#[derive(Clone, Copy, Debug, Default)]
struct ConnectionUploads {
    begun: u64,
    /// The upload whose body the name has; None while another is under way.
    stored: Option<u64>,
}

impl Tally {
    /// Makes empty counts.
    pub fn new() -> Result<Tally> {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)?;
        Ok(Tally {
            requests: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            pulls_warm: 0,
            connection_bytes: Vec::new(),
            uploads: BTreeMap::new(),
            latency,
        })
    }

    /// Counts an answer that took `latency` from its intended start.
    pub fn answered(&mut self, latency: Duration) {
        self.requests += 1;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a failure.
    pub fn failed(&mut self, what: impl Into<String>) {
        *self.errors.entry(what.into()).or_default() += 1;
    }

    /// Begins an upload of connection `number`, and returns which of its uploads this is. Until it is stored the
    /// content of its name isn't known.
    pub fn begin_upload(&mut self, number: usize) -> u64 {
        let uploads = self.uploads.entry(number).or_default();
        uploads.stored = None;
        uploads.begun += 1;
        uploads.begun - 1
    }

    /// Notes that upload `upload` of connection `number` has its name.
    pub fn stored(&mut self, number: usize, upload: u64) {
        self.uploads.entry(number).or_default().stored = Some(upload);
    }

    /// Returns the connections whose names have a known body, with the upload that it came from.
    pub fn known_uploads(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.uploads.iter().filter_map(|(number, uploads)| Some((*number, uploads.stored?)))
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.pulls_warm += other.pulls_warm;
        self.connection_bytes.extend(other.connection_bytes);
        // Numbers count over all threads.
        self.uploads.extend(other.uploads);
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
        // Both have the same bounds.
        let _ = self.latency.add(other.latency);
    }

    /// Returns the percentiles; None where nothing was answered.
    pub fn latency(&self) -> Option<Latency> {
        let at = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        (!self.latency.is_empty()).then(|| Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: self.latency.max() as f64 / 1e3,
        })
    }

    /// Returns Jain's index of the connections' bytes.
    pub fn fairness(&self) -> Option<f64> {
        let shares: Vec<f64> = self.connection_bytes.iter().map(|bytes| *bytes as f64).collect();
        fairness(&shares)
    }
}
