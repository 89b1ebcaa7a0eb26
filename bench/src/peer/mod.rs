//! The servers that are compared: each set up, started, asked, watched and stopped by the bench.
//!
//! All get the same: one address on the loopback interface, the same cores, the same number of workers, the same
//! root, no access log. Beyond that each is set up as its own documentation advises for serving files.

mod caddy;
pub mod ceiling;
mod cost;
pub(crate) mod fetch;
mod h2o;
mod lighttpd;
mod nginx;
mod process;
pub(crate) mod staging;
mod streamd;
#[cfg(test)]
mod tests;
mod tree;

pub use cost::{Cost, cost_of_tree, own_cost};
pub use tree::is_running;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::result::PeerFacts;
use process::Process;

/// All peers, in the order in which a comparison shows them.
///
/// `streamd-again` is the same binary under a second name: what differs between the two is noise. `streamd-before` is
/// another build of it, to tell what a change has brought. `nginx-aio` reads
/// files by a thread pool. `ceiling` is the least work that serves the bytes, see [`ceiling`].
pub const NAMES: &[&str] = &[
    "streamd",
    "streamd-again",
    "streamd-before",
    "nginx",
    "nginx-aio",
    "h2o",
    "lighttpd",
    "caddy",
    "ceiling",
];

/// Time that a peer gets until it answers. The slowest here, caddy on a busy machine, takes 2 s.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// Starts of one peer: a free port may be taken by somebody else before the peer binds it.
const STARTS_MAX: usize = 3;

/// Time that `--version` gets.
const VERSION_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections that peers are set up for; more than any scenario opens.
const CONNECTIONS_MAX: u64 = 32_768;

/// Time that idle connections stay open, for all peers alike. It is nginx's default and streamd's.
const IDLE_TIMEOUT_S: u64 = 75;

/// How peers are set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The directory that all serve.
    pub root: PathBuf,
    /// Where their configurations and logs are written, in a directory for each.
    pub work_directory: PathBuf,
    /// Cores that they are pinned to; all cores where it is empty.
    pub cores: Vec<usize>,
    /// Worker threads or processes of each.
    pub workers: usize,
    /// The streamd to run.
    pub streamd: PathBuf,
    /// The streamd to run as `streamd-before`.
    pub streamd_before: Option<PathBuf>,
    /// Arguments that streamd gets besides those that it needs here.
    pub streamd_arguments: Vec<String>,
    /// Which uploads they take; none by default.
    pub uploads: Option<UploadSetup>,
}

/// Which uploads peers are set up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadSetup {
    /// The directories below the root that they go to; each may be a file system of its own.
    pub directories: Vec<String>,
    /// Whether they must be on the disk when they are answered.
    pub durable: bool,
}

/// What a peer does with uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploads {
    /// Nothing.
    Refused,
    /// It takes PUT.
    Taken,
    /// It makes the bytes itself when asked to, and writes and syncs them: what the disk gives without a network.
    Made,
}

/// A peer that answers requests. It is stopped when this is dropped.
///
/// It also ends when the bench is killed, where setpriv(1) is installed: its main process gets SIGTERM with the end
/// of the thread that started it (prctl(2), PR_SET_PDEATHSIG). So start peers on the main thread.
#[derive(Debug)]
pub struct RunningPeer {
    /// What is said of it in the results.
    pub facts: PeerFacts,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
    /// Where it takes POST /stream; streamd alone.
    pub control: Option<SocketAddr>,
    /// Where it takes frames.
    pub frames: Option<SocketAddr>,
    /// Connections that it takes on this host.
    pub connections_max: u64,
    /// What it does with uploads.
    pub uploads: Uploads,
    /// Its memory when it had answered its first request.
    pub memory_at_start_bytes: u64,
    process: Process,
}

/// Why a peer doesn't take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It isn't on this host.
    #[error("{0}")]
    NotInstalled(String),
    /// It is, and can't do what it would be set up for.
    #[error("{0}")]
    Unable(String),
    /// It is, or there is no such peer, and it could not be started.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for StartError {
    fn from(reason: String) -> StartError {
        StartError::Failed(reason)
    }
}

