//! The line that `systemctl status` shows.

use std::time::{Duration, Instant};

use bytesize::ByteSize;

use crate::telemetry::Telemetry;

/// The interval at which the line may change, since people read it.
const RENEWAL: Duration = Duration::from_secs(5);

/// The interval while the daemon drains, when somebody waits for its end.
const RENEWAL_DRAINING: Duration = Duration::from_secs(1);

/// The state of the daemon in the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Serving,
    /// The daemon serves by its old settings, since a reload was refused.
    ReloadRefused,
    Draining,
}

/// The line that was told last, and its figures.
#[derive(Default)]
pub(super) struct Status {
    state: State,
    text: String,
    looked: Option<(Instant, Traffic)>,
}

/// The payload bytes sent and received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traffic {
    sent: u64,
    received: u64,
}

/// The figures of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    connections: u64,
    streams: u64,
    uploads: u64,
    per_second: Traffic,
}

impl Status {
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Returns the line of a state that begins now.
    pub(super) fn enter(&mut self, state: State, telemetry: &Telemetry, now: Instant) -> String {
        self.state = state;
        self.text = text(state, self.look(telemetry, now));
        self.text.clone()
    }

    /// Whether the line is due for renewal.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let renewal = if self.state == State::Draining { RENEWAL_DRAINING } else { RENEWAL };
        self.looked.is_none_or(|(looked, _)| now.duration_since(looked) >= renewal)
    }

    /// Returns the new line, if it has changed.
    pub(super) fn renewed(&mut self, telemetry: &Telemetry, now: Instant) -> Option<String> {
        let text = text(self.state, self.look(telemetry, now));
        let is_other = text != self.text;
        self.text.clone_from(&text);
        is_other.then_some(text)
    }

    fn look(&mut self, telemetry: &Telemetry, now: Instant) -> Figures {
        let traffic = Traffic { sent: telemetry.bytes_sent(), received: telemetry.bytes_received() };
        let (before, traffic_before) = self.looked.replace((now, traffic)).unwrap_or((now, traffic));
        let per_second = |bytes: u64, bytes_before: u64| {
            let milliseconds = now.duration_since(before).as_millis().max(1);
            let bytes = u128::from(bytes.saturating_sub(bytes_before));
            u64::try_from(bytes * 1000 / milliseconds).unwrap_or(u64::MAX)
        };
        Figures {
            connections: telemetry.connections_open(),
            streams: telemetry.control.streams_running.get(),
            uploads: telemetry.uploads.writers.get(),
            per_second: Traffic {
                sent: per_second(traffic.sent, traffic_before.sent),
                received: per_second(traffic.received, traffic_before.received),
            },
        }
    }
}

fn text(state: State, figures: Figures) -> String {
    let connections = counted(figures.connections, "connection");
    let mut text = match state {
        State::Draining => format!("draining, {connections} left"),
        State::Serving | State::ReloadRefused => format!("serving {connections}"),
    };
    for (count, thing) in [(figures.streams, "stream"), (figures.uploads, "upload")] {
        if count > 0 {
            text += &format!(", {}", counted(count, thing));
        }
    }
    for (bytes, verb) in [(figures.per_second.sent, "sending"), (figures.per_second.received, "receiving")] {
        if bytes > 0 {
            text += &format!(", {verb} {}/s", ByteSize::b(bytes).display().si());
        }
    }
    if state == State::ReloadRefused {
        text += "; the last reload was refused, the log says why, and the old settings stay in force";
    }
    text
}

fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Figures, State, Status, Traffic, text};
    use crate::telemetry::{EngineLabel, LogQueue, Telemetry};

    #[test]
    fn texts() {
        let idle = Figures::default();
        let one =
            Figures { connections: 1, streams: 1, uploads: 1, per_second: Traffic { sent: 1, received: 0 } };
        let many = Figures {
            connections: 12,
            streams: 3,
            uploads: 2,
            per_second: Traffic { sent: 1_230_000_000, received: 4_500_000 },
        };
        for (state, figures, expected) in [
            (State::Serving, idle, "serving 0 connections"),
            (State::Serving, one, "serving 1 connection, 1 stream, 1 upload, sending 1 B/s"),
            (
                State::Serving,
                many,
                "serving 12 connections, 3 streams, 2 uploads, sending 1.2 GB/s, receiving 4.5 MB/s",
            ),
            (State::Draining, Figures { connections: 3, ..idle }, "draining, 3 connections left"),
            (
                State::ReloadRefused,
                idle,
                "serving 0 connections; the last reload was refused, the log says why, and the old settings \
                 stay in force",
            ),
        ] {
            assert_eq!(text(state, figures), expected);
        }
    }

    #[test]
    fn it_is_renewed_when_it_is_time_and_only_where_it_changed() {
        let telemetry = Telemetry::new(2, "epoll", LogQueue::nowhere());
        let mut status = Status::default();
        let start = Instant::now();
        assert_eq!(status.enter(State::Serving, &telemetry, start), "serving 0 connections");
        assert!(!status.is_due(start + Duration::from_secs(4)));
        let later = start + Duration::from_secs(5);
        assert!(status.is_due(later));
        assert_eq!(status.renewed(&telemetry, later), None);
        telemetry.workers[1].connections_accepted.add(1);
        telemetry.workers[0].bytes_sent.add(EngineLabel::Splice, 6_000_000);
        telemetry.workers[1].bytes_sent.add(EngineLabel::Copy, 4_000_000);
        let text = status.renewed(&telemetry, later + Duration::from_secs(10));
        assert_eq!(text.as_deref(), Some("serving 1 connection, sending 1.0 MB/s"));
        let text = status.enter(State::Draining, &telemetry, later + Duration::from_secs(20));
        assert_eq!(text, "draining, 1 connection left");
        assert!(status.is_due(later + Duration::from_secs(21)));
    }
}
