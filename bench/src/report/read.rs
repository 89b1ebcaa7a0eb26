//! The reader of result files, which may come from anywhere, so that it has limits.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::ReportError;
use super::text::printable;
use crate::result::{FORMAT_VERSION, Run};

/// The largest result file that is read. A full standard run is under 1 MiB; the rest is room for years of rounds.
pub(super) const RESULT_BYTES_MAX: u64 = 64 << 20;

/// The most scenarios of a run: ten times the standard set. Each has a table and up to four plots.
const SCENARIOS_MAX: usize = 200;

/// The most peers that a run lists: beyond that neither tables nor legends can be read.
const PEERS_MAX: usize = 16;

/// Reads the result file at `path`.
///
/// # Errors
/// When it can't be read, is larger than 64 MiB, isn't a result, has another format version, or
/// more scenarios or peers than a report can show.
pub fn read(path: &Path) -> Result<Run, ReportError> {
    let failed = |source| ReportError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut json = Vec::new();
    // One byte more than the limit tells a file at the limit from one above it.
    file.take(RESULT_BYTES_MAX + 1).read_to_end(&mut json).map_err(failed)?;
    if json.len() as u64 > RESULT_BYTES_MAX {
        return Err(ReportError::TooLarge { path: path.to_owned() });
    }
    parse(path, &json)
}

/// Parses a run. The version is looked at first: a file of another version may lack fields, and "missing field"
/// would say the wrong thing about it.
fn parse(path: &Path, json: &[u8]) -> Result<Run, ReportError> {
    let failed = |source| ReportError::Parse { path: path.to_owned(), source };
    let value: serde_json::Value = serde_json::from_slice(json).map_err(failed)?;
    if let Some(found) = value.get("format_version").and_then(serde_json::Value::as_u64) {
        let started = value.get("started").and_then(serde_json::Value::as_str).unwrap_or("unknown date");
        check_version(started, found)?;
    }
    let run: Run = serde_json::from_value(value).map_err(failed)?;
    let peers = run.scenarios.iter().flat_map(|scenario| &scenario.samples).map(|sample| &sample.peer);
    let peers: HashSet<&String> = peers.chain(run.peers.iter().map(|peer| &peer.name)).collect();
    let counts = [("scenarios", run.scenarios.len(), SCENARIOS_MAX), ("peers", peers.len(), PEERS_MAX)];
    match counts.into_iter().find(|(_, found, max)| found > max) {
        Some((what, found, max)) => Err(ReportError::TooMany { path: path.to_owned(), what, found, max }),
        None => Ok(run),
    }
}

/// Whether a run of format version `found`, which says that it began at `started`, can be read.
pub(super) fn check_version(started: &str, found: u64) -> Result<(), ReportError> {
    if found == u64::from(FORMAT_VERSION) {
        return Ok(());
    }
    Err(ReportError::Version { started: printable(started), found })
}
