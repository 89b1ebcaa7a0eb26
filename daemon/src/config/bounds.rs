//! What each setting that is a number may be, for the check, for help and for the manual alike.

use std::fmt;

use super::faults::Fault;
use super::lifetime::Lifetime;
use super::settings::{
    CACHE_VALID_MS_MAX, DISK_THREADS_MAX, FRAME_BYTES_MAX_LIMIT, PARTIAL_TTL_MAX, PARTIAL_TTL_MIN,
    STREAM_BYTES_MAX_LIMIT, STREAMS_MAX_LIMIT, Settings, TIMEOUT_MS_MAX, UPLOAD_BYTES_MAX_LIMIT,
    UPLOADS_MAX_LIMIT, WAITING_BYTES_MAX_MIN, WORKERS_MAX,
};

/// No bound but that of the number itself.
const ANY: u64 = u64::MAX;

/// What one setting may be.
struct Bounds {
    setting: &'static str,
    value: fn(&Settings) -> u64,
    min: u64,
    max: u64,
    /// How the values are to be read.
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Milliseconds,
    /// Seconds, written as a [`Lifetime`].
    Span,
}

const fn bounds(
    setting: &'static str,
    value: fn(&Settings) -> u64,
    (min, max): (u64, u64),
    unit: Unit,
) -> Bounds {
    Bounds { setting, value, min, max, unit }
}

/// A time-out of 0 would be over before it began.
const TIMEOUT: (u64, u64) = (1, TIMEOUT_MS_MAX);

/// All of them.
const ALL: [Bounds; 34] = [
    bounds("workers", |all| all.workers as u64, (1, WORKERS_MAX as u64), Unit::Count),
    bounds("partial_ttl", |all| all.partial_ttl.0.as_secs(), SPAN, Unit::Span),
    bounds("upload_bytes_max", |all| all.upload_bytes_max, (1, UPLOAD_BYTES_MAX_LIMIT), Unit::Bytes),
    bounds("uploads_max", |all| all.uploads_max as u64, (1, UPLOADS_MAX_LIMIT as u64), Unit::Count),
    bounds(
        "uploads_per_destination_max",
        |all| all.uploads_per_destination_max as u64,
        (1, UPLOADS_MAX_LIMIT as u64),
        Unit::Count,
    ),
    bounds("direct_bytes_min", |all| all.direct_bytes_min, (0, ANY), Unit::Bytes),
    bounds("min_free_bytes", |all| all.min_free_bytes, (0, ANY), Unit::Bytes),
    bounds("min_free_inodes", |all| all.min_free_inodes, (0, ANY), Unit::Count),
    bounds("frame_bytes_max", |all| all.frame_bytes_max, (0, FRAME_BYTES_MAX_LIMIT), Unit::Bytes),
    bounds("stream_bytes_max", |all| all.stream_bytes_max, (0, STREAM_BYTES_MAX_LIMIT), Unit::Bytes),
    bounds("spool_bytes_max", |all| all.spool_bytes_max, (0, ANY), Unit::Bytes),
    bounds("spool_files_max", |all| all.spool_files_max, (0, ANY), Unit::Count),
    bounds("address_spool_bytes_max", |all| all.address_spool_bytes_max, (0, ANY), Unit::Bytes),
    bounds("address_spool_files_max", |all| all.address_spool_files_max, (0, ANY), Unit::Count),
    bounds("waiting_bytes_max", |all| all.waiting_bytes_max, (WAITING_BYTES_MAX_MIN, ANY), Unit::Bytes),
    bounds("streams_max", |all| all.streams_max as u64, (1, STREAMS_MAX_LIMIT as u64), Unit::Count),
    bounds("connections_max", |all| all.connections_max as u64, (1, ANY), Unit::Count),
    bounds("control_connections_max", |all| all.control_connections_max as u64, (1, ANY), Unit::Count),
    bounds("address_connections_max", |all| all.address_connections_max as u64, (1, ANY), Unit::Count),
    bounds("address_uploads_max", |all| all.address_uploads_max as u64, (1, ANY), Unit::Count),
    bounds("address_streams_max", |all| all.address_streams_max as u64, (1, ANY), Unit::Count),
    bounds("address_listings_max", |all| all.address_listings_max as u64, (1, ANY), Unit::Count),
    bounds("disk_threads", |all| all.disk_threads as u64, (1, DISK_THREADS_MAX as u64), Unit::Count),
    bounds("disk_timeout_ms", |all| all.disk_timeout_ms, TIMEOUT, Unit::Milliseconds),
    // 0 looks for files each time.
    bounds("cache_valid_ms", |all| all.cache_valid_ms, (0, CACHE_VALID_MS_MAX), Unit::Milliseconds),
    bounds("head_timeout_ms", |all| all.head_timeout_ms, TIMEOUT, Unit::Milliseconds),
    bounds("idle_timeout_ms", |all| all.idle_timeout_ms, TIMEOUT, Unit::Milliseconds),
    bounds("send_timeout_ms", |all| all.send_timeout_ms, TIMEOUT, Unit::Milliseconds),
    bounds("receive_timeout_ms", |all| all.receive_timeout_ms, TIMEOUT, Unit::Milliseconds),
    bounds("progress_bytes_min", |all| all.progress_bytes_min, (0, ANY), Unit::Bytes),
    bounds("progress_interval_ms", |all| all.progress_interval_ms, TIMEOUT, Unit::Milliseconds),
    bounds("connect_timeout_ms", |all| all.connect_timeout_ms, TIMEOUT, Unit::Milliseconds),
    bounds("target_timeout_ms", |all| all.target_timeout_ms, TIMEOUT, Unit::Milliseconds),
    // 0 waits for nobody.
    bounds("drain_timeout_ms", |all| all.drain_timeout_ms, (0, TIMEOUT_MS_MAX), Unit::Milliseconds),
];

