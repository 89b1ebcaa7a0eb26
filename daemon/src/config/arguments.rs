//! The command line; each flag is also a `STREAMD_*` variable.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser};
use serde::Serialize;

use super::bounds::bounds_of;
use super::bytes;
use super::lifetime::Lifetime;
use super::load::CONFIG_FILE_DEFAULT;
use super::settings::{
    DriverChoice, Durability, EngineChoice, EtagChoice, LogFormat, LogLevel, ProxyProtocolChoice,
    SandboxChoice, Settings, SinkChoice,
};

/// Streams files and byte streams over TCP: HTTP/1.1 and length-prefixed frames on the data port, health,
/// streams and metrics on the control port.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "streamd", version, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 runtime failure, 2 usage, 78 bad configuration.")]
pub struct Arguments {
    /// TOML file; /etc/streamd/streamd.toml is read if present
    #[arg(long, env = "STREAMD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration and the host, bind nothing, and say what is missing
    #[arg(long)]
    pub check: bool,

    /// Print the settings in force as TOML and exit
    #[arg(long)]
    pub print_config: bool,

    /// The settings given as flags or variables.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Settings given as flags or variables; each overrides the file's.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct Overrides {
    /// Directory whose files are served over HTTP on the data port
    #[arg(long, env = "STREAMD_ROOT", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<PathBuf>,

    /// Address of the data plane; port 0 takes a free one
    #[arg(long, env = "STREAMD_DATA_LISTEN", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_listen: Option<SocketAddr>,

    /// Address of the control plane; port 0 takes a free one
    #[arg(long, env = "STREAMD_CONTROL_LISTEN", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    control_listen: Option<SocketAddr>,

    /// Data-plane threads, one per usable core by default
    #[arg(long, env = "STREAMD_WORKERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,

    /// Where the payload of incoming frames goes
    #[arg(long, env = "STREAMD_SINK", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<SinkChoice>,

    /// Directory of stored frames, for --sink store
    #[arg(long, env = "STREAMD_SPOOL", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    spool: Option<PathBuf>,

    /// Answer directories with their listing
    #[arg(long, env = "STREAMD_LISTING", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listing: Option<bool>,

    /// What entity tags are made of
    #[arg(long, env = "STREAMD_ETAG", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<EtagChoice>,

    /// Take uploads below the root; they need the token where one is set, and one where other hosts reach them
    #[arg(long, env = "STREAMD_UPLOADS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    uploads: Option<bool>,

    /// Make the directories that an upload's name goes through
    #[arg(long, env = "STREAMD_CREATE_DIRS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    create_dirs: Option<bool>,

    /// What an upload is that was acknowledged: on disk, or in memory
    #[arg(long, env = "STREAMD_DURABILITY", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<Durability>,

    /// How long an upload that isn't gone on with is kept (90s, 24h, 7days)
    #[arg(long, env = "STREAMD_PARTIAL_TTL", value_name = "SPAN", value_parser = Lifetime::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_ttl: Option<Lifetime>,

    /// Longest upload that is taken
    #[arg(long, env = "STREAMD_UPLOAD_BYTES_MAX", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_bytes_max: Option<u64>,

    /// Uploads that are written at once
    #[arg(long, env = "STREAMD_UPLOADS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    uploads_max: Option<usize>,

    /// Uploads that are written at once to one name
    #[arg(long, env = "STREAMD_UPLOADS_PER_DESTINATION_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    uploads_per_destination_max: Option<usize>,

    /// Rest of a body from which on it is written past the page cache (O_DIRECT), with durability fsync; 0 for never
    #[arg(long, env = "STREAMD_DIRECT_BYTES_MIN", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    direct_bytes_min: Option<u64>,

    /// Bytes of the file system that uploads and stored frames leave free
    #[arg(long, env = "STREAMD_MIN_FREE_BYTES", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_free_bytes: Option<u64>,

    /// Inodes of the file system that uploads and stored frames leave free, where it has a number of them
    #[arg(long, env = "STREAMD_MIN_FREE_INODES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_free_inodes: Option<u64>,

    /// How bytes move
    #[arg(long, env = "STREAMD_ENGINE", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineChoice>,

    /// What drives the workers
    #[arg(long, env = "STREAMD_DRIVER", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<DriverChoice>,

    /// Give up all capabilities, and all files but what is served and read
    #[arg(long, env = "STREAMD_SANDBOX", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<SandboxChoice>,

    /// How log lines look
    #[arg(long, env = "STREAMD_LOG_FORMAT", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,

    /// The least severe level that is logged
    #[arg(long, env = "STREAMD_LOG_LEVEL", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<LogLevel>,

    /// Write one line per transfer
    #[arg(long, env = "STREAMD_ACCESS_LOG", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    access_log: Option<bool>,

    /// File that holds the bearer token of the control plane and of uploads
    #[arg(long, env = "STREAMD_TOKEN_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,

    /// Hosts that requests on the data port may be for, besides its own names: names and addresses, * for any; where
    /// none is listed, any but on a loopback address
    #[arg(long, env = "STREAMD_HOSTS_ALLOWED", value_name = "HOST", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts_allowed: Option<Vec<String>>,

    /// Proxies that are believed whom they stand for, by PROXY protocol, Forwarded and X-Forwarded-For: addresses and
    /// networks (10.0.0.0/8)
    #[arg(long, env = "STREAMD_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted_proxies: Option<Vec<String>>,

    /// Whether connections to the data port begin with a PROXY protocol header, version 1 or 2
    #[arg(long, env = "STREAMD_PROXY_PROTOCOL", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<ProxyProtocolChoice>,

