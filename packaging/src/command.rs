//! The command lines.

use clap::{Command, CommandFactory};

/// Returns the daemon's command line.
pub(crate) fn daemon() -> Command {
    streamd::config::Arguments::command()
}

/// Returns the bench's command line.
pub(crate) fn bench() -> Command {
    stream_bench::arguments::Arguments::command()
}
