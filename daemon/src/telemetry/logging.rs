//! The set-up of the log: its level, its format and its queue.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::LevelFilter as Filter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use super::LogQueue;
use crate::config::{LogFormat, LogLevel, thread_remedy};

/// The installed log, which writes out waiting lines when it is dropped.
pub struct Logging {
    level: reload::Handle<Filter, Registry>,
    queue: LogQueue,
}

impl Logging {
    /// Installs the process's log. Fails if there is one already.
    pub fn install(format: LogFormat, level: LogLevel) -> Result<Logging, String> {
        let queue = LogQueue::start(std::io::stderr(), wait_for_stderr).map_err(|error| {
            format!("the log's thread can't be started: {error}{}", thread_remedy(&error))
        })?;
        let (filter, handle) = reload::Layer::new(filter_of(level));
        let lines = fmt::layer().with_writer(queue.clone()).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        let installed = match format {
            LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        installed.map_err(|error| error.to_string())?;
        Ok(Logging { level: handle, queue })
    }

    /// Returns the queue, which takes access lines as well.
    pub fn queue(&self) -> &LogQueue {
        &self.queue
    }

    /// Changes the least severe level that is logged.
    pub fn set_level(&self, level: LogLevel) -> Result<(), String> {
        self.level.reload(filter_of(level)).map_err(|error| error.to_string())
    }
}

/// Waits until standard error takes more. Another process may have made it non-blocking.
fn wait_for_stderr(most: Duration) {
    let stderr = std::io::stderr();
    let most = Timespec::try_from(most).unwrap_or_default();
    // An error is ignored here, since the next write tells it again.
    let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&most));
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.flush();
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
