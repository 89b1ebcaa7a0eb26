//! The command line of the bench.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::ClientMode;

/// Measures streamd and its peers on the same work, in turn, and tells difference from noise.
#[derive(Debug, Parser)]
#[command(name = "stream-bench", version, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch files over HTTP
    Pull(PullArguments),
    /// Send frames, or upload over HTTP
    Push(PushArguments),
    /// Ask a control plane for streams
    Stream(StreamArguments),
    /// Hold many connections, idle or slowly reading, and probe meanwhile
    Connections(ConnectionsArguments),
    /// Fetch hot small files while cold large ones are pulled from a slow device
    Mixed(MixedArguments),
    /// Run a set of scenarios on streamd and its peers in turn
    Compare(CompareArguments),
    /// Turn results into one page with plots
    Report(ReportArguments),
    /// The least work that can serve files; started by compare
    #[command(hide = true)]
    CeilingServer(CeilingArguments),
}

/// What every measurement knows.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Client threads, each with a ring
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Cores of the client, separated by commas; by default wherever the kernel puts it
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    pub client_cores: Vec<usize>,
    /// What becomes of received bytes
    #[arg(long, value_enum, default_value_t = ClientMode::Discard)]
    pub client_mode: ClientMode,
    /// Seconds for which the clock runs, up to 3600; compare takes its set's
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Seconds before the clock starts, up to 600; compare takes its set's
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    pub warm_up: f64,
    /// Write the result as JSON too; whether that is possible is seen before the run
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The server of a measurement that starts none itself.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Address and port of the server
    #[arg(value_name = "ADDR:PORT")]
    pub address: SocketAddr,
    /// Allow a server outside the loopback range
    #[arg(long)]
    pub allow_remote: bool,
    /// Process id of the server, whose cost is then measured too
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
}

/// `pull`.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Paths of the files, fetched in turn
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
    /// Connections at once
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub connections: usize,
    /// A new connection for each request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// Requests a second, begun whatever the answers do; latency counts from the intended start. Up to 10,000,000, and
    /// at least one within --duration
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// What is common to all.
    #[command(flatten)]
    pub common: Common,
}

/// `push`.
#[derive(Debug, Args)]
pub struct PushArguments {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Upload over HTTP instead, each connection to this path with its number: PATH-0, PATH-1. None may exist; they are
    /// removed at the end
    #[arg(long, value_name = "PATH")]
    pub put: Option<String>,
    /// Bytes of each payload (64MiB, 1GB)
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes, value_name = "BYTES")]
    pub size: u64,
    /// Connections at once
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub connections: usize,
    /// What is common to all.
    #[command(flatten)]
    pub common: Common,
}

/// `stream`.
#[derive(Debug, Args)]
pub struct StreamArguments {
    /// The control plane, or NGINX before it.
    #[command(flatten)]
    pub server: Server,
    /// Bytes of each stream (169, 1GiB)
    #[arg(long, default_value = "169", value_parser = parse_bytes, value_name = "BYTES")]
    pub size: u64,
    /// Connections at once
    #[arg(short, long, default_value_t = 16, value_name = "N")]
    pub connections: usize,
    /// What is common to all.
    #[command(flatten)]
    pub common: Common,
}

/// `connections`.
#[derive(Debug, Args)]
pub struct ConnectionsArguments {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Path of a small file for the probe; with --read-rate a second path, of a large file to read slowly
    #[arg(required = true, num_args = 1..=2, value_name = "PATH")]
    pub paths: Vec<String>,
    /// Connections to hold
    #[arg(short, long, default_value_t = 10_000, value_name = "N")]
    pub connections: usize,
    /// Bytes a second that each connection reads; idle without
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    pub read_rate: Option<u64>,
    /// What is common to all.
    #[command(flatten)]
    pub common: Common,
}

