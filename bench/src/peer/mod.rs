//! The peers, the servers that are compared: each is set up, started, asked, watched and stopped by the bench.
//!
//! All get the same: one address on the loopback interface, the same cores, the same number of workers, the same
//! root, no access log. Beyond that each is set up as its own documentation advises for serving files.

mod caddy;
pub mod ceiling;
mod cost;
mod error;
pub(crate) mod fetch;
mod h2o;
mod lighttpd;
mod nginx;
mod place;
mod process;
mod recipe;
mod setup;
pub(crate) mod staging;
mod streamd;
#[cfg(test)]
mod tests;
mod tree;

pub use cost::{Cost, cost_of_tree, own_cost};
pub use error::StartError;
pub use recipe::UploadSupport;
pub use setup::{PeerSetup, UploadSetup};
pub use tree::is_running;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::result::PeerFacts;
use place::Place;
use process::Process;
use recipe::Recipe;

/// All peers, in the order in which a comparison shows them.
///
/// `streamd-again` is the same binary under a second name: a difference between the two is noise. `streamd-before`
/// is another build of it, to measure a change. `nginx-aio` reads files by a thread pool. `ceiling` is the least
/// work that serves the bytes, see [`ceiling`].
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

/// The time in which a peer must answer. The slowest here, caddy on a busy machine, takes 2 s.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// The most starts of one peer: a free port may be taken by another program before the peer binds it.
const STARTS_MAX: usize = 3;

/// A peer that answers requests. It is stopped when this is dropped.
///
/// It also ends when the bench is killed, where setpriv(1) is installed: its main process gets SIGTERM with the end
/// of the thread that started it (prctl(2), PR_SET_PDEATHSIG). So start peers on the main thread.
#[derive(Debug)]
pub struct RunningPeer {
    /// The facts about it in the results.
    pub facts: PeerFacts,
    /// The address of its HTTP port.
    pub http: SocketAddr,
    /// The address that takes POST /stream, which streamd alone has.
    pub control: Option<SocketAddr>,
    /// The address that takes frames.
    pub frames: Option<SocketAddr>,
    /// The most connections that it takes on this host.
    pub connections_max: u64,
    /// Its support of uploads.
    pub uploads: UploadSupport,
    /// Its memory after its first answer, in bytes.
    pub memory_at_start_bytes: u64,
    process: Process,
}

/// Whether there is a peer of this name.
pub fn check_name(name: &str) -> Result<(), StartError> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    Err(StartError::Failed(format!("there is no such peer; choose from {}", NAMES.join(", "))))
}

/// Starts a peer of [`NAMES`] and waits until it answers a GET.
pub fn start(name: &str, setup: &PeerSetup) -> Result<RunningPeer, StartError> {
    process::raise_open_files_limit();
    start_from(name, setup, &process::program_directories())
}

impl RunningPeer {
    /// Returns the cost of all its processes so far.
    pub fn cost(&self) -> Cost {
        cost::of_tree(self.process.leader())
    }

    /// Forgets the memory peak, so that the next one is that of the next measurement (Linux 4.0, proc(5)
    /// `clear_refs`).
    pub fn reset_memory_peak(&self) {
        cost::reset_memory_peak(self.process.leader());
    }

    /// Returns its current processes, for a cgroup's `cgroup.procs`.
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

    /// Returns the bytes of the answer's head on a keep-alive connection, from the status line to the empty line.
    /// A comparison is fair while those of all peers lie within 100 bytes.
    pub fn head_bytes(&self, name_in_root: &str) -> Result<u64> {
        Ok(fetch::fetch(self.http, name_in_root)?.head_bytes)
    }

    /// Stops it by SIGTERM, and by SIGKILL after a while. Returns when none of its processes is left.
    pub fn stop(self) {
        drop(self);
    }
}

fn start_from(name: &str, setup: &PeerSetup, directories: &[PathBuf]) -> Result<RunningPeer, StartError> {
    for _ in 1..STARTS_MAX {
        match start_once(name, setup, directories) {
            Err(StartError::Failed(reason)) if reason.to_lowercase().contains("in use") => {}
            result => return result,
        }
    }
    start_once(name, setup, directories)
}

fn start_once(name: &str, setup: &PeerSetup, directories: &[PathBuf]) -> Result<RunningPeer, StartError> {
    check_name(name)?;
    let place = Place::new(name, setup)?;
    let recipe = recipe_of(name, &place, directories)?;
    Ok(start_recipe(name, recipe, &place, directories)?)
}

fn recipe_of(name: &str, place: &Place<'_>, directories: &[PathBuf]) -> Result<Recipe, StartError> {
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
    let version = process::version(&recipe.program, recipe.version_arguments, &place.directory)?;
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
        // Whether it lives is looked at first: a server on the port of a dead peer is another one.
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
