//! The command lines.

use clap::{Command, CommandFactory};

/// The daemon's.
pub(crate) fn daemon() -> Command {
    streamd::config::Arguments::command()
}

/// The bench's.
pub(crate) fn bench() -> Command {
    stream_bench::arguments::Arguments::command()
}
