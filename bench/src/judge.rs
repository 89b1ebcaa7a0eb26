//! Checks of the command line, made before anything is opened, sent or made.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::arguments::{
    Command, Common, CompareArguments, ConnectionsArguments, MixedArguments, PullArguments, PushArguments,
    Server, StreamArguments,
};
use crate::compare::ROUNDS_MAX;
use crate::load::{CONNECTIONS_MAX, THREADS_MAX};
use crate::peer::{self, is_running};
use crate::scenario::Timing;
use crate::single::cold_path;
use crate::usage::refuse;

/// The most requests a second of an open loop: far more than one client can begin, and the schedule's nanoseconds
/// still tell starts apart.
const RATE_PER_S_MAX: f64 = 10_000_000.0;

/// The most workers of a server.
const WORKERS_MAX: usize = 1024;

/// The longest set, in minutes: a day.
const TIME_MAX_MINUTES: u64 = 24 * 60;

/// The most bytes of a payload: the signed length of a frame without the byte that tells frames from HTTP.
const PAYLOAD_BYTES_MAX: u64 = (1 << 56) - 1;

/// Checks whether `command` can be carried out, as far as that is known beforehand.
pub fn judge(command: &Command) -> Result<()> {
    match command {
        Command::Pull(arguments) => judge_pull(arguments),
        Command::Push(arguments) => judge_push(arguments),
        Command::Stream(arguments) => judge_stream(arguments),
        Command::Connections(arguments) => judge_connections(arguments),
        Command::Mixed(arguments) => judge_mixed(arguments),
        Command::Compare(arguments) => judge_compare(arguments),
        Command::Report(_) | Command::CeilingServer(_) => Ok(()),
    }
}

fn judge_pull(arguments: &PullArguments) -> Result<()> {
    judge_load(&arguments.server, arguments.connections, &arguments.common)?;
    arguments.paths.iter().try_for_each(|path| judge_path("PATH", path))?;
    judge_rate(arguments.rate, &arguments.common)
}

fn judge_push(arguments: &PushArguments) -> Result<()> {
    judge_load(&arguments.server, arguments.connections, &arguments.common)?;
    if arguments.size > PAYLOAD_BYTES_MAX {
        refuse!("--size {} is above {PAYLOAD_BYTES_MAX} bytes", arguments.size);
    }
    let Some(path) = &arguments.put else { return Ok(()) };
    judge_path("--put", path)?;
    // A query isn't part of a name: `/k?x=1-0` is the file `/k`.
    if path.contains('?') {
        refuse!(
            "--put {path:?} has a query: the names that are uploaded to are a path with numbers behind it"
        );
    }
    Ok(())
}

fn judge_stream(arguments: &StreamArguments) -> Result<()> {
    judge_load(&arguments.server, arguments.connections, &arguments.common)
}

fn judge_connections(arguments: &ConnectionsArguments) -> Result<()> {
    judge_load(&arguments.server, arguments.connections, &arguments.common)?;
    if arguments.read_rate == Some(0) {
        refuse!(
            "--read-rate 0: connections that read nothing are idle ones, which is what there are without it"
        );
    }
    arguments.paths.iter().try_for_each(|path| judge_path("PATH", path))
}

fn judge_mixed(arguments: &MixedArguments) -> Result<()> {
    judge_load(&arguments.server, arguments.connections, &arguments.common)?;
    let paths = std::iter::once(&arguments.hot).chain(&arguments.cold);
    paths.into_iter().try_for_each(|path| judge_path("PATH", path))?;
    judge_rate(arguments.rate, &arguments.common)?;
    if arguments.cold_pulls > CONNECTIONS_MAX {
        refuse!("--cold-pulls {} is above {CONNECTIONS_MAX}", arguments.cold_pulls);
    }
    let Some(root) = &arguments.cold_root else { return Ok(()) };
    let files = arguments.cold.iter().map(|path| inode_of(&cold_path(root, path)?));
    let files: BTreeSet<_> = files.collect::<Result<_>>()?;
    if files.len() < arguments.cold_pulls {
        refuse!(
            "--cold-pulls {} of {} different files: a file that two pull at once is cold for one of them at most",
            arguments.cold_pulls,
            files.len()
        );
    }
    Ok(())
}

