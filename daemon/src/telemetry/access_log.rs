//! Access lines, in the format of the other log lines. The worker itself writes them into a buffer that is handed
//! over when it is full and once a tick. Through tracing, one event and one write each, a line costs 1.7 µs.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::log_order::Oldest;
use super::log_queue::LogQueue;
use crate::config::LogFormat;
use crate::limits::{Peer, TICK};

/// Bytes of lines after which the buffer is handed over: some two hundred lines. Fewer would wake the writer more
/// often, more would leave the core's first cache.
const BUFFER_BYTES: usize = 32 << 10;

/// Bytes that are more than a line takes with a path of ordinary length, so that the buffer seldom grows.
const LINE_BYTES: usize = 512;

/// The length of `2026-11-24T18:37:22`.
const SECOND_BYTES: usize = 19;

/// The time for which the wall clock is assumed to run as the monotonic one does: a clock that was set shows
/// within a tick.
const WALL_CLOCK_AGE_MAX: Duration = TICK;

/// The content of an access line.
pub struct AccessLine<'a> {
    /// The peer.
    pub peer: Peer,
    /// The protocol: `http`, `frame` or `raw`.
    pub protocol: &'a str,
    /// The HTTP method, `RECEIVE` or `STREAM`.
    pub method: &'a str,
    /// The target, escaped to printable ASCII without quotes.
    pub path: &'a str,
    /// The HTTP status; 0 for other protocols.
    pub status: u16,
    /// Payload bytes that were received.
    pub bytes_in: u64,
    /// Payload bytes that were handed to the kernel to be sent.
    pub bytes_out: u64,
    /// When the request had come.
    pub started: Instant,
    /// The engine that moved most of the payload, or `none`.
    pub engine: &'a str,
    /// The outcome of the transfer.
    pub outcome: &'a str,
    /// The reason of the outcome, `-` where all is well; escaped as the path is, and so are the next three.
    pub reason: &'a str,
    /// The `Range` field, `-` where there was none.
    pub range: &'a str,
    /// The `User-Agent` field, `-` where there was none.
    pub agent: &'a str,
    /// The id of the request, made here or sent by the client.
    pub id: &'a str,
}

/// The access log of one worker.
pub struct AccessLog {
    queue: LogQueue,
    /// The time of the first line in the buffer, by which the writer sorts the other lines between.
    oldest: Oldest,
    format: LogFormat,
    buffer: RefCell<String>,
    lines: Cell<u64>,
    /// The wall clock, read only from time to time: a line needs the monotonic clock anyway.
    wall_clock: Cell<(Instant, SystemTime)>,
    /// The second that `second_text` spells, since 1970.
    second: Cell<u64>,
    second_text: RefCell<String>,
}

impl AccessLog {
    /// Makes a log that writes to `queue`.
    pub fn new(queue: LogQueue, format: LogFormat) -> AccessLog {
        AccessLog {
            oldest: queue.add_buffer(),
            queue,
            format,
            buffer: RefCell::default(),
            lines: Cell::new(0),
            wall_clock: Cell::new((Instant::now(), SystemTime::now())),
            second: Cell::new(u64::MAX),
            second_text: RefCell::default(),
        }
    }

