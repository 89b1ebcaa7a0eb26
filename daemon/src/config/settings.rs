//! The typed settings, each with its unit, its default and the reason for that default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bytes;
use super::hosts::HostRule;
use super::lifetime::Lifetime;

/// How the data plane moves a transfer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Decided per window from its length and from whether it is hot.
    Auto,
    /// Non-blocking sendfile(2).
    Sendfile,
    /// splice(2) through a pipe.
    Splice,
    /// Read into a buffer, then send it.
    Copy,
}

/// What drives a worker's event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DriverChoice {
    /// io_uring where the kernel grants it, else epoll, and says so.
    Auto,
    /// io_uring or nothing: start-up fails where it is refused.
    Uring,
    /// epoll.
    Epoll,
}

/// What of its own rights the daemon gives up at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SandboxChoice {
    /// Whatever the kernel can take away, and says what it can't.
    Auto,
    /// Everything or nothing: start-up fails where Landlock or the dropping of capabilities isn't to be had.
    Required,
    /// Nothing.
    Off,
}

/// What the entity tag of a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EtagChoice {
    /// Size, modification time, inode and change time: strong once it is 2 s old, and another on each host.
    Node,
    /// The content, of which a digest is made in the background: strong and the same everywhere once that is there.
    Digest,
    /// Size and modification time in seconds: always weak, and the same where both are.
    Times,
}

/// Where the payload of an incoming frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SinkChoice {
    /// Counted and dropped inside the kernel.
    Discard,
    /// Written to the spool directory; acknowledged once it is durable.
    Store,
}

/// Whether connections to the data port begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocolChoice {
    /// None does: what begins with one is refused.
    Off,
    /// Those of trusted proxies may.
    Optional,
    /// Those of trusted proxies must, and nobody else connects.
    Required,
}

/// What an upload is that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk, with its name.
    Fsync,
    /// In the page cache: a host that loses power within the next half minute loses it too.
    None,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text for people.
    Text,
    /// One JSON object a line for machines.
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may soon need a person.
    Warn,
    /// Changes of state, and the access lines.
    Info,
    /// What each connection does.
    Debug,
    /// Everything.
    Trace,
}

/// All settings. Field names are the flags' names with `_` and the keys of the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory whose regular files are served; without one HTTP answers 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Address of the data plane; port 0 takes a free one.
    pub data_listen: SocketAddr,
    /// Address of the control plane; port 0 takes a free one.
    pub control_listen: SocketAddr,
    /// Threads of the data plane, 1 to [`WORKERS_MAX`].
    pub workers: usize,
    /// Where the payload of incoming frames goes.
    pub sink: SinkChoice,
    /// Directory of stored frames; needed by the `store` sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// Whether a directory below the root is answered with its listing.
    pub listing: bool,
    /// What entity tags are made of.
    pub etag: EtagChoice,
    /// Whether PUT, POST, PATCH and DELETE are offered below the root.
    pub uploads: bool,
    /// Whether an upload makes the directories that its name goes through.
    pub create_dirs: bool,
    /// What an upload is that was acknowledged.
    pub durability: Durability,
    /// How long an upload that isn't gone on with is kept, [`PARTIAL_TTL_MIN`] to [`PARTIAL_TTL_MAX`].
    pub partial_ttl: Lifetime,
    /// Longest upload, in bytes, 1 to [`UPLOAD_BYTES_MAX_LIMIT`].
    #[serde(deserialize_with = "bytes::deserialize")]
    pub upload_bytes_max: u64,
    /// Uploads that are written at once, 1 to [`UPLOADS_MAX_LIMIT`].
    pub uploads_max: usize,
    /// Those of them that are to get the same name, 1 to [`UPLOADS_MAX_LIMIT`].
    pub uploads_per_destination_max: usize,
    /// Bytes that have to come of an upload's body for it to be written past the page cache (O_DIRECT), where the file
    /// system takes that and the upload is to be durable; 0 for never.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub direct_bytes_min: u64,
    /// Bytes of the file system that uploads and stored frames leave free.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub min_free_bytes: u64,
    /// Inodes of it that they leave free, where it has a number of them.
    pub min_free_inodes: u64,
    /// How bytes move.
    pub engine: EngineChoice,
    /// What drives the workers.
    pub driver: DriverChoice,
    /// What the daemon gives up before it serves.
    pub sandbox: SandboxChoice,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// Whether each transfer writes an access line.
    pub access_log: bool,
    /// File that holds the bearer token of the control plane and of uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Hosts that requests of the data plane may be for, besides its own names: names and addresses, `*` for any. Where
    /// none is listed, any, but on a loopback address.
    pub hosts_allowed: Vec<String>,
    /// Who is believed whom it stands for: addresses and networks (`10.0.0.0/8`) of proxies.
    pub trusted_proxies: Vec<String>,
    /// Whether they say so ahead of a data connection's first byte.
    pub proxy_protocol: ProxyProtocolChoice,
    /// Where streams may go besides the own data plane: `HOST:PORT`, `NETWORK/BITS:PORT`, port `*` for any.
    pub targets_allowed: Vec<String>,
    /// Largest frame that is taken, in bytes.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub frame_bytes_max: u64,
    /// Largest stream that POST /stream starts, in bytes.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub stream_bytes_max: u64,
    /// Most bytes that stored frames may take up together, each at least a block of the file system.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub spool_bytes_max: u64,
    /// Most stored frames.
    pub spool_files_max: u64,
    /// Most bytes that the frames of one address may take up; 0 for half of `spool_bytes_max`.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub address_spool_bytes_max: u64,
    /// Most stored frames of one address; 0 for half of `spool_files_max`.
    pub address_spool_files_max: u64,
    /// Most bytes of memory that answers may take up together while they wait for their readers.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub waiting_bytes_max: u64,
    /// Streams that run at once, 1 to [`STREAMS_MAX_LIMIT`].
    pub streams_max: usize,
    /// Connections of the data plane at once; more wait in the listen queue.
    pub connections_max: usize,
    /// Connections of the control plane at once; more wait in the listen queue.
    pub control_connections_max: usize,
    /// Connections that one address may hold, of both planes.
    pub address_connections_max: usize,
    /// Uploads that one address may write at once.
    pub address_uploads_max: usize,
    /// Streams that one address may have running.
    pub address_streams_max: usize,
    /// Listings that one address may be sent at once.
    pub address_listings_max: usize,
    /// Threads, for the whole daemon, for what may wait for a disk.
    pub disk_threads: usize,
    /// Milliseconds for which a mount may end nothing of what it is asked for before it counts as one that doesn't
    /// answer.
    pub disk_timeout_ms: u64,
    /// Milliseconds for which what is known of a file is believed: so long may a change from outside stay unseen.
    pub cache_valid_ms: u64,
    /// Milliseconds within which a request head must be complete.
    pub head_timeout_ms: u64,
    /// Milliseconds that a connection may wait for its next request.
    pub idle_timeout_ms: u64,
    /// Milliseconds without progress after which sending is given up.
    pub send_timeout_ms: u64,
    /// Milliseconds without progress after which receiving a frame is given up.
    pub receive_timeout_ms: u64,
    /// Bytes a second that a peer has to move while it is waited for; 0 asks for none.
    #[serde(deserialize_with = "bytes::deserialize")]
    pub progress_bytes_min: u64,
    /// Milliseconds over which that is measured.
    pub progress_interval_ms: u64,
    /// Milliseconds within which a stream's target must accept the connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds that a stream's target may stay silent.
    pub target_timeout_ms: u64,
    /// Milliseconds that transfers in flight get to finish when the daemon stops.
    pub drain_timeout_ms: u64,
    /// TCP congestion control of data connections; the host's default where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<String>,
}