/// Whether there is a peer of this name.
pub fn check_name(name: &str) -> Result<(), StartError> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    Err(StartError::Failed(format!("there is no such peer; choose from {}", NAMES.join(", "))))
}

/// Starts a peer of [`NAMES`] and waits until it answers a GET.
pub fn start(name: &str, setup: &Setup) -> Result<RunningPeer, StartError> {
    process::raise_open_files_limit();
    start_from(name, setup, &process::program_directories())
}

impl RunningPeer {
    /// What all its processes have cost so far.
    pub fn cost(&self) -> Cost {
        cost::of_tree(self.process.leader())
    }

    /// Forgets the memory peak, so that the next one is that of the next measurement (Linux 4.0, proc(5)
    /// `clear_refs`).
    pub fn reset_memory_peak(&self) {
        cost::reset_memory_peak(self.process.leader());
    }

    /// Its processes now, for a cgroup's `cgroup.procs`.
    pub fn process_ids(&self) -> Vec<i32> {
        tree::of(self.process.leader()).iter().map(|process| process.id).collect()
    }

    /// Whether its main process lives.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Fetches a file, named by its path below the root, and compares its length and SHA-256.
    pub fn verify(&self, name_in_root: &str, expected_bytes: u64, sha256: &[u8; 32]) -> Result<()> {
        let fetched = fetch::fetch(self.http, name_in_root)?;
        let name = &self.facts.name;
        if fetched.body_bytes != expected_bytes {
            bail!("{name}: /{name_in_root} has {} bytes instead of {expected_bytes}", fetched.body_bytes);
        }
        if &fetched.sha256 != sha256 {
            bail!("{name}: /{name_in_root} has the right length but wrong bytes: its SHA-256 differs");
        }
        Ok(())
    }

    /// Bytes of the answer's head on a keep-alive connection, from the status line to the empty line. A comparison
    /// is fair while those of all peers lie within 100 bytes.
    pub fn head_bytes(&self, name_in_root: &str) -> Result<u64> {
        Ok(fetch::fetch(self.http, name_in_root)?.head_bytes)
    }

    /// Stops it: SIGTERM, and SIGKILL for what is left after a while. Returns when none of its processes is left.
    pub fn stop(self) {
        drop(self);
    }
}

/// How to start one peer.
struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    configuration: Option<Configuration>,
    version_arguments: &'static [&'static str],
    connections_max: u64,
    control: Option<SocketAddr>,
    frames: Option<SocketAddr>,
    uploads: Uploads,
}

struct Configuration {
    path: PathBuf,
    text: String,
}

/// Where one peer runs.
struct Place<'a> {
    setup: &'a Setup,
    /// Its own directory, absolute.
    directory: PathBuf,
    /// The root, absolute.
    root: String,
    http: SocketAddr,
    /// A second free address: streamd's control plane, the ceiling's frames.
    second: SocketAddr,
    /// Files that a process may have open.
    open_files_max: u64,
}

impl Place<'_> {
    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn connections_max(&self) -> u64 {
        CONNECTIONS_MAX.min(self.open_files_max)
    }
}

fn start_from(name: &str, setup: &Setup, directories: &[PathBuf]) -> Result<RunningPeer, StartError> {
    for _ in 1..STARTS_MAX {
        match start_once(name, setup, directories) {
            Err(StartError::Failed(reason)) if reason.to_lowercase().contains("in use") => {}
            result => return result,
        }
    }
    start_once(name, setup, directories)
}

fn start_once(name: &str, setup: &Setup, directories: &[PathBuf]) -> Result<RunningPeer, StartError> {
    check_name(name)?;
    let place = place(name, setup)?;
    let recipe = recipe(name, &place, directories)?;
    Ok(start_recipe(name, recipe, &place, directories)?)
}

fn place<'a>(name: &str, setup: &'a Setup) -> Result<Place<'a>, String> {
    let directory = setup.work_directory.join(name);
    fs::create_dir_all(&directory)
        .map_err(|error| format!("can't create {}: {error}", directory.display()))?;
    let [http, second] =
        free_addresses().map_err(|error| format!("no free port on the loopback interface: {error}"))?;
    Ok(Place {
        setup,
        directory: PathBuf::from(plain_path(&directory)?),
        root: plain_path(&setup.root)?,
        http,
        second,
        open_files_max: process::open_files_max(),
    })
}

