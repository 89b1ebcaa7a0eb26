//! The default of every setting, with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::time::Duration;

use super::lifetime::Lifetime;
use super::settings::{
    DriverChoice, Durability, EngineChoice, EtagChoice, LogFormat, LogLevel, ProxyProtocolChoice,
    SandboxChoice, Settings, SinkChoice,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// More in flight at once gain nothing on one device; those that wait to be gone on with fit in besides.
const UPLOADS_MAX: usize = 256;

/// Far more than the clients that really race for one name, and no one name can take all the places.
const UPLOADS_PER_DESTINATION_MAX: usize = 16;

/// 0.37 of the page cache's CPU; reading a file so long from the disk takes less long than its upload did.
const DIRECT_BYTES_MIN: u64 = 64 * MIB;

/// Enough for logs and journals to go on while somebody makes room.
const MIN_FREE_BYTES: u64 = 64 * MIB;

/// Enough for rotated logs, sockets and temporary files of a host, and little even of a small file system's.
const MIN_FREE_INODES: u64 = 1_000;

/// Small enough for the disk of a small host; a spool has to be sized by its owner anyway.
const SPOOL_BYTES_MAX: u64 = 16 * GIB;

/// Half of the spool, whatever size that has: nobody fills it alone, and a single producer has room for a backlog.
const ADDRESS_SPOOL_BYTES_MAX: u64 = 0;

/// Half of them, for the same reason: each takes an inode, however short it is.
const ADDRESS_SPOOL_FILES_MAX: u64 = 0;

/// A count of so many files takes some seconds, and so does their listing to whoever consumes them.
const SPOOL_FILES_MAX: u64 = 1_000_000;

/// Whoever is believed can be anybody, to every limit and in every line. Loopback isn't a proxy's alone: each program
/// of this host connects from there.
const TRUSTED_PROXIES: Vec<String> = Vec::new();

/// No proxy sends a header unless it is told to.
const PROXY_PROTOCOL: ProxyProtocolChoice = ProxyProtocolChoice::Off;

/// Half of what the node has, so that no address can have all, and behind one address translation many may be.
const ADDRESS_SHARE: usize = 2;

/// Browsers open six connections to a host, so that some people behind one address list at once; each listing is a
/// directory read on a disk thread.
const ADDRESS_LISTINGS_MAX: usize = 32;

/// A twelfth of the slowest reader that was seen to mean it (800 bytes a second); whoever sends a byte now and then to
/// keep a place moves a fraction of it.
const PROGRESS_BYTES_MIN: u64 = 64;

/// A head is one packet or a few; who needs longer holds a connection on purpose.
const HEAD_TIMEOUT_MS: u64 = 10_000;

/// Longer than the usual minute of a proxy's upstream pool, so that the proxy closes first.
const IDLE_TIMEOUT_MS: u64 = 75_000;

/// A minute without one acknowledged byte is a dead peer on any network worth serving.
const SILENT_PEER_MS: u64 = 60_000;

/// A peer whose window opens in steps of some kilobytes makes one in this time even at the minimum.
const PROGRESS_INTERVAL_MS: u64 = 60_000;

/// Three lost SYNs (1, 2 and 4 s apart) on a slow path still get through.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// A target that stores must fsync before it answers: a busy disk takes seconds.
const TARGET_TIMEOUT_MS: u64 = 60_000;

/// Below the 90 s after which systemd kills.
const DRAIN_TIMEOUT_MS: u64 = 30_000;

/// Leaves room under a descriptor limit of 65,536 for the file that each may have open.
const CONNECTIONS_MAX: usize = 30_000;

/// Enough to fill a 100 Gb/s link, few enough that each still makes progress.
const STREAMS_MAX: usize = 64;

/// A thousand listings and a hundred scrapes that nobody reads; an eighth of a host of 512 MiB.
const WAITING_BYTES_MAX: u64 = 64 * MIB;

/// Health checks, scrapers and waiting POST /stream together stay far below.
const CONTROL_CONNECTIONS_MAX: usize = 1024;

/// More requests than this in flight gain nothing on one device; a hung one holds few stacks.
const DISK_THREADS: usize = 16;

/// A disk that was stopped spins up in 10 s, and a slow one still ends something each second.
const DISK_TIMEOUT_MS: u64 = 15_000;

/// Nobody who replaces a file waits longer than this to see it served; a busy file is opened once a second.
const CACHE_VALID_MS: u64 = 1_000;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            // Nothing is served that nobody named.
            root: None,
            // What the deployments out there use; data is for everybody, control for this host.
            data_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
            control_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081),
            workers: usable_cores(),
            sink: SinkChoice::Discard,
            spool: None,
            // Names are as private as contents, and files as they are, until somebody says otherwise.
            listing: false,
            // Right for every file at once and without reading it; a digest costs a reading, times alone lie.
            etag: EtagChoice::Node,
            uploads: false,
            // A typing error in a name should be an error, not a new tree.
            create_dirs: false,
            // Who is told that an upload is done may delete the original.
            durability: Durability::Fsync,
            // Over night: who broke off in the evening goes on in the morning.
            partial_ttl: Lifetime(Duration::from_secs(24 * 60 * 60)),
            uploads_max: UPLOADS_MAX,
            uploads_per_destination_max: UPLOADS_PER_DESTINATION_MAX,
            direct_bytes_min: DIRECT_BYTES_MIN,
            min_free_bytes: MIN_FREE_BYTES,
            min_free_inodes: MIN_FREE_INODES,
            engine: EngineChoice::Auto,
            driver: DriverChoice::Auto,
            // Whoever takes over a daemon gets what it has; a kernel without Landlock still serves.
            sandbox: SandboxChoice::Auto,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            access_log: true,
            token_file: None,
            // Its own names on loopback (Hosts::new); its own data plane: going anywhere makes a relay for attackers.
            hosts_allowed: Vec::new(),
            trusted_proxies: TRUSTED_PROXIES,
            proxy_protocol: PROXY_PROTOCOL,
            targets_allowed: Vec::new(),
            // Far above any real file, far below what would overflow a sum.
            frame_bytes_max: TIB,
            stream_bytes_max: TIB,
            upload_bytes_max: TIB,
            spool_bytes_max: SPOOL_BYTES_MAX,
            spool_files_max: SPOOL_FILES_MAX,
            address_spool_bytes_max: ADDRESS_SPOOL_BYTES_MAX,
            address_spool_files_max: ADDRESS_SPOOL_FILES_MAX,
            waiting_bytes_max: WAITING_BYTES_MAX,
            streams_max: STREAMS_MAX,
            connections_max: CONNECTIONS_MAX,
            control_connections_max: CONTROL_CONNECTIONS_MAX,
            address_connections_max: CONNECTIONS_MAX / ADDRESS_SHARE,
            address_uploads_max: UPLOADS_MAX / ADDRESS_SHARE,
            address_streams_max: STREAMS_MAX / ADDRESS_SHARE,
            address_listings_max: ADDRESS_LISTINGS_MAX,
            disk_threads: DISK_THREADS,
            disk_timeout_ms: DISK_TIMEOUT_MS,
            cache_valid_ms: CACHE_VALID_MS,
            head_timeout_ms: HEAD_TIMEOUT_MS,
            idle_timeout_ms: IDLE_TIMEOUT_MS,
            send_timeout_ms: SILENT_PEER_MS,
            receive_timeout_ms: SILENT_PEER_MS,
            progress_bytes_min: PROGRESS_BYTES_MIN,
            progress_interval_ms: PROGRESS_INTERVAL_MS,
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            target_timeout_ms: TARGET_TIMEOUT_MS,
            drain_timeout_ms: DRAIN_TIMEOUT_MS,
            congestion_control: None,
        }
    }
}

/// One worker per core that this process may run on.
fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
