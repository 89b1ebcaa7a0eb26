//! What is logged, and how a line looks.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::LevelFilter as Filter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use super::LogQueue;
use crate::config::{LogFormat, LogLevel, thread_remedy};

/// The installed log; writes out what waits when dropped.
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

    /// Where access lines go as well.
    pub fn queue(&self) -> &LogQueue {
        &self.queue
    }

    /// Changes the least severe level that is logged.
    pub fn set_level(&self, level: LogLevel) -> Result<(), String> {
        self.level.reload(filter_of(level)).map_err(|error| error.to_string())
    }
}

/// Waits until standard error takes more, which another process may have made not to wait itself.
fn wait_for_stderr(most: Duration) {
    let stderr = std::io::stderr();
    let most = Timespec::try_from(most).unwrap_or_default();
    // Whatever it says, the next write says it again.
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
