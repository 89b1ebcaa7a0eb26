//! The default of every setting, with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::time::Duration;

use super::lifetime::Lifetime;
use super::settings::{
    DriverChoice, Durability, EngineChoice, LogFormat, LogLevel, SandboxChoice, Settings, SinkChoice,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

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
            // Names are as private as contents until somebody says otherwise.
            listing: false,
            // Nobody changes files on a host that was only meant to serve them.
            uploads: false,
            // A typing error in a name should be an error, not a new tree.
            create_dirs: false,
            // Who is told that an upload is done may delete the original.
            durability: Durability::Fsync,
            // Over night: a client that broke off in the evening goes on in the morning.
            partial_ttl: Lifetime(Duration::from_secs(24 * 60 * 60)),
            // More in flight at once gain nothing on one device; those that wait to be gone on with fit in besides.
            uploads_max: 256,
            // Far more than the clients that really race for one name, and no one name can take all the places.
            uploads_per_destination_max: 16,
            // 0.37 of the page cache's CPU; reading a file so long from the disk takes less long than its upload did.
            direct_bytes_min: 64 * MIB,
            // Enough for logs and journals to go on while somebody makes room.
            min_free_bytes: 64 * MIB,
            engine: EngineChoice::Auto,
            driver: DriverChoice::Auto,
            // Whoever takes over a daemon gets what it has; a kernel without Landlock still serves.
            sandbox: SandboxChoice::Auto,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            access_log: true,
            token_file: None,
            // The own data plane alone: a control plane that connects anywhere is a relay for attackers.
            targets_allowed: Vec::new(),
            // Far above any real file, far below what would overflow a sum.
            frame_bytes_max: TIB,
            stream_bytes_max: TIB,
            upload_bytes_max: TIB,
            // Small enough for the disk of a small host; a spool has to be sized by its owner anyway.
            spool_bytes_max: 16 * GIB,
            // Enough to fill a 100 Gb/s link, few enough that each still makes progress.
            streams_max: 64,
            // Leaves room under a descriptor limit of 65,536 for the file that each may have open.
            connections_max: 30_000,
            // Health checks, scrapers and waiting POST /stream together stay far below.
            control_connections_max: 1024,
            // More requests than this in flight gain nothing on one device; a hung one holds few stacks.
            disk_threads: 16,
            // Nobody who replaces a file waits longer than this to see it served; a busy file is opened once a second.
            cache_valid_ms: 1_000,
            // A head is one packet or a few; who needs longer holds a connection on purpose.
            head_timeout_ms: 10_000,
            // Longer than the usual minute of a proxy's upstream pool, so that the proxy closes first.
            idle_timeout_ms: 75_000,
            // A minute without one acknowledged byte is a dead peer on any network worth serving.
            send_timeout_ms: 60_000,
            receive_timeout_ms: 60_000,
            // Three lost SYNs (1, 2 and 4 s apart) on a slow path still get through.
            connect_timeout_ms: 10_000,
            // A target that stores must fsync before it answers: a busy disk takes seconds.
            target_timeout_ms: 60_000,
            // Below the 90 s after which systemd kills.
            drain_timeout_ms: 30_000,
            congestion_control: None,
        }
    }
}

/// One worker per core that this process may run on.
fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
