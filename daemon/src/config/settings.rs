//! The settings, each declared once: description, default with its reason, unit and range.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;

use super::bounds::{BYTES, GIB, MIB, SOME_OR_NONE, TIB};
pub use super::bounds::{PARTIAL_TTL_MAX, PARTIAL_TTL_MIN, UPLOAD_BYTES_MAX_LIMIT};
use super::choices::{
    DriverChoice, Durability, EngineChoice, EtagChoice, LogFormat, LogLevel, ProxyProtocolChoice,
    SandboxChoice, SinkChoice,
};
use super::hosts::HostRule;
use super::kind::{ANY, Kind, range};
use super::lifetime::Lifetime;
use super::listen_address::ListenAddress;
use super::listen_settings::ListenSettings;
use super::proxies;
use super::setting::{Declared, settings};
use super::share_settings::{ShareSettings, check_absolute, settings_with_share};
use super::target::TargetRule;
use super::value::choices;

/// The most workers: more than the cores of today's largest hosts only adds rings.
pub const WORKERS_MAX: usize = 1024;
/// The most streams at once: each holds two sockets and an open request.
pub const STREAMS_MAX_LIMIT: usize = 65_536;
/// The least memory for answers that wait, in bytes: one of each kind, on either plane.
pub const WAITING_BYTES_MAX_MIN: u64 = 1 << 20;
/// The longest time-out, in milliseconds: a day. A longer one is a typing error.
pub const TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// The longest time for which a file is served without a new look, in milliseconds: a minute. A site that needs
/// longer wants a proxy's cache.
pub const CACHE_VALID_MS_MAX: u64 = 60 * 1000;
/// The most threads for the disk; each has a stack, and more only queue at the device.
pub const DISK_THREADS_MAX: usize = 256;
/// The highest value of the frame limit: byte 7 of a frame header must stay 0, by which frames are told from HTTP.
pub const FRAME_BYTES_MAX_LIMIT: u64 = (1 << 56) - 1;
/// The highest value of the stream limit: a stream to a frame target is one frame.
pub const STREAM_BYTES_MAX_LIMIT: u64 = FRAME_BYTES_MAX_LIMIT;

/// The most uploads at once: each has a file and an entry in memory, and more are looked through in one sweep.
pub const UPLOADS_MAX_LIMIT: usize = 65_536;

/// The divisor of the node's limits that gives the default for one address: half.
const ADDRESS_SHARE: usize = 2;
const UPLOADS_MAX: usize = 256;
const CONNECTIONS_MAX: usize = 30_000;
const STREAMS_MAX: usize = 64;

/// The kind of a time-out, which is at least 1: one of 0 would be over before it began.
const TIMEOUT: Kind = Kind::Milliseconds(range(1, TIMEOUT_MS_MAX));
const SOME: Kind = Kind::Count(range(1, ANY));
const UPLOADS: Kind = Kind::Count(range(1, UPLOADS_MAX_LIMIT as u64));
const ROOTS: Kind = Kind::List { entry: "DIR", example: "/srv", check: check_absolute };
const HOSTS: Kind =
    Kind::List { entry: "HOST", example: "files.example", check: |entry| HostRule::parse(entry).map(|_| ()) };
const NETWORKS: Kind = Kind::List {
    entry: "NETWORK",
    example: "10.0.0.0/8",
    check: |entry| proxies::ProxyRule::parse(entry).map(|_| ()),
};
const TARGETS: Kind = Kind::List {
    entry: "HOST:PORT",
    example: "10.0.0.0/8:8080",
    check: |entry| TargetRule::parse(entry).map(|_| ()),
};

