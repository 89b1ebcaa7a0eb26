//! Access lines: the same text as the other lines', written by the worker itself into a buffer that is handed over
//! when it is full and once a tick. Through tracing, one event and one write each, a line costs 1.7 µs.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::log_queue::LogQueue;
use crate::config::LogFormat;

/// Bytes of lines after which they are handed over: some two hundred.
const BUFFER_BYTES: usize = 32 << 10;

/// Length of `2026-11-24T18:37:22`.
const SECOND_BYTES: usize = 19;

/// What a line says.
pub struct AccessLine<'a> {
    /// The other end.
    pub peer: SocketAddr,
    /// `http`, `frame`, `raw`.
    pub protocol: &'a str,
    /// The HTTP method, `RECEIVE` or `STREAM`.
    pub method: &'a str,
    /// The target, escaped to printable ASCII without quotes.
    pub path: &'a str,
    /// The HTTP status, 0 where there is none.
    pub status: u16,
    /// Payload bytes.
    pub bytes: u64,
    /// Time from the request to the end of its answer.
    pub duration: Duration,
    /// The engine that moved most of the payload, or `none`.
    pub engine: &'a str,
    /// How it ended.
    pub outcome: &'a str,
}

/// The lines of one worker.
pub struct AccessLog {
    queue: LogQueue,
    format: LogFormat,
    buffer: RefCell<String>,
    lines: Cell<u64>,
    /// The second that `second_text` spells, since 1970.
    second: Cell<u64>,
    second_text: RefCell<String>,
}

impl AccessLog {
    /// Lines for `queue`.
    pub fn new(queue: LogQueue, format: LogFormat) -> AccessLog {
        AccessLog {
            queue,
            format,
            buffer: RefCell::default(),
            lines: Cell::new(0),
            second: Cell::new(u64::MAX),
            second_text: RefCell::default(),
        }
    }

    /// Writes a line.
    pub fn write(&self, line: &AccessLine<'_>) {
        if self.queue.is_nowhere() {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        let (open, close, is_json) = match self.format {
            LogFormat::Text => ("", "\n", false),
            LogFormat::Json => ("{\"timestamp\":\"", "}\n", true),
        };
        buffer.push_str(open);
        self.push_time(&mut buffer);
        buffer.push_str(if is_json {
            "\",\"level\":\"INFO\",\"message\":\"transfer\""
        } else {
            "  INFO transfer"
        });
        Fields { out: &mut buffer, is_json }.push_all(line);
        buffer.push_str(close);
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= BUFFER_BYTES {
            drop(buffer);
            self.flush();
        }
    }

    /// Hands over what has been written.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.queue.send(buffer.as_bytes(), self.lines.take());
            buffer.clear();
        }
    }

    /// The time in RFC 3339, with microseconds; all but those is spelled once a second.
    fn push_time(&self, out: &mut String) {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
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
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// ` name=value` or `,"name":value`.
struct Fields<'o> {
    out: &'o mut String,
    is_json: bool,
}

impl Fields<'_> {
    fn push_all(&mut self, line: &AccessLine<'_>) {
        self.push_peer(line.peer);
        self.push_text("protocol", line.protocol);
        self.push_text("method", line.method);
        self.push_text("path", line.path);
        self.push_number("status", u64::from(line.status));
        self.push_number("bytes", line.bytes);
        self.push_number("duration_us", u64::try_from(line.duration.as_micros()).unwrap_or(u64::MAX));
        self.push_text("engine", line.engine);
        self.push_text("outcome", line.outcome);
    }

    fn push_name(&mut self, name: &str) {
        self.out.push_str(if self.is_json { ",\"" } else { " " });
        self.out.push_str(name);
        self.out.push_str(if self.is_json { "\":" } else { "=" });
    }

    fn push_number(&mut self, name: &str, value: u64) {
        self.push_name(name);
        self.out.push_str(itoa::Buffer::new().format(value));
    }

    /// A value of printable ASCII without quotes; in both formats a backslash is doubled.
    fn push_text(&mut self, name: &str, value: &str) {
        self.push_name(name);
        self.out.push('"');
        for (number, piece) in value.split('\\').enumerate() {
            self.out.push_str(if number > 0 { "\\\\" } else { "" });
            self.out.push_str(piece);
        }
        self.out.push('"');
    }

    fn push_peer(&mut self, peer: SocketAddr) {
        self.push_name("peer");
        let quote = if self.is_json { "\"" } else { "" };
        self.out.push_str(quote);
        match peer {
            SocketAddr::V4(peer) => {
                let mut digits = itoa::Buffer::new();
                for (number, octet) in peer.ip().octets().into_iter().enumerate() {
                    self.out.push_str(if number > 0 { "." } else { "" });
                    self.out.push_str(digits.format(octet));
                }
                self.out.push(':');
                self.out.push_str(digits.format(peer.port()));
            }
            // Writing to a String can't fail.
            SocketAddr::V6(peer) => drop(write!(self.out, "{peer}")),
        }
        self.out.push_str(quote);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{AccessLine, AccessLog, BUFFER_BYTES};
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
        let queue = LogQueue::start(output.clone()).unwrap();
        let log = AccessLog::new(queue.clone(), format);
        for _ in 0..count {
            log.write(&AccessLine {
                peer: peer.parse().unwrap(),
                protocol: "http",
                method: "GET",
                path: "/a\\x0ab",
                status: 200,
                bytes: u64::MAX,
                duration: Duration::from_micros(17),
                engine: "copy",
                outcome: "complete",
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
        let expected = "  INFO transfer peer=127.0.0.1:80 protocol=\"http\" method=\"GET\" path=\"/a\\\\x0ab\" \
                        status=200 bytes=18446744073709551615 duration_us=17 engine=\"copy\" outcome=\"complete\"\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_json_line_is_json() {
        let line = written(LogFormat::Json, "[::1]:80", 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["peer"], "[::1]:80");
        assert_eq!(value["path"], "/a\\x0ab");
        assert_eq!(value["bytes"], u64::MAX);
        assert_eq!((&value["level"], &value["message"]), (&"INFO".into(), &"transfer".into()));
        assert!(humantime::parse_rfc3339(value["timestamp"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn many_lines_are_handed_over_before_the_end() {
        let count = 3 * BUFFER_BYTES / 100;
        assert_eq!(written(LogFormat::Text, "127.0.0.1:80", count).lines().count(), count);
    }
}
