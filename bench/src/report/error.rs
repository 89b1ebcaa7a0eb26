//! The reasons for which there is no report.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::result::FORMAT_VERSION;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The file can't be opened or read.
    #[error("can't read the result file {}: {source}", path.display())]
    Read {
        /// The file that was named.
        path: PathBuf,
        /// The reason that the system gave.
        source: io::Error,
    },
    /// The file is larger than 64 MiB, the most that is read.
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
        /// The place where the JSON differs from the expected form.
        source: serde_json::Error,
    },
    /// The run was written in another format.
    #[error(
        "the run of {started} has format version {found}, this stream-bench reads version {FORMAT_VERSION}: \
             use the stream-bench that wrote it, or measure again"
    )]
    Version {
        /// The time at which the run began, as it says; control characters escaped.
        started: String,
        /// Its version.
        found: u64,
    },
    /// No run was given.
    #[error("no run to report: name at least one result file")]
    NoRun,
    /// More runs were given than fit on one page.
    #[error("{found} runs don't fit on one page, {max} do: name fewer result files")]
    TooManyRuns {
        /// Runs that were given.
        found: usize,
        /// Runs that fit.
        max: usize,
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
        /// The number that the run has.
        found: usize,
        /// The most that a report can show.
        max: usize,
    },
    /// A plot couldn't be drawn.
    #[error("can't draw the plot {title:?}: {reason}")]
    Plot {
        /// The plot's title.
        title: String,
        /// The reason that the drawing library gave.
        reason: String,
    },
}
