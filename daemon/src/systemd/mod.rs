//! The protocols of a service manager like systemd: the messages that it is told (sd_notify(3)), the watchdog, and
//! the sockets that it passes (sd_listen_fds(3)). Without one nothing of this happens.

mod notify;
mod sockets;
mod status;
mod watchdog;

use std::time::{Duration, Instant};

use crate::telemetry::{Part, Telemetry};
use notify::Notifier;
pub use sockets::{Addresses, PassedSockets, SocketError, announced};
use status::{State, Status};
use watchdog::Watchdog;

/// The interval at which the daemon checks itself: two wake-ups a second.
const TURN: Duration = Duration::from_millis(500);

/// The time by which a drain asks for more, again and again while it goes on: a unit's TimeoutStopSec= may be
/// shorter than drain_timeout_ms. It is some turns of a loaded host, and not more: systemd stretches the watchdog
/// by it too (236).
const DRAIN_EXTENSION: Duration = Duration::from_secs(10);

/// The sender of the daemon's state to the service manager.
pub struct Supervisor {
    notifier: Notifier,
    watchdog: Option<Watchdog>,
    status: Status,
    stuck: Option<Stuck>,
}

struct Stuck {
    part: Part,
    noticed: Instant,
}

impl Supervisor {
    /// Reads the variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. They stay set: the daemon starts no
    /// process that they could reach.
    pub fn from_environment() -> Supervisor {
        Supervisor {
            notifier: Notifier::from_environment(),
            watchdog: Watchdog::from_environment(),
            status: Status::default(),
            stuck: None,
        }
    }

    /// Returns the interval at which [`Supervisor::turn`] is to be called.
    pub fn turn_interval(&self) -> Duration {
        self.watchdog.as_ref().map_or(TURN, |watchdog| TURN.min(watchdog.feeding_interval() / 2))
    }

    /// Tells that every worker accepts and the control plane answers.
    pub fn ready(&mut self, telemetry: &Telemetry) {
        self.enter(State::Serving, "READY=1", telemetry);
    }

    /// Tells that new settings are being read.
    pub fn reloading(&mut self) {
        // systemd 253 and newer want to know when the reload began.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.notifier.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// Tells that new settings are in force, or were refused.
    pub fn reloaded(&mut self, is_refused: bool, telemetry: &Telemetry) {
        self.enter(if is_refused { State::ReloadRefused } else { State::Serving }, "READY=1", telemetry);
    }

    /// Tells that the daemon drains.
    pub fn stopping(&mut self, telemetry: &Telemetry) {
        self.enter(State::Draining, "STOPPING=1", telemetry);
        self.extend_stop();
    }

    /// Tells that the daemon could not start, or can't go on.
    pub fn failed(&mut self, message: &str, errno: Option<i32>) {
        let errno = errno.map_or(String::new(), |errno| format!("\nERRNO={errno}"));
        self.notifier.tell(&format!("STATUS={}{errno}", one_line(message)));
    }

    /// Feeds the watchdog while everything turns, and renews the status.
    pub fn turn(&mut self, telemetry: &Telemetry) {
        let now = Instant::now();
        self.notifier.tell_rest();
        self.look_for_stuck(telemetry, now);
        if self.stuck.is_none() {
            self.feed(now);
        }
        if !self.status.is_due(now) {
            return;
        }
        if self.status.state() == State::Draining && self.stuck.is_none() {
            self.extend_stop();
        }
        if let Some(text) = self.status.renewed(telemetry, now) {
            self.notifier.tell_if_free(&format!("STATUS={text}"));
        }
    }

    fn enter(&mut self, state: State, line: &str, telemetry: &Telemetry) {
        let text = self.status.enter(state, telemetry, Instant::now());
        self.notifier.tell(&format!("{line}\nSTATUS={text}"));
    }

    fn extend_stop(&mut self) {
        self.notifier.tell_if_free(&format!("EXTEND_TIMEOUT_USEC={}", DRAIN_EXTENSION.as_micros()));
    }

    fn feed(&mut self, now: Instant) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.is_due(now))
            && self.notifier.tell_if_free("WATCHDOG=1")
        {
            watchdog.fed(now);
        }
    }

    /// Logs once that a loop is stuck, and once that none is any more.
    fn look_for_stuck(&mut self, telemetry: &Telemetry, now: Instant) {
        let watchdog = if self.watchdog.is_some() { "not fed" } else { "none" };
        match (telemetry.stuck(), self.stuck.take()) {
            (Some(part), None) => {
                tracing::error!(%part, watchdog, "a part of the daemon is stuck");
                self.stuck = Some(Stuck { part, noticed: now });
            }
            (Some(_), still) => self.stuck = still,
            (None, Some(Stuck { part, noticed })) => {
                let seconds = now.duration_since(noticed).as_secs();
                let watchdog = if self.watchdog.is_some() { "fed again" } else { "none" };
                tracing::info!(%part, watchdog, seconds, "nothing is stuck any more");
            }
            (None, None) => {}
        }
    }
}

/// Cleans a value within a message, in which a line break would begin the next one.
fn one_line(text: &str) -> String {
    text.trim_end().replace(|character: char| character.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_value_can_not_begin_another() {
        assert_eq!(one_line("workers: 0\nroot: no\tsuch\n"), "workers: 0 root: no such");
        assert_eq!(one_line("a\u{0}b"), "a b");
    }
}
