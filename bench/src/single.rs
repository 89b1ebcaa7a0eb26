//! Measurements on a server that runs already.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arguments::{
    Common, ConnectionsArguments, MixedArguments, PullArguments, PushArguments, Server, StreamArguments,
};
use crate::host::Host;
use crate::load::{self, probe_length};
use crate::peer::{Cost, UploadSupport, cost_of_tree};
use crate::progress::Progress;
use crate::result::{PeerFacts, Run, Sample, Scenario, Work};
use crate::scenario::standard::describe_bytes;
use crate::scenario::{
    self, ClientSetup, Measurement, NewNames, Plan, ServedFile, Subject, Timing, UploadTo,
};
use crate::usage::refuse;

/// The name of the server in the results.
const SERVER: &str = "server";

/// Measures `pull`.
pub fn pull(arguments: &PullArguments) -> Result<Run> {
    let files = probe_all(&arguments.server, &arguments.paths)?;
    let body_bytes = files.first().map_or(0, |file| file.bytes);
    let connections = arguments.connections;
    let work = Work::Pull {
        body_bytes,
        connections,
        keep_alive: !arguments.no_keep_alive,
        rate_per_s: arguments.rate,
    };
    let title = format!("GET {}, {connections} connections", describe_bytes(body_bytes));
    measure(&arguments.server, &arguments.common, Plan { files, ..plan("pull", title, work) })
}

/// Measures `push`.
pub fn push(arguments: &PushArguments) -> Result<Run> {
    if let Some(path) = &arguments.put {
        return put(arguments, path);
    }
    let work = Work::Push { body_bytes: arguments.size, connections: arguments.connections };
    let title =
        format!("frames of {}, {} connections", describe_bytes(arguments.size), arguments.connections);
    measure(&arguments.server, &arguments.common, plan("push", title, work))
}

/// Measures `push --put`, to names that don't exist yet. They are removed again, whatever the outcome of the
/// measurement.
fn put(arguments: &PushArguments, path: &str) -> Result<Run> {
    let (body_bytes, connections) = (arguments.size, arguments.connections);
    let work = Work::Put { body_bytes, connections, durable: false };
    let title = format!("PUT {}, {connections} connections", describe_bytes(body_bytes));
    let to = UploadTo { path: path.to_owned(), directory: String::new() };
    let plan = Plan { uploads: Some(to.clone()), ..plan("put", title, work) };
    let names = NewNames::make(arguments.server.address, &to, connections)?;
    let measured = measure(&arguments.server, &arguments.common, plan);
    match (measured, names.remove()) {
        // The measurement is shown beside the failure.
        (Ok(run), Err(error)) => Ok(Run { failure: Some(format!("{error:#}")), ..run }),
        (Err(error), Err(also)) => bail!("{error:#}; {also:#}"),
        (measured, Ok(())) => measured,
    }
}

/// Measures `stream`.
pub fn stream(arguments: &StreamArguments) -> Result<Run> {
    let work = Work::Stream { body_bytes: arguments.size, connections: arguments.connections };
    let title =
        format!("POST /stream {}, {} connections", describe_bytes(arguments.size), arguments.connections);
    measure(&arguments.server, &arguments.common, plan("stream", title, work))
}

/// Measures `connections`.
pub fn connections(arguments: &ConnectionsArguments) -> Result<Run> {
    let files = probe_all(&arguments.server, &arguments.paths)?;
    let connections = arguments.connections;
    let work = Work::Connections { connections, read_bytes_per_s: arguments.read_rate };
    let doing = if arguments.read_rate.is_some() { "slowly reading" } else { "idle" };
    let title = format!("{connections} {doing} connections, a probe meanwhile");
    measure(&arguments.server, &arguments.common, Plan { files, ..plan("connections", title, work) })
}

/// Measures `mixed`.
pub fn mixed(arguments: &MixedArguments) -> Result<Run> {
    let hot = probe_all(&arguments.server, std::slice::from_ref(&arguments.hot))?;
    let mut cold = probe_all(&arguments.server, &arguments.cold)?;
    if let Some(root) = &arguments.cold_root {
        cold.iter_mut().try_for_each(|file| locate(file, root))?;
    }
    let body_bytes = hot.first().map_or(0, |file| file.bytes);
    let work = Work::Mixed {
        body_bytes,
        connections: arguments.connections,
        cold_pulls: arguments.cold_pulls,
        rate_per_s: arguments.rate,
    };
    let kind =
        if arguments.cold_root.is_some() { "cold pulls" } else { "pulls of files that may be in memory" };
    let title = format!("GET {} beside {} {kind}", describe_bytes(body_bytes), arguments.cold_pulls);
    let mixed = Plan { files: hot, cold_files: cold, ..plan("mixed", title, work) };
    measure(&arguments.server, &arguments.common, mixed)
}

/// Finds a file below `root`, which must be the one that the server sends.
fn locate(file: &mut ServedFile, root: &Path) -> Result<()> {
    let path = cold_path(root, &file.url_path)?;
    let bytes = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    if bytes != file.bytes {
        bail!(
            "{} has {bytes} bytes, and the server sends {}: is it another file?",
            path.display(),
            file.bytes
        );
    }
    file.path = Some(path);
    Ok(())
}

/// Returns the path of a cold file on this host.
pub(crate) fn cold_path(root: &Path, url_path: &str) -> Result<PathBuf> {
    if url_path.contains(['%', '?']) {
        refuse!("{url_path:?} can't be found below --cold-root: a path with escapes or a query");
    }
    Ok(root.join(url_path.trim_start_matches('/')))
}

/// Makes a plan that needs no files.
fn plan(id: &str, title: String, work: Work) -> Plan {
    Plan { id: id.to_owned(), title, work, files: Vec::new(), cold_files: Vec::new(), uploads: None }
}

/// Asks for the lengths that the server promises; the bytes can't be compared with a source that isn't known.
fn probe_all(server: &Server, paths: &[String]) -> Result<Vec<ServedFile>> {
    paths
        .iter()
        .map(|path| {
            let bytes = probe_length(server.address, path)?;
            Ok(ServedFile { url_path: path.clone(), bytes, source: None, path: None })
        })
        .collect()
}

fn measure(server: &Server, common: &Common, plan: Plan) -> Result<Run> {
    let address: SocketAddr = server.address;
    let cost = || server.server_pid.map_or_else(Cost::default, cost_of_tree);
    let subject = Subject {
        name: SERVER,
        http: address,
        frames: Some(address),
        control: Some(address),
        connections_max: u64::MAX,
        uploads: UploadSupport::Taken,
        memory_at_start_bytes: cost().memory_bytes,
        cost: &cost,
    };
    let progress = Progress::new(1);
    progress.say(&plan.title);
    let (client, timing) = (ClientSetup::of(common), Timing::of(common)?);
    let measurement =
        Measurement { plan: &plan, subject: &subject, client: &client, timing, progress: &progress };
    let sample = scenario::measure(&measurement)?;
    drop(progress);
    let facts = PeerFacts {
        name: SERVER.to_owned(),
        setup: String::new(),
        version: String::new(),
        command_line: vec![address.to_string()],
        configuration: String::new(),
    };
    Ok(Run {
        peers: vec![facts],
        interrupted: load::was_interrupted(),
        scenarios: vec![Scenario {
            id: plan.id,
            title: plan.title,
            work: plan.work,
            // A single measurement is its own first counted round.
            samples: vec![Sample { round: 1, ..sample }],
            left_out: Vec::new(),
        }],
        ..Run::begin(Host::observe(&[], &common.client_cores))
    })
}