/// Most workers: more than the cores of today's largest hosts only adds rings.
pub const WORKERS_MAX: usize = 1024;
/// Most streams at once: each holds two sockets and an open request.
pub const STREAMS_MAX_LIMIT: usize = 65_536;
/// Least memory for answers that wait: one of each kind, on either plane.
pub const WAITING_BYTES_MAX_MIN: u64 = 1 << 20;
/// Longest time-out: a day. A longer one is a typing error.
pub const TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Longest belief in what is known of a file: a minute. Whoever needs longer wants a proxy's cache.
pub const CACHE_VALID_MS_MAX: u64 = 60 * 1000;
/// Most threads for the disk; each has a stack, and more only queue at the device.
pub const DISK_THREADS_MAX: usize = 256;
/// Highest value of the frame limit: byte 7 of a frame header must stay 0, by which frames are told from HTTP.
pub const FRAME_BYTES_MAX_LIMIT: u64 = (1 << 56) - 1;
/// Highest value of the stream limit: a stream to a frame target is one frame.
pub const STREAM_BYTES_MAX_LIMIT: u64 = FRAME_BYTES_MAX_LIMIT;

/// Shortest lifetime of an upload that isn't gone on with: a client needs some time to notice and come back.
pub const PARTIAL_TTL_MIN: Duration = Duration::from_secs(60);
/// Longest lifetime of one: 30 days. What lies longer is forgotten, and its disk space with it.
pub const PARTIAL_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Highest value of the upload limit, 10^15 - 1: `Upload-Offset` can't name a later byte (RFC 9651 3.3.1).
pub const UPLOAD_BYTES_MAX_LIMIT: u64 = 999_999_999_999_999;
/// Most uploads at once: each has a file and an entry in memory, and more are looked through in one sweep.
pub const UPLOADS_MAX_LIMIT: usize = 65_536;

impl Settings {
    /// Most bytes of stored frames of one address.
    pub fn address_spool_bytes(&self) -> u64 {
        if self.address_spool_bytes_max == 0 {
            self.spool_bytes_max / 2
        } else {
            self.address_spool_bytes_max
        }
    }

    /// Most stored frames of one address.
    pub fn address_spool_files(&self) -> u64 {
        if self.address_spool_files_max == 0 {
            self.spool_files_max / 2
        } else {
            self.address_spool_files_max
        }
    }

    /// Whether the data plane can be reached from this host alone.
    pub fn data_is_local(&self) -> bool {
        is_loopback(self.data_listen.ip())
    }

    /// Whether something that only a token guards can be reached from other hosts.
    pub fn needs_token(&self) -> bool {
        !self.control_is_local() || (self.uploads && self.uploads_need_token())
    }

    /// Whether uploads would be open to other hosts without one.
    pub fn uploads_need_token(&self) -> bool {
        !self.data_is_local() || self.opens_to_proxies()
    }

    /// Whether the data plane answers to names that other hosts know it by: those of a proxy in front of it, whose
    /// clients all look like this host.
    pub fn opens_to_proxies(&self) -> bool {
        self.hosts_allowed.iter().any(|host| HostRule::parse(host).is_ok_and(|rule| !rule.is_of_this_host()))
    }

    /// Whether transfers have access lines.
    pub fn writes_access_lines(&self) -> bool {
        self.access_log && self.log_level >= LogLevel::Info
    }

    /// Whether the control plane can be reached from this host alone.
    pub fn control_is_local(&self) -> bool {
        is_loopback(self.control_listen.ip())
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4: Ipv4Addr| v4.is_loopback())
        }
    }
}
