//! What this host grants: the kernel, its limits, and what of them is too low for the settings.

use std::fmt::Write;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{DriverChoice, Settings};
use crate::sys::uring;

/// Descriptors that the daemon needs besides those of connections: listeners, rings, pipes, logs.
const DESCRIPTORS_OWN: u64 = 256;

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

fn open_files_warning(settings: &Settings, limit: Option<u64>) -> Option<String> {
    let limit = limit?;
    let wanted = (settings.connections_max as u64).saturating_add(DESCRIPTORS_OWN);
    (limit < wanted).then(|| {
        format!(
            "the limit of open files is {limit}, and connections_max = {} may need {wanted}: raise LimitNOFILE= \
             (or ulimit -n), or lower connections_max",
            settings.connections_max
        )
    })
}

/// What `--check` says of the host. False: the settings can't work here.
pub fn report(settings: &Settings) -> (String, bool) {
    let mut text = String::new();
    let mut works = true;
    let kernel = rustix::system::uname();
    let _ = writeln!(text, "kernel         {}", kernel.release().to_string_lossy());
    match uring::probe() {
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
    let _ = writeln!(text, "driver         {}", driver_in_force(settings));
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

fn driver_in_force(settings: &Settings) -> &'static str {
    match (settings.driver, uring::probe().is_ok()) {
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
    use super::open_files_warning;
    use crate::config::Settings;

    #[test]
    fn a_low_limit_is_warned_of_and_a_high_one_is_not() {
        let settings = Settings { connections_max: 1000, ..Settings::default() };
        let warning = open_files_warning(&settings, Some(64)).unwrap();
        assert!(warning.contains("is 64") && warning.contains("LimitNOFILE"), "{warning}");
        assert_eq!(open_files_warning(&settings, Some(1_000_000)), None);
        assert_eq!(open_files_warning(&settings, None), None);
    }
}