const SPAN: (u64, u64) = (PARTIAL_TTL_MIN.as_secs(), PARTIAL_TTL_MAX.as_secs());

/// What `setting` may be, as help says it: `1 to 1024`. None where it isn't a number.
pub fn bounds_of(setting: &str) -> Option<String> {
    ALL.iter().find(|bounds| bounds.setting == setting).map(ToString::to_string)
}

/// Names all settings that are out of bounds.
pub(super) fn check(settings: &Settings, faults: &mut Vec<Fault>) {
    for bounds in &ALL {
        let value = (bounds.value)(settings);
        if !(bounds.min..=bounds.max).contains(&value) {
            let value = bounds.spell(value);
            faults.push(Fault::new(bounds.setting, format!("{value} is outside {bounds}")));
        }
    }
}

impl Bounds {
    fn spell(&self, value: u64) -> String {
        match self.unit {
            Unit::Span => Lifetime(std::time::Duration::from_secs(value)).to_string(),
            Unit::Count | Unit::Bytes | Unit::Milliseconds => value.to_string(),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.max == ANY {
            return write!(formatter, "{} or more", self.spell(self.min));
        }
        write!(formatter, "{} to {}", self.spell(self.min), self.spell(self.max))?;
        match self.max {
            FRAME_BYTES_MAX_LIMIT => formatter.write_str(" (2^56 - 1)"),
            UPLOAD_BYTES_MAX_LIMIT => formatter.write_str(" (10^15 - 1)"),
            _ if self.unit == Unit::Milliseconds => formatter.write_str(" ms"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::super::{Arguments, Settings, load};
    use super::{ALL, ANY, Bounds, Unit, bounds_of};

    /// The faults of a file that sets one setting.
    fn faults(bounds: &Bounds, value: u64) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let value = bounds.spell(value);
        let value = if bounds.unit == Unit::Span { format!("{value:?}") } else { value };
        writeln!(file, "{} = {value}", bounds.setting).unwrap();
        match load(&Arguments::parse_from(["streamd", "--config", file.path().to_str().unwrap()])) {
            Ok(_) => Vec::new(),
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn each_setting_may_be_what_is_said_and_nothing_else() {
        for bounds in &ALL {
            let max = bounds.max.min(i64::MAX.unsigned_abs());
            for good in [bounds.min, max] {
                assert_eq!(faults(bounds, good), [] as [String; 0], "{}", bounds.setting);
            }
            let below = bounds.min.checked_sub(1);
            let above = (bounds.max != ANY).then(|| bounds.max + 1);
            for bad in below.into_iter().chain(above) {
                let expected = format!("{}: {} is outside {bounds}", bounds.setting, bounds.spell(bad));
                assert_eq!(faults(bounds, bad), [expected]);
            }
        }
    }

    #[test]
    fn every_number_has_bounds_and_help_says_them() {
        let mut command = Arguments::command_with_defaults();
        let help = command.render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let numbers = toml::Table::try_from(Settings::default()).unwrap();
        let numbers = numbers.iter().filter(|(_, value)| value.is_integer()).map(|(key, _)| key.as_str());
        for setting in numbers.chain(["partial_ttl"]) {
            let bounds = bounds_of(setting).unwrap_or_else(|| panic!("{setting} has no bounds"));
            let flag = format!("--{}", setting.replace('_', "-"));
            let of_flag = help.split(&format!("{flag} <")).nth(1).unwrap().split(" --").next().unwrap();
            assert!(of_flag.contains(&format!("[{bounds}]")), "{setting}: {bounds}: {of_flag}");
        }
    }
}
