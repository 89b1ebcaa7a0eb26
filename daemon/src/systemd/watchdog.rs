//! The feeding times of the watchdog: WATCHDOG_USEC and WATCHDOG_PID, sd_watchdog_enabled(3).

use std::time::{Duration, Instant};

/// The watchdog of a service manager, which ends the daemon when it hears nothing for an interval.
pub(super) struct Watchdog {
    interval: Duration,
    last_fed: Option<Instant>,
}

impl Watchdog {
    pub(super) fn from_environment() -> Option<Watchdog> {
        let variable = |name| std::env::var(name).ok();
        Watchdog::asked_for(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
    }

    fn asked_for(microseconds: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Watchdog> {
        // The variables are meant for the process that this one was before an exec, or for its parent.
        if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
            return None;
        }
        let microseconds = microseconds?.parse::<u64>().ok().filter(|microseconds| *microseconds > 0)?;
        Some(Watchdog { interval: Duration::from_micros(microseconds), last_fed: None })
    }

    /// Returns half of the interval, since one message may come late.
    pub(super) fn feeding_interval(&self) -> Duration {
        self.interval / 2
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.last_fed.is_none_or(|last_fed| now.duration_since(last_fed) >= self.feeding_interval())
    }

    pub(super) fn fed(&mut self, now: Instant) {
        self.last_fed = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Watchdog;

    #[test]
    fn it_is_fed_at_half_of_its_interval() {
        let mut watchdog = Watchdog::asked_for(Some("3000000".to_owned()), None, 7).unwrap();
        let start = Instant::now();
        assert!(watchdog.is_due(start));
        watchdog.fed(start);
        assert!(!watchdog.is_due(start + Duration::from_millis(1499)));
        assert!(watchdog.is_due(start + Duration::from_millis(1500)));
    }

    #[test]
    fn variables() {
        for (microseconds, pid, is_wanted) in [
            (None, None, false),
            (Some("1000000"), None, true),
            (Some("1000000"), Some("7"), true),
            (Some("1000000"), Some("8"), false),
            (Some("1000000"), Some("seven"), false),
            (Some("0"), None, false),
            (Some("-1"), None, false),
            (Some("soon"), Some("7"), false),
        ] {
            let asked =
                Watchdog::asked_for(microseconds.map(str::to_owned), pid.map(str::to_owned), 7).is_some();
            assert_eq!(asked, is_wanted, "{microseconds:?} {pid:?}");
        }
    }
}