fn judge_compare(arguments: &CompareArguments) -> Result<()> {
    judge_common(&arguments.common)?;
    for name in &arguments.peers {
        if let Err(error) = peer::check_name(name) {
            refuse!("--peers {name}: {error}");
        }
    }
    judge_cores("--server-cores", &arguments.server_cores)?;
    let names = arguments.put_directory.iter().map(|name| ("--put-directory", name));
    for (option, name) in names.chain(arguments.slow.iter().map(|name| ("--slow", name))) {
        if Path::new(name).file_name().is_none_or(|last| last != name.as_str()) {
            refuse!("{option} {name:?} is no name of a directory below root/ of --directory");
        }
    }
    judge_count("--workers", arguments.workers, WORKERS_MAX)?;
    judge_count("--rounds", arguments.rounds.unwrap_or(1), ROUNDS_MAX)?;
    if !(1..=TIME_MAX_MINUTES).contains(&arguments.time_max) {
        refuse!("--time-max {} is outside 1 to {TIME_MAX_MINUTES} minutes", arguments.time_max);
    }
    Ok(())
}

/// Judges a load on a server that runs already.
fn judge_load(server: &Server, connections: usize, common: &Common) -> Result<()> {
    judge_common(common)?;
    if connections == 0 || connections > CONNECTIONS_MAX {
        refuse!("{connections} connections are outside 1 to {CONNECTIONS_MAX}");
    }
    let address = server.address;
    if address.port() == 0 {
        refuse!("{address}: no server listens on port 0");
    }
    // A load on somebody else's server is an attack, so it may leave this host only with an explicit option.
    if !address.ip().is_loopback() && !server.allow_remote {
        refuse!("{address} is not a loopback address: --allow-remote allows a load on it");
    }
    match server.server_pid {
        Some(pid) if !is_running(pid) => refuse!("--server-pid {pid}: there is no such process"),
        _ => Ok(()),
    }
}

fn judge_common(common: &Common) -> Result<()> {
    Timing::of(common)?;
    judge_count("--threads", common.threads, THREADS_MAX)?;
    judge_cores("--client-cores", &common.client_cores)
}

fn judge_count(option: &str, count: usize, count_max: usize) -> Result<()> {
    if count == 0 || count > count_max {
        refuse!("{option} {count} is outside 1 to {count_max}");
    }
    Ok(())
}

/// Checks that a path can stand in a request line (RFC 9112, 3.2.1): other bytes would end the line, or be cut
/// off.
fn judge_path(option: &str, path: &str) -> Result<()> {
    let is_plain = path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#');
    if !path.starts_with('/') || !is_plain {
        refuse!("{option} {path:?} is no path of a URL: a slash, then visible characters, the others as %20");
    }
    Ok(())
}

/// Checks that an open loop begins at least one request while the clock runs.
fn judge_rate(rate: Option<f64>, common: &Common) -> Result<()> {
    let Some(rate) = rate else { return Ok(()) };
    if !(rate > 0.0 && rate <= RATE_PER_S_MAX) {
        refuse!("--rate {rate} is outside 0 to {RATE_PER_S_MAX} requests a second");
    }
    if rate * common.duration < 1.0 {
        refuse!(
            "--rate {rate} begins a request every {:.1} s, so none may begin within --duration {}",
            1.0 / rate,
            common.duration
        );
    }
    Ok(())
}

/// Checks cores by trying them: only the kernel knows which are online and allowed by a cpuset.
fn judge_cores(option: &str, cores: &[usize]) -> Result<()> {
    let before = sched_getaffinity(None)?;
    let refused = cores.iter().find(|core| {
        if **core >= CpuSet::MAX_CPU {
            return true;
        }
        let mut set = CpuSet::new();
        set.set(**core);
        sched_setaffinity(None, &set).is_err()
    });
    sched_setaffinity(None, &before)?;
    match refused {
        Some(core) => refuse!("{option} {core}: there is no such core, or this process may not run on it"),
        None => Ok(()),
    }
}

fn inode_of(path: &Path) -> Result<(u64, u64)> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok((found.dev(), found.ino())),
        Ok(_) => refuse!("--cold-root: {} is no regular file", path.display()),
        Err(error) => refuse!("--cold-root: {}: {error}", path.display()),
    }
}
