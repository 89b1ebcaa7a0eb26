//! The capabilities of this host: the kernel, its limits, and which of them are too low for the settings.

use std::fmt::Write;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{DriverChoice, Settings};
use crate::limits::Descriptors;
use crate::sys::uring;

/// Why this host can't run a daemon of these settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The setting is `driver = "uring"` and the kernel refuses a ring.
    #[error("the settings can't work on this host")]
    Driver,
    /// The limit of open files is too low to serve anybody. Such a daemon would still listen and answer health
    /// checks, so that a balancer sends it clients that it never serves. The limit is a unit's or a shell's, which
    /// no further start raises. A daemon that can still serve one request after the other may start: it does its
    /// work, and a node that ran yesterday must not be down for a limit that an update finds low.
    #[error(
        "the limit of open files is {limit}, and below {least} nobody is served by {workers} workers: raise \
         LimitNOFILE= (or ulimit -n), to {wanted} for all that the settings may need, or lower workers"
    )]
    OpenFiles {
        /// The hard limit.
        limit: u64,
        /// The least descriptors that are needed.
        least: u64,
        /// The number of workers, each of which takes some.
        workers: usize,
        /// The descriptors that all settings may take.
        wanted: u64,
    },
}

impl Unfit {
    /// Whether starting again helps only once somebody has changed something.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Unfit::OpenFiles { .. })
    }
}

/// Raises the soft limit of open files to the hard one. Returns a warning where even that is less than the
/// settings may need.
pub fn raise_open_files(settings: &Settings) -> Result<Option<String>, Unfit> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // This is refused only where the hard limit is above fs.nr_open; the warning below covers it.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    look_at_open_files(settings, getrlimit(Resource::Nofile).current)
}

/// Returns how many descriptors the settings may take at once.
pub fn descriptors_wanted(settings: &Settings) -> u64 {
    Descriptors::wanted(settings)
}

/// Says which settings `limit` descriptors cut.
fn look_at_open_files(settings: &Settings, limit: Option<u64>) -> Result<Option<String>, Unfit> {
    let Some(limit) = limit else { return Ok(None) };
    let (least, wanted) = (Descriptors::least(settings), descriptors_wanted(settings));
    if limit < least {
        return Err(Unfit::OpenFiles { limit, least, workers: settings.workers, wanted });
    }
    let parts = Descriptors::divide(Some(limit), settings);
    let cuts = [
        ("connections_max", settings.connections_max, parts.connections_max),
        ("control_connections_max", settings.control_connections_max, parts.control_connections_max),
        ("uploads_max", if settings.takes_uploads() { settings.uploads_max } else { 0 }, parts.uploads_max),
        ("streams_max", settings.streams_max, parts.streams_max),
    ];
    let cuts: Vec<String> = cuts
        .into_iter()
        .filter(|(_, set, granted)| granted < set)
        .map(|(name, set, granted)| format!("{name} from {set} to {granted}"))
        .collect();
    if cuts.is_empty() {
        return Ok(None);
    }
    let cut = format!(
        "the limit of open files is {limit}, and the settings may need {wanted}, which lowers {}",
        cuts.join(", ")
    );
    Ok(Some(if parts.are_scarce(settings) {
        let left = parts.connections_max;
        format!(
            "descriptors are left for only {left} data connections, and whoever comes besides waits until others have \
             ended: {cut}: raise LimitNOFILE= (or ulimit -n)"
        )
    } else {
        format!("{cut}: raise LimitNOFILE= (or ulimit -n), or lower connections_max")
    }))
}

/// Returns the lines of `--check` about the host, and why the settings can't work here, if they can't.
pub fn report(settings: &Settings) -> (String, Result<(), Unfit>) {
    let mut text = String::new();
    let mut works = Ok(());
    let kernel = rustix::system::uname();
    let _ = writeln!(text, "kernel         {}", kernel.release().to_string_lossy());
    let probed = uring::probe_all(rings(settings));
    match &probed {
        Ok(features) => {
            let flags = if features.defer_taskrun {
                "with DEFER_TASKRUN"
            } else {
                "without DEFER_TASKRUN (Linux 6.1)"
            };
            let _ = writeln!(text, "io_uring       granted, {flags}");
        }
        Err(refused) => {
            let _ = writeln!(text, "io_uring       {refused}");
            if settings.driver == DriverChoice::Uring {
                works = Err(Unfit::Driver);
            }
        }
    }
    let _ = writeln!(text, "driver         {}", driver_in_force(settings, probed.is_ok()));
    let nofile = getrlimit(Resource::Nofile);
    let _ = writeln!(
        text,
        "open files     {} (hard limit, which is what streamd takes)",
        limit_text(nofile.maximum)
    );
    match look_at_open_files(settings, nofile.maximum) {
        Ok(None) => {}
        Ok(Some(warning)) => _ = writeln!(text, "               warning: {warning}"),
        Err(unfit) => works = works.and(Err(unfit)),
    }
    let memlock = getrlimit(Resource::Memlock);
    let _ = writeln!(text, "locked memory  {} bytes", limit_text(memlock.current));
    (text, works)
}

/// Returns how many rings the settings take at once.
fn rings(settings: &Settings) -> usize {
    if settings.driver == DriverChoice::Epoll { 1 } else { settings.workers }
}

fn driver_in_force(settings: &Settings, is_granted: bool) -> &'static str {
    match (settings.driver, is_granted) {
        (DriverChoice::Epoll, _) => "epoll",
        (DriverChoice::Auto | DriverChoice::Uring, true) => "io_uring",
        (DriverChoice::Auto, false) => "epoll, since io_uring is refused",
        (DriverChoice::Uring, false) => "none: --driver uring, and io_uring is refused",
    }
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Unfit, descriptors_wanted, look_at_open_files};
    use crate::config::Settings;
    use crate::limits::{DATA_CONNECTIONS_MIN, Descriptors};

    #[test]
    fn a_low_limit_is_said_with_what_it_cuts_and_a_high_one_is_not() {
        let settings = Settings { connections_max: 1000, ..Settings::default() };
        let wanted = descriptors_wanted(&settings);
        let warning = look_at_open_files(&settings, Some(wanted / 2)).unwrap().unwrap();
        for words in [&format!("is {}", wanted / 2), "LimitNOFILE", "connections_max from 1000 to "] {
            assert!(warning.contains(words), "{warning}");
        }
        assert!(warning.contains(&format!("may need {wanted}")), "{warning}");
        assert!(!warning.contains("data connections"), "{warning}");
        assert_eq!(look_at_open_files(&settings, Some(wanted)), Ok(None));
        assert_eq!(look_at_open_files(&settings, None), Ok(None));
    }

    #[test]
    fn few_data_connections_are_said_first_and_none_are_refused() {
        let settings = Settings { workers: 2, uploads: true, ..Settings::default() };
        let least = Descriptors::least(&settings);
        for limit in least..least + 200 {
            let left = Descriptors::divide(Some(limit), &settings).connections_max;
            let warning = look_at_open_files(&settings, Some(limit)).unwrap().unwrap();
            let said = format!("descriptors are left for only {left} data connections, ");
            assert_eq!(warning.starts_with(&said), left < DATA_CONNECTIONS_MIN, "{limit}: {warning}");
        }
        let refused = look_at_open_files(&settings, Some(least - 1)).unwrap_err();
        let wanted = descriptors_wanted(&settings);
        assert_eq!(refused, Unfit::OpenFiles { limit: least - 1, least, workers: 2, wanted });
        assert!(refused.is_configuration() && !Unfit::Driver.is_configuration());
    }
}
