//! Log lines to standard error, through a bounded queue: a reader that stalls costs lines, never a worker.

use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter as Filter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use super::Telemetry;
use crate::config::{LogFormat, LogLevel};

/// Lines that wait for their reader before more are dropped: a few seconds at the access rate of one core,
/// some 10 MiB.
const LINES_WAITING_MAX: usize = 65_536;

/// How often dropped lines are carried over into the metric.
pub const DROPPED_LINES_INTERVAL: Duration = Duration::from_secs(1);

/// The installed log; flushes what waits when dropped.
pub struct Logging {
    level: reload::Handle<Filter, Registry>,
    dropped: ErrorCounter,
    _flush_on_drop: WorkerGuard,
}

impl Logging {
    /// Installs the process's log. Fails if there is one already.
    pub fn install(format: LogFormat, level: LogLevel) -> Result<Logging, String> {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_WAITING_MAX)
            .lossy(true)
            .thread_name("streamd-log")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        let (filter, handle) = reload::Layer::new(filter_of(level));
        let lines = fmt::layer().with_writer(writer).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        let installed = match format {
            LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        installed.map_err(|error| error.to_string())?;
        Ok(Logging { level: handle, dropped, _flush_on_drop: guard })
    }

    /// Changes the least severe level that is logged.
    pub fn set_level(&self, level: LogLevel) -> Result<(), String> {
        self.level.reload(filter_of(level)).map_err(|error| error.to_string())
    }

    /// Carries the number of dropped lines over into the metric.
    pub fn count_dropped(&self, telemetry: &Arc<Telemetry>) {
        let dropped = self.dropped.dropped_lines() as u64;
        let counted = telemetry.log_lines_dropped.get();
        telemetry.log_lines_dropped.add(dropped.saturating_sub(counted));
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