settings_with_share! {
    /// All settings. Each field's name is the key of the TOML file and, with `-` for `_`, the flag.
    pub struct Settings {
        /// Directory whose files are served over HTTP on the data port.
        ///
        /// Without one HTTP answers 404. `streamd DIR` is short for it.
        root: Option<PathBuf> = None, "Nothing is served that nobody named.",
            Kind::Directory("/srv/files"), Node, Restart
            { brief: "Directory whose files are served", place: "DIR" };
        /// Further directories, each below a path of its own.
        share: Vec<ShareSettings> = Vec::new(), "One directory is what most serve.",
            Kind::Tables, Node, Reload { members: ShareSettings::declared };
        /// Directories below which a reload may bring further shares: the sandbox hides all else.
        roots_allowed: Vec<String> = Vec::new(), "What is served was named at the start.",
            ROOTS, Node, Restart;
        /// Address of the data plane; port 0 takes a free one.
        ///
        /// Where a `[[listen]]` is of this plane, it is none until it is set.
        data_listen: ListenAddress = inet(Ipv4Addr::UNSPECIFIED, 8080),
            "Data is for everybody, on the port that the deployments out there use.",
            Kind::Address, Node, Restart { brief: "Files and frames" };
        /// Address of the control plane; port 0 takes a free one.
        ///
        /// Anything but loopback and Unix sockets needs a token.
        control_listen: ListenAddress = inet(Ipv4Addr::LOCALHOST, 8081),
            "Control is for this host.",
            Kind::Address, Node, Restart { brief: "Health and metrics" };
        /// Further addresses of either plane, and what is spoken there.
        listen: Vec<ListenSettings> = Vec::new(), "One address for each plane is what most need.",
            Kind::Tables, Node, Restart
            { members: ListenSettings::declared, see: "docs/operations.md#where-it-listens" };
        /// Threads that serve the data plane.
        workers: usize = usable_cores(), "More threads than cores would only wait for each other.",
            Kind::Count(range(1, WORKERS_MAX as u64)), Node, Restart { default_words: "one for each usable core" };
        /// Where the payload of incoming frames goes.
        sink: SinkChoice = SinkChoice::Discard, "Nothing is written that nobody asked for.",
            Kind::Choice(choices::<SinkChoice>), Node, Restart;
        /// Directory of stored frames, for --sink store.
        spool: Option<PathBuf> = None, "Nothing is written that nobody asked for.",
            Kind::Directory("/var/lib/streamd"), Node, Restart;
        /// Uploads that are written at once.
        ///
        /// One more gets 429.
        uploads_max: usize = UPLOADS_MAX,
            "More in flight at once gain nothing on one device; those that wait to be gone on with fit in besides.",
            UPLOADS, Node, Reload;
        /// Uploads that are written at once to one name.
        ///
        /// One more gets 429.
        uploads_per_destination_max: usize = 16,
            "Far more than the clients that really race for one name, and no one name can take all the places.",
            UPLOADS, Name, Reload;
        /// How bytes move.
        engine: EngineChoice = EngineChoice::Auto, "It is decided for each window by what is fastest there.",
            Kind::Choice(choices::<EngineChoice>), Node, Restart;
        /// What drives the workers.
        driver: DriverChoice = DriverChoice::Auto, "io_uring is faster, and a kernel that refuses it still serves.",
            Kind::Choice(choices::<DriverChoice>), Node, Restart;
        /// Give up all capabilities, and all files but what is served and read.
        sandbox: SandboxChoice = SandboxChoice::Auto,
            "Whoever takes over a daemon gets what it has; a kernel without Landlock still serves.",
            Kind::Choice(choices::<SandboxChoice>), Node, Restart
            { see: "docs/security.md#what-it-gives-up" };
        /// How log lines look.
        ///
        /// They go to standard error.
        log_format: LogFormat = LogFormat::Text, "People read it first.",
            Kind::Choice(choices::<LogFormat>), Node, Restart;
        /// The least severe level that is logged.
        log_level: LogLevel = LogLevel::Info, "What each connection does is wanted only while something is looked for.",
            Kind::Choice(choices::<LogLevel>), Node, Reload;
        /// Write one line per transfer.
        ///
        /// `--access-log=false` for none.
        access_log: bool = true, "Without it nobody can say afterwards who was served what.",
            Kind::Switch, Node, Reload;
        /// File that holds the bearer token of the control plane and of uploads.
        token_file: Option<PathBuf> = None, "Control is for this host alone, and uploads are off.",
            Kind::SecretFile("/etc/streamd/token"), Node, Reload { brief: "File that holds the bearer token" };
        /// Hosts that requests on the data port may be for, besides its own names: names and addresses, * for any;
        /// where none is listed, any but on a loopback address.
        hosts_allowed: Vec<String> = Vec::new(),
            "On a loopback address a page from elsewhere could read what nobody else on the network can.",
            HOSTS, Node, Reload { see: "docs/security.md#what-is-exposed-where" };
        /// Proxies that are believed whom they stand for, by PROXY protocol, Forwarded and X-Forwarded-For: addresses
        /// and networks (10.0.0.0/8), and unix: for who connects by a Unix socket.
        trusted_proxies: Vec<String> = Vec::new(),
            "Whoever is believed can be anybody; from loopback each program of this host connects, not a proxy alone.",
            NETWORKS, Node, Reload { see: "docs/security.md#behind-a-proxy" };
        /// Whether connections to data_listen begin with a PROXY protocol header, version 1 or 2.
        proxy_protocol: ProxyProtocolChoice = ProxyProtocolChoice::Off,
            "No proxy sends a header unless it is told to.",
            Kind::Choice(choices::<ProxyProtocolChoice>), Node, Reload
            { see: "docs/security.md#behind-a-proxy" };
        /// Where streams may go besides the own data plane: HOST:PORT, NETWORK/BITS:PORT, port * for any.
        targets_allowed: Vec<String> = Vec::new(), "Going anywhere makes a relay for attackers.",
            TARGETS, Node, Reload;
        /// Largest frame that is taken.
        frame_bytes_max: u64 = TIB, "Far above any real file, far below what would overflow a sum.",
            Kind::Bytes(range(0, FRAME_BYTES_MAX_LIMIT)), Frame, Reload;
        /// Largest stream that POST /stream starts.
        stream_bytes_max: u64 = TIB, "Far above any real file, far below what would overflow a sum.",
            Kind::Bytes(range(0, STREAM_BYTES_MAX_LIMIT)), Stream, Reload;
        /// Most bytes that stored frames may take up together, each at least a block of the file system.
        spool_bytes_max: u64 = 16 * GIB,
            "Small enough for the disk of a small host; a spool has to be sized by its owner anyway.",
            BYTES, Node, Reload;
        /// Most stored frames.
        spool_files_max: u64 = 1_000_000,
            "A count of so many files takes some seconds, and so does their listing to whoever consumes them.",
            SOME_OR_NONE, Node, Reload;
        /// Most bytes that the stored frames of one address may take up; 0 for half of spool_bytes_max.
        address_spool_bytes_max: u64 = 0,
            "Nobody fills the spool alone, and a single producer has room for a backlog.",
            BYTES, Address, Reload;
        /// Most stored frames of one address; 0 for half of spool_files_max.
        address_spool_files_max: u64 = 0, "Each takes an inode, however short it is.",
            SOME_OR_NONE, Address, Reload;
        /// Most memory for answers that wait for their readers: listings, metrics, lists of streams.
        ///
        /// Long heads take of it too; beyond it 503.
        waiting_bytes_max: u64 = 64 * MIB,
            "A thousand listings and a hundred scrapes that nobody reads; an eighth of a host of 512 MiB.",
            Kind::Bytes(range(WAITING_BYTES_MAX_MIN, ANY)), Node, Reload;
        /// Streams that run at once.
        ///
        /// One more gets 429.
        streams_max: usize = STREAMS_MAX, "Enough to fill a 100 Gb/s link, few enough that each still makes progress.",
            Kind::Count(range(1, STREAMS_MAX_LIMIT as u64)), Node, Reload;
        /// Data connections at once.
        ///
        /// Above it idle ones are closed for newcomers, then the slowest of the address that holds most; who finds none
        /// waits.
        connections_max: usize = CONNECTIONS_MAX,
            "Leaves room under a descriptor limit of 65,536 for the file that each may have open.",
            SOME, Node, Reload;
        /// Control connections at once.
        ///
        /// Above it one that does nothing is closed for a newcomer.
        control_connections_max: usize = 1024,
            "Health checks, scrapers and waiting POST /stream together stay far below.",
            SOME, Node, Restart;
        /// Connections of one address at once, of both planes; loopback isn't one address.
        ///
        /// Of IPv6 a /64 network is one address.
        address_connections_max: usize = CONNECTIONS_MAX / ADDRESS_SHARE,
            "Half of the node's: no address can have all, and behind one address translation many may be.",
            SOME, Address, Reload;
        /// Uploads of one address at once.
        address_uploads_max: usize = UPLOADS_MAX / ADDRESS_SHARE, "Half of the node's, for the same reason.",
            SOME, Address, Reload;
        /// Streams of one address at once.
        address_streams_max: usize = STREAMS_MAX / ADDRESS_SHARE, "Half of the node's, for the same reason.",
            SOME, Address, Reload;
        /// Listings that one address is sent at once.
        address_listings_max: usize = 32,
            "Browsers open six connections, so some people behind one address list at once; each reads a directory.",
            SOME, Address, Reload;
        /// Threads for what may wait for a disk.
        disk_threads: usize = 16, "More requests in flight gain nothing on one device; a hung one holds few stacks.",
            Kind::Count(range(1, DISK_THREADS_MAX as u64)), Node, Restart;
        /// Time for which a mount may end nothing before what needs it gets 503; uploads wait ten times as long.
        disk_timeout_ms: u64 = 15_000,
            "A disk that was stopped spins up in 10 s, and a slow one still ends something each second.",
            TIMEOUT, Mount, Reload;
        /// Time for which a file that was opened is served without a look at its name; 0 looks each time.
        cache_valid_ms: u64 = 1_000,
            "Nobody who replaces a file waits longer than this to see it served; a busy file is opened once a second.",
            Kind::Milliseconds(range(0, CACHE_VALID_MS_MAX)), File, Reload;
        /// Time for a request head to be complete.
        ///
        /// Else it gets 408.
        head_timeout_ms: u64 = 10_000,
            "A head is one packet or a few; who needs longer holds a connection on purpose.",
            TIMEOUT, Connection, Reload;
        /// Time that a connection may wait for its next request.
        idle_timeout_ms: u64 = 75_000,
            "Longer than the usual minute of a proxy's upstream pool, so that the proxy closes first.",
            TIMEOUT, Connection, Reload;
        /// Time without progress after which sending is given up.
        send_timeout_ms: u64 = 60_000,
            "A minute without one acknowledged byte is a dead peer on any network worth serving.",
            TIMEOUT, Connection, Reload;
        /// Time without progress after which receiving a frame is given up.
        receive_timeout_ms: u64 = 60_000,
            "A minute without one byte is a dead peer on any network worth serving.",
            TIMEOUT, Connection, Reload;
        /// Bytes a second that a peer has to move while it is waited for; 0 for none.
        progress_bytes_min: u64 = 64,
            "A twelfth of the slowest reader that was seen to mean it; a byte now and then, to keep a place, is less.",
            BYTES, Connection, Reload;
        /// Time over which progress_bytes_min is measured.
        ///
        /// A quarter of it where others need the place.
        progress_interval_ms: u64 = 60_000,
            "A peer whose window opens in steps of some kilobytes makes one in this time even at the minimum.",
            TIMEOUT, Connection, Reload;
        /// Time for a stream's target to accept the connection.
        connect_timeout_ms: u64 = 10_000,
            "Three lost SYNs (1, 2 and 4 s apart) on a slow path still get through.",
            TIMEOUT, Stream, Reload;
        /// Time that a stream's target may stay silent.
        target_timeout_ms: u64 = 60_000,
            "A target that stores must fsync before it answers: a busy disk takes seconds.",
            TIMEOUT, Stream, Reload;
        /// Time for transfers in flight to finish when the daemon stops.
        ///
        /// 0 waits for nobody.
        drain_timeout_ms: u64 = 30_000, "Below the 90 s after which systemd kills.",
            Kind::Milliseconds(range(0, TIMEOUT_MS_MAX)), Node, Reload;
        /// TCP congestion control of data connections (cubic, bbr).
        congestion_control: Option<String> = None, "The host's administrator knows its network.",
            Kind::Name("cubic"), Node, Restart { default_words: "the host's" };
    }
}

/// Returns the range of `key`, as help says it: `1 to 1024`; None where it isn't a number.
pub fn bounds_of(key: &str) -> Option<String> {
    Settings::FIELDS.iter().find(|field| field.setting.key == key)?.setting.kind.range()
}

/// Makes an address of TCP.
fn inet(address: Ipv4Addr, port: u16) -> ListenAddress {
    SocketAddr::new(IpAddr::V4(address), port).into()
}

/// Returns the number of cores that this process may run on, one worker for each.
fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
