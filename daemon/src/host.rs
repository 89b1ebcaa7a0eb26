//! What this host grants: the kernel, its limits, and what of them is too low for the settings.

use std::fmt::Write;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{DriverChoice, Settings};
use crate::limits::Descriptors;
use crate::sys::uring;

/// Raises the soft limit of open files to the hard one. Returns a warning where even that is less than the
/// settings may need.
pub fn raise_open_files(settings: &Settings) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Refused only where the hard limit is above fs.nr_open; the warning below covers it.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    open_files_warning(settings, getrlimit(Resource::Nofile).current)
}

/// What the settings may take at once.
pub fn descriptors_wanted(settings: &Settings) -> u64 {
    Descriptors::wanted(settings)
}

/// Says what of the settings `limit` descriptors cut.
fn open_files_warning(settings: &Settings, limit: Option<u64>) -> Option<String> {
    let limit = limit?;
    let wanted = descriptors_wanted(settings);
    let parts = Descriptors::divide(Some(limit), settings);
    let cuts = [
        ("connections_max", settings.connections_max, parts.connections_max),
        ("control_connections_max", settings.control_connections_max, parts.control_connections_max),
        ("uploads_max", if settings.uploads { settings.uploads_max } else { 0 }, parts.uploads_max),
        ("streams_max", settings.streams_max, parts.streams_max),
    ];
    let cuts: Vec<String> = cuts
        .into_iter()
        .filter(|(_, set, granted)| granted < set)
        .map(|(name, set, granted)| format!("{name} from {set} to {granted}"))
        .collect();
    (!cuts.is_empty()).then(|| {
        format!(
            "the limit of open files is {limit}, and the settings may need {wanted}, which lowers {}: raise \
             LimitNOFILE= (or ulimit -n), or lower connections_max",
            cuts.join(", ")
        )
    })
}

/// What `--check` says of the host. False: the settings can't work here.
pub fn report(settings: &Settings) -> (String, bool) {
    let mut text = String::new();
    let mut works = true;
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
            works = settings.driver != DriverChoice::Uring;
        }
    }
    let _ = writeln!(text, "driver         {}", driver_in_force(settings, probed.is_ok()));
    let nofile = getrlimit(Resource::Nofile);
    let _ = writeln!(
        text,
        "open files     {} (hard limit, which is what streamd takes)",
        limit_text(nofile.maximum)
    );
    if let Some(warning) = open_files_warning(settings, nofile.maximum) {
        let _ = writeln!(text, "               warning: {warning}");
    }
    let memlock = getrlimit(Resource::Memlock);
    let _ = writeln!(text, "locked memory  {} bytes", limit_text(memlock.current));
    (text, works)
}

/// Rings that the settings take at once.
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
    use super::{descriptors_wanted, open_files_warning};
    use crate::config::Settings;

    #[test]
    fn a_low_limit_is_said_with_what_it_cuts_and_a_high_one_is_not() {
        let settings = Settings { connections_max: 1000, ..Settings::default() };
        let wanted = descriptors_wanted(&settings);
        let warning = open_files_warning(&settings, Some(wanted / 2)).unwrap();
        for words in [&format!("is {}", wanted / 2), "LimitNOFILE", "connections_max from 1000 to "] {
            assert!(warning.contains(words), "{warning}");
        }
        assert!(warning.contains(&format!("may need {wanted}")), "{warning}");
        assert_eq!(open_files_warning(&settings, Some(wanted)), None);
        assert_eq!(open_files_warning(&settings, None), None);
    }
}
