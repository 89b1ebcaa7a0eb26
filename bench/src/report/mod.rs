//! From the JSON of one or several runs to tables for the terminal and a page with plots.
//!
//! `analysis` computes, `table` and `page` show; `chart` chooses what is plotted and `plot` draws it.

mod analysis;
mod axis;
mod chart;
mod comparison;
mod figure;
#[cfg(test)]
pub(crate) mod made_up;
mod metric;
mod page;
mod plot;
mod section;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod uploads;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use page::page;
pub use table::tables;

use crate::result::{FORMAT_VERSION, Run};

/// The largest result file that is read. A full standard run is under 1 MiB; the rest is room for years of rounds.
pub(crate) const RESULT_BYTES_MAX: u64 = 64 << 20;

/// The most runs on one page: each has its own tables and plots, and a browser has to lay them all out.
pub(crate) const RUNS_MAX: usize = 16;

/// The most scenarios of a run: ten times the standard set. Each has a table and up to four plots.
const SCENARIOS_MAX: usize = 200;

/// The most peers that a run lists: beyond that neither tables nor legends can be read.
const PEERS_MAX: usize = 16;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The file can't be opened or read.
    #[error("can't read the result file {}: {source}", path.display())]
    Read {
        /// The file that was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than [`RESULT_BYTES_MAX`].
    #[error("the result file {} is larger than 64 MiB: it isn't a result of stream-bench", path.display())]
    TooLarge {
        /// The file that was named.
        path: PathBuf,
    },
    /// The file isn't what `--json` writes.
    #[error("the result file {} isn't one that stream-bench wrote: {source}", path.display())]
    Parse {
        /// The file that was named.
        path: PathBuf,
        /// Where the JSON differs from what was expected.
        source: serde_json::Error,
    },
    /// The run was written in another format.
    #[error(
        "the run of {started} has format version {found}, this stream-bench reads version {FORMAT_VERSION}: \
             use the stream-bench that wrote it, or measure again"
    )]
    Version {
        /// When the run began, as it says; control characters escaped.
        started: String,
        /// Its version.
        found: u64,
    },
    /// No run was given.
    #[error("no run to report: name at least one result file")]
    NoRun,
    /// More than [`RUNS_MAX`] runs were given.
    #[error("{found} runs don't fit on one page, {RUNS_MAX} do: name fewer result files")]
    TooManyRuns {
        /// How many.
        found: usize,
    },
    /// The run has more scenarios or peers than a report can show.
    #[error(
        "the result file {} has {found} {what}, {max} are the most: it isn't a result of stream-bench",
        path.display()
    )]
    TooMany {
        /// The file that was named.
        path: PathBuf,
        /// Scenarios or peers.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// A plot couldn't be drawn.
    #[error("can't draw the plot {title:?}: {reason}")]
    Plot {
        /// The plot's title.
        title: String,
        /// What the drawing library said.
        reason: String,
    },
}

/// Reads the result file at `path`.
///
/// # Errors
/// When it can't be read, is larger than [`RESULT_BYTES_MAX`], isn't a result, has another format version, or
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

/// The version is looked at first: a file of another version may lack fields, and "missing field" would say the
/// wrong thing about it.
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

fn check_version(started: &str, found: u64) -> Result<(), ReportError> {
    if found == u64::from(FORMAT_VERSION) {
        return Ok(());
    }
    Err(ReportError::Version { started: text::printable(started), found })
}
