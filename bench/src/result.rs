//! The result of a run: the JSON file that `report` reads again. It holds raw samples, never only their medians,
//! with everything that is needed to judge them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::host::Host;

/// The version of the format, raised when a field changes its meaning; `report` refuses other versions.
pub const FORMAT_VERSION: u32 = 1;

/// One run of the bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The [`FORMAT_VERSION`] of the bench that wrote it.
    pub format_version: u32,
    /// The time of its beginning, RFC 3339, UTC.
    pub started: String,
    /// The command line that made it.
    pub command_line: Vec<String>,
    /// The host that it ran on.
    pub host: Host,
    /// The servers that took part.
    pub peers: Vec<PeerFacts>,
    /// The servers that were asked for and aren't installed, with the reason.
    pub absent: Vec<Absent>,
    /// The scenarios that were measured.
    pub scenarios: Vec<Scenario>,
    /// Whether it was ended early, by Ctrl-C or by its time limit.
    pub interrupted: bool,
    /// The reason why it ended before all was measured, if it failed.
    #[serde(default)]
    pub failure: Option<String>,
}

impl Run {
    /// Makes a run that begins now, for this process's command line, without measurements.
    pub fn begin(host: Host) -> Run {
        Run {
            format_version: FORMAT_VERSION,
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command_line: std::env::args().collect(),
            host,
            peers: Vec::new(),
            absent: Vec::new(),
            scenarios: Vec::new(),
            interrupted: false,
            failure: None,
        }
    }
}

/// A server that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFacts {
    /// Its name in samples and tables.
    pub name: String,
    /// The service that it was set up for besides files, if there was one: a server that was started several times
    /// is listed as often.
    #[serde(default)]
    pub setup: String,
    /// Its version, in its own words.
    pub version: String,
    /// The command line that started it.
    pub command_line: Vec<String>,
    /// Its configuration file, as it was; empty where it has none.
    pub configuration: String,
}

/// A server that took no part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// One piece of work, done by every peer in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// Short and unique within the run: `pull-1GiB-16c`.
    pub id: String,
    /// The title in tables: `1 GiB hot, 16 connections`.
    pub title: String,
    /// The kind of work and its size.
    pub work: Work,
    /// The samples, in the order in which they were taken; round 0 is the uncounted warm-up.
    pub samples: Vec<Sample>,
    /// The servers that can't do this work, with the reason.
    #[serde(default)]
    pub left_out: Vec<Absent>,
}

/// The kind of work and its size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// GET of files.
    Pull {
        /// Bytes of each body.
        body_bytes: u64,
        /// Connections at once.
        connections: usize,
        /// Whether a connection carries more than one request.
        keep_alive: bool,
        /// Requests a second that are begun, where the loop is open.
        rate_per_s: Option<f64>,
    },
    /// Frames to the data port.
    Push {
        /// Bytes of each payload.
        body_bytes: u64,
        /// Connections at once.
        connections: usize,
    },
    /// POST /stream.
    Stream {
        /// Bytes of each stream.
        body_bytes: u64,
        /// Connections at once.
        connections: usize,
    },
    /// Open connections that do nothing, or read slowly.
    Connections {
        /// The number of connections.
        connections: usize,
        /// The bytes a second that each reads; None for idle ones.
        read_bytes_per_s: Option<u64>,
    },
    /// Hot small requests while cold large files are pulled.
    Mixed {
        /// Bytes of each hot body.
        body_bytes: u64,
        /// Connections with hot requests.
        connections: usize,
        /// Cold pulls at the same time.
        cold_pulls: usize,
        /// Hot requests a second that are begun, where the loop is open.
        #[serde(default)]
        rate_per_s: Option<f64>,
    },
    /// PUT, each connection to a name of its own.
    Put {
        /// Bytes of each body.
        body_bytes: u64,
        /// Connections at once.
        connections: usize,
        /// Whether an answer means that the body is on the disk.
        durable: bool,
    },
    /// Hot small requests while bodies are uploaded to a slow device.
    MixedPut {
        /// Bytes of each hot body.
        body_bytes: u64,
        /// Connections with hot requests.
        connections: usize,
        /// Uploads at the same time.
        uploads: usize,
        /// Bytes of each upload.
        upload_bytes: u64,
    },
}