/// `mixed`.
#[derive(Debug, Args)]
pub struct MixedArguments {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Path of the hot file
    #[arg(value_name = "HOT_PATH")]
    pub hot: String,
    /// Paths of the cold files
    #[arg(required = true, value_name = "COLD_PATH")]
    pub cold: Vec<String>,
    /// Connections with hot requests
    #[arg(short, long, default_value_t = 8, value_name = "N")]
    pub connections: usize,
    /// Requests a second for the hot file, begun whatever the answers do
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Cold pulls at once
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub cold_pulls: usize,
    /// Directory of this host that the server serves: each pull then has a file of its own, which is pushed out of the
    /// page cache before it, and that is checked. Without it nobody knows whether they are cold, and the result says so
    #[arg(long, value_name = "DIR")]
    pub cold_root: Option<PathBuf>,
    /// What is common to all.
    #[command(flatten)]
    pub common: Common,
}

/// How much of the standard set is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// One counted round of 0.3 s: enough to see that everything works, too little for a claim.
    Quick,
    /// Five counted rounds of 1 s.
    Full,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Peers in the order of their turns; the first is what the others are compared with
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "streamd,streamd-again,nginx,h2o,lighttpd,caddy,ceiling"
    )]
    pub peers: Vec<String>,
    /// How much is run
    #[arg(long, value_enum, default_value_t = Set::Quick)]
    pub set: Set,
    /// Only the scenarios whose id contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Counted rounds, instead of the set's
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// The daemon's binary
    #[arg(long, default_value = "target/release/streamd", value_name = "FILE")]
    pub streamd: PathBuf,
    /// Another build of the daemon, measured as the peer streamd-before
    #[arg(long, value_name = "FILE")]
    pub streamd_before: Option<PathBuf>,
    /// Directory for files and configurations, empty or of an earlier run; kept, so that a next run finds its files
    #[arg(long, default_value = "bench-results/work", value_name = "DIR")]
    pub directory: PathBuf,
    /// Directory below root/ of --directory that lies on a slow device, for the mixed scenarios, which are left out
    /// without it
    #[arg(long, value_name = "NAME")]
    pub slow: Option<String>,
    /// The cgroup.procs file of the cgroup that slows that device (scripts/slow-device.sh names it)
    #[arg(long, requires = "slow", value_name = "FILE")]
    pub slow_cgroup: Option<PathBuf>,
    /// Directories below root/ of --directory that are uploaded to, separated by commas, each on a file system to be
    /// measured; without them no uploads are. With --slow some go to the slow device, which must write slowly too
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub put_directory: Vec<String>,
    /// Cores of the servers, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "CORE")]
    pub server_cores: Vec<usize>,
    /// Workers of each server
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub workers: usize,
    /// Minutes after which no further measurement is begun
    #[arg(long, default_value_t = 40, value_name = "MINUTES")]
    pub time_max: u64,
    /// What is common to all.
    #[command(flatten)]
    pub common: Common,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Results, oldest first; the last two are drawn as before and after
    #[arg(required = true, value_name = "JSON")]
    pub results: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "HTML")]
    pub output: PathBuf,
}

/// The ceiling servers.
#[derive(Debug, Args)]
pub struct CeilingArguments {
    /// Where to serve files.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where to take frames.
    #[arg(long)]
    pub push_listen: SocketAddr,
    /// Files to serve.
    #[arg(long)]
    pub root: PathBuf,
}

/// Parses bytes with an optional suffix.
fn parse_bytes(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("{text:?} is no byte count: write bytes (169) or a suffix (64MiB, 1GB)"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_and_lists_are_read() {
        let line = ["stream-bench", "push", "127.0.0.1:1", "--size", "64MiB", "--client-cores", "1,2"];
        let Command::Push(push) = Arguments::parse_from(line).command else { panic!("not push") };
        assert_eq!((push.size, push.common.client_cores), (64 << 20, vec![1, 2]));
        assert!(Arguments::try_parse_from(["stream-bench", "push", "nowhere"]).is_err());
        assert!(Arguments::try_parse_from(["stream-bench", "pull", "127.0.0.1:1"]).is_err());
    }
}