/// Paths stand between double quotes in four kinds of configuration files, none of which quotes alike.
fn plain_path(path: &Path) -> Result<String, String> {
    let absolute = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    let text = absolute.to_str().ok_or_else(|| format!("{} is not UTF-8", absolute.display()))?;
    if text.chars().any(|character| character.is_control() || "\"'\\${};#`".contains(character)) {
        return Err(format!("{text:?} can't be written into a server's configuration: choose a plain path"));
    }
    Ok(text.to_owned())
}

/// Two ports that are free now.
fn free_addresses() -> std::io::Result<[SocketAddr; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?, second.local_addr()?])
}

fn recipe(name: &str, place: &Place<'_>, directories: &[PathBuf]) -> Result<Recipe, StartError> {
    let find = |program| process::find_program(program, directories).map_err(StartError::NotInstalled);
    let takes_uploads = name.starts_with("streamd") || name.starts_with("nginx") || name == "ceiling";
    if place.setup.uploads.is_some() && !takes_uploads {
        return Err(StartError::Unable("takes no uploads".to_owned()));
    }
    match name {
        "nginx" => nginx::recipe(place, find("nginx")?, nginx::Reads::ByWorker),
        "nginx-aio" => nginx::recipe(place, find("nginx")?, nginx::Reads::ByThreads),
        "h2o" => Ok(h2o::recipe(place, find("h2o")?)),
        "lighttpd" => Ok(lighttpd::recipe(place, find("lighttpd")?)),
        "caddy" => Ok(caddy::recipe(place, find("caddy")?)),
        "ceiling" => Ok(ceiling::recipe(place)?),
        "streamd-before" => {
            let program = place.setup.streamd_before.as_ref();
            let program = program.ok_or_else(|| "--streamd-before names no binary".to_owned())?;
            streamd::recipe(place, program)
        }
        _ => streamd::recipe(place, &place.setup.streamd),
    }
}

fn start_recipe(
    name: &str,
    recipe: Recipe,
    place: &Place<'_>,
    directories: &[PathBuf],
) -> Result<RunningPeer, String> {
    let mut configuration = String::new();
    if let Some(file) = recipe.configuration {
        fs::write(&file.path, &file.text)
            .map_err(|error| format!("can't write {}: {error}", file.path.display()))?;
        configuration = file.text;
    }
    let version =
        process::version(&recipe.program, recipe.version_arguments, &place.directory, VERSION_TIME_MAX)?;
    let mut command_line = process::wrappers(&place.setup.cores, directories)?;
    command_line.push(recipe.program.display().to_string());
    command_line.extend(recipe.arguments);
    let log = place.directory.join("log");
    let process = Process::start(&command_line, &recipe.environment, &place.directory, &log)
        .map_err(|error| format!("could not be started: {error}"))?;
    let facts =
        PeerFacts { name: name.to_owned(), setup: String::new(), version, command_line, configuration };
    let peer = RunningPeer {
        facts,
        http: place.http,
        connections_max: recipe.connections_max,
        control: recipe.control,
        frames: recipe.frames,
        uploads: recipe.uploads,
        memory_at_start_bytes: 0,
        process,
    };
    await_answer(&peer)?;
    let memory_at_start_bytes = peer.cost().memory_bytes;
    Ok(RunningPeer { memory_at_start_bytes, ..peer })
}

/// Waits until the peer answers on all its ports.
fn await_answer(peer: &RunningPeer) -> Result<(), String> {
    let deadline = Instant::now() + START_TIME_MAX;
    loop {
        let others = [peer.control, peer.frames];
        // First whether it lives: what answers on the port of a dead one is somebody else.
        if !peer.is_running() {
            return Err(format!("refused to start: {}", peer.process.complaint()));
        }
        if fetch::answers(peer.http) && others.into_iter().flatten().all(fetch::accepts) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let complaint = peer.process.complaint();
            return Err(format!(
                "did not answer a GET on {} within {START_TIME_MAX:?}: {complaint}",
                peer.http
            ));
        }
        process::pause();
    }
}