/// The work of one peer in one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The peer's name.
    pub peer: String,
    /// 0 is the warm-up; the others are compared pair by pair.
    pub round: usize,
    /// Seconds from the first request to the last answer.
    pub elapsed_s: f64,
    /// Answers that came whole and right.
    pub requests: u64,
    /// Payload bytes of those answers.
    pub bytes: u64,
    /// Requests that failed, by their description.
    pub errors: Vec<(String, u64)>,
    /// CPU seconds of all the server's processes, kernel threads that work for it included.
    pub server_cpu_s: f64,
    /// CPU seconds of the client.
    pub client_cpu_s: f64,
    /// The most memory that the server's processes had resident, in bytes.
    pub server_memory_peak_bytes: u64,
    /// Jain's fairness index of the bytes of each connection, 1 where all got the same.
    pub fairness: Option<f64>,
    /// Time from the intended start of a request to its last byte.
    pub latency: Option<Latency>,
    /// Server memory for each open connection, in bytes.
    pub memory_per_connection_bytes: Option<f64>,
    /// Bytes a second that were pulled meanwhile of files that had left the page cache before each pull.
    pub cold_bytes_per_s: Option<f64>,
    /// Bytes a second that were pulled meanwhile of files that stayed in the page cache, or of which that isn't
    /// known.
    #[serde(default)]
    pub beside_bytes_per_s: Option<f64>,
    /// Bytes a second that were uploaded meanwhile.
    #[serde(default)]
    pub upload_bytes_per_s: Option<f64>,
    /// The 99th percentile beside the uploads divided by the one without them, taken one after the other.
    #[serde(default)]
    pub latency_p99_ratio: Option<f64>,
    /// Bodies that were compared with their source: fetched ones by SHA-256, uploaded ones byte by byte.
    pub digests_checked: u64,
}

/// Percentiles of latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The time that half of the requests stay below.
    pub p50_us: f64,
    /// The time that nine of ten stay below.
    pub p90_us: f64,
    /// The time that 99 of 100 stay below.
    pub p99_us: f64,
    /// The time that 999 of 1,000 stay below.
    pub p99_9_us: f64,
    /// The time of the slowest.
    pub max_us: f64,
}

impl Sample {
    /// Returns the payload bytes a second.
    pub fn bytes_per_s(&self) -> f64 {
        ratio(self.bytes as f64, self.elapsed_s)
    }

    /// Returns the answers a second.
    pub fn requests_per_s(&self) -> f64 {
        ratio(self.requests as f64, self.elapsed_s)
    }

    /// Returns the server CPU seconds for each GB (10^9 bytes).
    pub fn server_cpu_s_per_gb(&self) -> f64 {
        ratio(self.server_cpu_s, self.bytes as f64 / 1e9)
    }

    /// Returns the server CPU microseconds for each request.
    pub fn server_cpu_us_per_request(&self) -> f64 {
        ratio(self.server_cpu_s * 1e6, self.requests as f64)
    }

    /// Returns the client and server CPU seconds for each GB: on loopback the kernel moves work between the two.
    pub fn both_cpu_s_per_gb(&self) -> f64 {
        ratio(self.server_cpu_s + self.client_cpu_s, self.bytes as f64 / 1e9)
    }
}

/// Divides; 0 where there is nothing to divide by, as in a run that was cut off before its first answer.
fn ratio(dividend: f64, divisor: f64) -> f64 {
    if divisor > 0.0 { dividend / divisor } else { 0.0 }
}