    /// Where streams may go besides the own data plane: HOST:PORT, NETWORK/BITS:PORT, port * for any
    #[arg(long, env = "STREAMD_TARGETS_ALLOWED", value_name = "HOST:PORT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    targets_allowed: Option<Vec<String>>,

    /// Largest frame that is taken
    #[arg(long, env = "STREAMD_FRAME_BYTES_MAX", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_bytes_max: Option<u64>,

    /// Largest stream that POST /stream starts
    #[arg(long, env = "STREAMD_STREAM_BYTES_MAX", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_bytes_max: Option<u64>,

    /// Most bytes that stored frames may take up together, each at least a block of the file system
    #[arg(long, env = "STREAMD_SPOOL_BYTES_MAX", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    spool_bytes_max: Option<u64>,

    /// Most stored frames
    #[arg(long, env = "STREAMD_SPOOL_FILES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    spool_files_max: Option<u64>,

    /// Most bytes that the stored frames of one address may take up; 0 for half of spool_bytes_max
    #[arg(long, env = "STREAMD_ADDRESS_SPOOL_BYTES_MAX", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_spool_bytes_max: Option<u64>,

    /// Most stored frames of one address; 0 for half of spool_files_max
    #[arg(long, env = "STREAMD_ADDRESS_SPOOL_FILES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_spool_files_max: Option<u64>,

    /// Most memory for answers that wait for their readers: listings, metrics, lists of streams
    #[arg(long, env = "STREAMD_WAITING_BYTES_MAX", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_bytes_max: Option<u64>,

    /// Streams that run at once
    #[arg(long, env = "STREAMD_STREAMS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    streams_max: Option<usize>,

    /// Data connections at once
    #[arg(long, env = "STREAMD_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_max: Option<usize>,

    /// Control connections at once
    #[arg(long, env = "STREAMD_CONTROL_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    control_connections_max: Option<usize>,

    /// Connections of one address at once, of both planes; loopback isn't one address
    #[arg(long, env = "STREAMD_ADDRESS_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_connections_max: Option<usize>,

    /// Uploads of one address at once
    #[arg(long, env = "STREAMD_ADDRESS_UPLOADS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_uploads_max: Option<usize>,

    /// Streams of one address at once
    #[arg(long, env = "STREAMD_ADDRESS_STREAMS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_streams_max: Option<usize>,

    /// Listings that one address is sent at once
    #[arg(long, env = "STREAMD_ADDRESS_LISTINGS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_listings_max: Option<usize>,

    /// Threads for what may wait for a disk
    #[arg(long, env = "STREAMD_DISK_THREADS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_threads: Option<usize>,

    /// Time for which a mount may end nothing before what needs it gets 503; uploads wait ten times as long
    #[arg(long, env = "STREAMD_DISK_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_timeout_ms: Option<u64>,

    /// Time for which a file that was opened is served without a look at its name; 0 looks each time
    #[arg(long, env = "STREAMD_CACHE_VALID_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_valid_ms: Option<u64>,

    /// Time for a request head to be complete
    #[arg(long, env = "STREAMD_HEAD_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    head_timeout_ms: Option<u64>,

    /// Time that a connection may wait for its next request
    #[arg(long, env = "STREAMD_IDLE_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout_ms: Option<u64>,

    /// Time without progress after which sending is given up
    #[arg(long, env = "STREAMD_SEND_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    send_timeout_ms: Option<u64>,

    /// Time without progress after which receiving a frame is given up
    #[arg(long, env = "STREAMD_RECEIVE_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    receive_timeout_ms: Option<u64>,

    /// Bytes a second that a peer has to move while it is waited for; 0 for none
    #[arg(long, env = "STREAMD_PROGRESS_BYTES_MIN", value_name = "BYTES", value_parser = bytes::parse)]
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_bytes_min: Option<u64>,

    /// Time over which that is measured
    #[arg(long, env = "STREAMD_PROGRESS_INTERVAL_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_interval_ms: Option<u64>,

    /// Time for a stream's target to accept the connection
    #[arg(long, env = "STREAMD_CONNECT_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_timeout_ms: Option<u64>,

    /// Time that a stream's target may stay silent
    #[arg(long, env = "STREAMD_TARGET_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    target_timeout_ms: Option<u64>,

    /// Time for transfers in flight to finish when the daemon stops
    #[arg(long, env = "STREAMD_DRAIN_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout_ms: Option<u64>,

    /// TCP congestion control of data connections (cubic, bbr); the host's default where unset
    #[arg(long, env = "STREAMD_CONGESTION_CONTROL", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion_control: Option<String>,
}

impl Arguments {
    /// The file that settings are read from, if it is there.
    pub fn config_file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG_FILE_DEFAULT))
    }

    /// Reads the process's arguments and variables. Prints help, version or a usage error and ends the process
    /// (0 or 2) where they say so.
    pub fn from_process() -> Arguments {
        let matches = Self::command_with_defaults().get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command with each setting's bounds and default in its help, taken from where they are in force so that no
    /// second list can drift from them.
    pub fn command_with_defaults() -> clap::Command {
        let defaults = toml::Table::try_from(Settings::default()).unwrap_or_default();
        Arguments::command().mut_args(|argument| {
            let setting = argument.get_id().as_str().to_owned();
            let bounds = bounds_of(&setting).map(|bounds| format!(" [{bounds}]")).unwrap_or_default();
            let default = defaults.get(&setting).map(describe);
            let default = default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
            match argument.get_help().map(ToString::to_string) {
                Some(help) => argument.help(format!("{help}{bounds}{default}")),
                None => argument,
            }
        })
    }
}

/// A default as help shows it: strings without quotes, byte counts as they are.
fn describe(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(list) if list.is_empty() => "none".to_owned(),
        other => other.to_string(),
    }
}
