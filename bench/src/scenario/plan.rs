//! A plan: one piece of work, and the files that it needs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::upload_names::UploadTo;
use crate::arguments::Common;
use crate::fixture::Fixture;
use crate::result::Work;
use crate::usage::refuse;

/// The factor by which a measurement beside a slow device is longer: in a second some of 64 pulls get nothing from
/// a device of 50 MiB/s.
pub(super) const SLOW_DURATION_FACTOR: u32 = 4;

/// The factor by which a measurement of whole uploads is longer: the largest take about a second.
const UPLOAD_DURATION_FACTOR: u32 = 2;

/// One piece of work, with the files that it needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The id, short and unique: `pull-1GiB-16c`.
    pub id: String,
    /// The title in tables.
    pub title: String,
    /// The work itself.
    pub work: Work,
    /// The files that are asked for, in turn.
    pub files: Vec<ServedFile>,
    /// The files that are pulled cold meanwhile.
    pub cold_files: Vec<ServedFile>,
    /// The names that the work uploads to.
    pub uploads: Option<UploadTo>,
}

/// The service that servers are set up for. Each kind has servers of its own, so that a feature that one needs
/// costs another nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Files, frames and streams: reading alone.
    Files,
    /// Uploads that are answered when they have their name.
    Uploads,
    /// Uploads that are answered when they are on the disk.
    DurableUploads,
}

impl Serving {
    /// All kinds, in the order in which a comparison takes them.
    pub const ALL: [Serving; 3] = [Serving::Files, Serving::Uploads, Serving::DurableUploads];

    /// Returns the words for servers with this set-up.
    pub fn describe(self) -> &'static str {
        match self {
            Serving::Files => "",
            Serving::Uploads => "uploads",
            Serving::DurableUploads => "uploads, synced",
        }
    }
}

impl Plan {
    /// Returns the service that servers must be set up for.
    pub fn serving(&self) -> Serving {
        match self.work {
            Work::Put { durable: true, .. } => Serving::DurableUploads,
            Work::Put { .. } | Work::MixedPut { .. } => Serving::Uploads,
            _ => Serving::Files,
        }
    }

    /// Returns a set's timing, as this plan needs it.
    pub fn timing(&self, set: Timing) -> Timing {
        let factor = match self.work {
            Work::Mixed { cold_pulls: 1.., .. } | Work::MixedPut { uploads: 1.., .. } => SLOW_DURATION_FACTOR,
            Work::Put { .. } => UPLOAD_DURATION_FACTOR,
            _ => 1,
        };
        Timing { duration: set.duration * factor, ..set }
    }
}

/// A file as the server names it.
#[derive(Clone, Debug)]
pub struct ServedFile {
    /// Its path in a URL.
    pub url_path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The fixture, if the bench made it: its bytes are then compared.
    pub source: Option<Fixture>,
    /// Its path on this host, where that is known.
    pub path: Option<PathBuf>,
}

impl From<Fixture> for ServedFile {
    fn from(fixture: Fixture) -> ServedFile {
        ServedFile {
            url_path: fixture.url_path.clone(),
            bytes: fixture.expected.bytes,
            path: Some(fixture.path.clone()),
            source: Some(fixture),
        }
    }
}

/// The longest measurement and the longest warm-up, in seconds.
const DURATION_S_MAX: f64 = 3600.0;
const WARM_UP_S_MAX: f64 = 600.0;

/// The length of each part of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time before the clock starts.
    pub warm_up: Duration,
    /// Time while the clock runs.
    pub duration: Duration,
}

impl Timing {
    /// Takes the timing from the command line.
    pub fn of(common: &Common) -> Result<Timing> {
        let (warm_up, duration) = (common.warm_up, common.duration);
        if !(0.0..=WARM_UP_S_MAX).contains(&warm_up) {
            refuse!("--warm-up {warm_up} is outside 0 to {WARM_UP_S_MAX} seconds");
        }
        if !(duration > 0.0 && duration <= DURATION_S_MAX) {
            refuse!("--duration {duration} is outside 0 to {DURATION_S_MAX} seconds");
        }
        Ok(Timing { warm_up: Duration::from_secs_f64(warm_up), duration: Duration::from_secs_f64(duration) })
    }
}