    /// Writes a line about a transfer that ends now.
    pub fn write(&self, line: &AccessLine<'_>) {
        if self.queue.is_nowhere() {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        match self.format {
            LogFormat::Text => self.push_line::<Text>(&mut buffer, line),
            LogFormat::Json => self.push_line::<Json>(&mut buffer, line),
        }
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= BUFFER_BYTES {
            drop(buffer);
            self.flush();
        }
    }

    /// Hands over the lines in the buffer.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            // An idle worker keeps no buffer: the next one begins with the next line.
            self.queue.send_batch(std::mem::take(&mut *buffer).into_bytes(), self.lines.take());
            self.oldest.ended();
        }
    }

    fn push_line<F: Form>(&self, out: &mut String, line: &AccessLine<'_>) {
        if out.capacity() == 0 {
            out.reserve(BUFFER_BYTES + LINE_BYTES);
        }
        let now = Instant::now();
        let is_first = out.is_empty();
        out.push_str(F::TIME);
        self.push_time(out, now, is_first);
        out.push_str(F::PEER);
        push_peer(out, line.peer);
        out.push_str(F::PROTOCOL);
        out.push_str(line.protocol);
        out.push_str(F::METHOD);
        out.push_str(line.method);
        out.push_str(F::PATH);
        push_escaped(out, line.path);
        out.push_str(F::STATUS);
        push_number(out, u64::from(line.status));
        out.push_str(F::BYTES_IN);
        push_number(out, line.bytes_in);
        out.push_str(F::BYTES_OUT);
        push_number(out, line.bytes_out);
        out.push_str(F::DURATION);
        let duration = now.saturating_duration_since(line.started);
        push_number(out, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        out.push_str(F::ENGINE);
        out.push_str(line.engine);
        out.push_str(F::OUTCOME);
        out.push_str(line.outcome);
        out.push_str(F::REASON);
        push_escaped(out, line.reason);
        out.push_str(F::RANGE);
        push_escaped(out, line.range);
        out.push_str(F::AGENT);
        push_escaped(out, line.agent);
        out.push_str(F::ID);
        out.push_str(line.id);
        out.push_str(F::END);
    }

    /// Writes the time in RFC 3339, with microseconds; the rest of it is formatted once a second.
    fn push_time(&self, out: &mut String, now: Instant, is_first: bool) {
        let now = self.wall_time(now);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if is_first {
            self.oldest.began(since);
        }
        let mut text = self.second_text.borrow_mut();
        if self.second.replace(since.as_secs()) != since.as_secs() {
            *text = humantime::format_rfc3339_seconds(now).to_string();
            text.truncate(SECOND_BYTES);
        }
        out.push_str(&text);
        // The leading 1 keeps the zeros of the fraction, and is left out.
        let mut digits = itoa::Buffer::new();
        out.push('.');
        out.push_str(&digits.format(1_000_000 + since.subsec_micros())[1..]);
        out.push('Z');
    }

    fn wall_time(&self, now: Instant) -> SystemTime {
        let (read_at, read) = self.wall_clock.get();
        let age = now.saturating_duration_since(read_at);
        if age < WALL_CLOCK_AGE_MAX {
            return read + age;
        }
        let read = SystemTime::now();
        self.wall_clock.set((now, read));
        read
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The texts before each value and at the end. Their lengths are known at compile time, so that they are stored
/// instead of copied by a call.
trait Form {
    const TIME: &'static str;
    const PEER: &'static str;
    const PROTOCOL: &'static str;
    const METHOD: &'static str;
    const PATH: &'static str;
    const STATUS: &'static str;
    const BYTES_IN: &'static str;
    const BYTES_OUT: &'static str;
    const DURATION: &'static str;
    const ENGINE: &'static str;
    const OUTCOME: &'static str;
    const REASON: &'static str;
    const RANGE: &'static str;
    const AGENT: &'static str;
    const ID: &'static str;
    const END: &'static str;
}

enum Text {}

impl Form for Text {
    const TIME: &'static str = "";
    const PEER: &'static str = "  INFO transfer peer=";
    const PROTOCOL: &'static str = " protocol=\"";
    const METHOD: &'static str = "\" method=\"";
    const PATH: &'static str = "\" path=\"";
    const STATUS: &'static str = "\" status=";
    const BYTES_IN: &'static str = " bytes_in=";
    const BYTES_OUT: &'static str = " bytes_out=";
    const DURATION: &'static str = " duration_us=";
    const ENGINE: &'static str = " engine=\"";
    const OUTCOME: &'static str = "\" outcome=\"";
    const REASON: &'static str = "\" reason=\"";
    const RANGE: &'static str = "\" range=\"";
    const AGENT: &'static str = "\" agent=\"";
    const ID: &'static str = "\" id=\"";
    const END: &'static str = "\"\n";
}

enum Json {}

impl Form for Json {
    const TIME: &'static str = "{\"timestamp\":\"";
    const PEER: &'static str = "\",\"level\":\"INFO\",\"message\":\"transfer\",\"peer\":\"";
    const PROTOCOL: &'static str = "\",\"protocol\":\"";
    const METHOD: &'static str = "\",\"method\":\"";
    const PATH: &'static str = "\",\"path\":\"";
    const STATUS: &'static str = "\",\"status\":";
    const BYTES_IN: &'static str = ",\"bytes_in\":";
    const BYTES_OUT: &'static str = ",\"bytes_out\":";
    const DURATION: &'static str = ",\"duration_us\":";
    const ENGINE: &'static str = ",\"engine\":\"";
    const OUTCOME: &'static str = "\",\"outcome\":\"";
    const REASON: &'static str = "\",\"reason\":\"";
    const RANGE: &'static str = "\",\"range\":\"";
    const AGENT: &'static str = "\",\"agent\":\"";
    const ID: &'static str = "\",\"id\":\"";
    const END: &'static str = "\"}\n";
}

fn push_number(out: &mut String, value: u64) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Writes printable ASCII without quotes; in both formats a backslash is doubled.
fn push_escaped(out: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        out.push_str("\\\\");
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

fn push_peer(out: &mut String, peer: Peer) {
    let Peer::Inet(SocketAddr::V4(peer)) = peer else {
        // Writing to a String can't fail.
        let _ = write!(out, "{peer}");
        return;
    };
    let mut digits = itoa::Buffer::new();
    for (number, octet) in peer.ip().octets().into_iter().enumerate() {
        out.push_str(if number > 0 { "." } else { "" });
        out.push_str(digits.format(octet));
    }
    out.push(':');
    out.push_str(digits.format(peer.port()));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant, SystemTime};

    use super::{AccessLine, AccessLog, BUFFER_BYTES, WALL_CLOCK_AGE_MAX};
    use crate::config::LogFormat;
    use crate::telemetry::log_queue::LogQueue;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, peer: &str, count: usize) -> String {
        let output = Output::default();
        let queue = LogQueue::start(output.clone(), |_| {}).unwrap();
        let log = AccessLog::new(queue.clone(), format);
        for _ in 0..count {
            log.write(&AccessLine {
                peer: peer.parse::<SocketAddr>().unwrap().into(),
                protocol: "http",
                method: "GET",
                path: "/a\\x0ab",
                status: 206,
                bytes_in: 0,
                bytes_out: u64::MAX,
                started: Instant::now().checked_sub(Duration::from_secs(17)).unwrap(),
                engine: "copy",
                outcome: "complete",
                reason: "-",
                range: "bytes=0-",
                agent: "curl/8 (\\x22)",
                id: "c0ffee",
            });
        }
        drop(log);
        queue.flush();
        String::from_utf8(output.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_text_line_reads_as_the_others_do() {
        let line = written(LogFormat::Text, "127.0.0.1:80", 1);
        let (time, rest) = line.split_at("2026-11-24T18:37:22.123456Z".len());
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        let (before, after) = rest.split_once(" duration_us=17").unwrap();
        let expected = "  INFO transfer peer=127.0.0.1:80 protocol=\"http\" method=\"GET\" path=\"/a\\\\x0ab\" \
                        status=206 bytes_in=0 bytes_out=18446744073709551615";
        assert_eq!(before, expected);
        let (below_a_second, after) = after.split_at(6);
        assert!(below_a_second.parse::<u32>().is_ok(), "{below_a_second}");
        let expected = " engine=\"copy\" outcome=\"complete\" reason=\"-\" range=\"bytes=0-\" \
                        agent=\"curl/8 (\\\\x22)\" id=\"c0ffee\"\n";
        assert_eq!(after, expected);
    }

    #[test]
    fn a_json_line_is_json() {
        let line = written(LogFormat::Json, "[::1]:80", 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["peer"], "[::1]:80");
        assert_eq!(value["path"], "/a\\x0ab");
        assert_eq!((&value["bytes_in"], &value["bytes_out"]), (&0.into(), &u64::MAX.into()));
        assert_eq!((&value["reason"], &value["range"]), (&"-".into(), &"bytes=0-".into()));
        assert_eq!((&value["agent"], &value["id"]), (&"curl/8 (\\x22)".into(), &"c0ffee".into()));
        assert_eq!((&value["level"], &value["message"]), (&"INFO".into(), &"transfer".into()));
        assert!(humantime::parse_rfc3339(value["timestamp"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn lines_tell_the_time_of_the_wall_clock_whenever_it_was_read() {
        let log = AccessLog::new(LogQueue::nowhere(), LogFormat::Text);
        let now = Instant::now();
        for later in [Duration::ZERO, WALL_CLOCK_AGE_MAX / 2, WALL_CLOCK_AGE_MAX * 2] {
            let told = log.wall_time(now + later);
            let expected =
                if later < WALL_CLOCK_AGE_MAX { SystemTime::now() + later } else { SystemTime::now() };
            let apart = told.duration_since(expected).unwrap_or_else(|error| error.duration());
            assert!(apart < Duration::from_secs(1), "{later:?}: {apart:?} apart");
        }
    }

    #[test]
    fn many_lines_are_handed_over_before_the_end() {
        let count = 3 * BUFFER_BYTES / 100;
        assert_eq!(written(LogFormat::Text, "127.0.0.1:80", count).lines().count(), count);
    }
}
