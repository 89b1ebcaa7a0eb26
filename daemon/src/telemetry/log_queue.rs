//! The way of log lines to standard error: a queue bounded in bytes, and a thread of its own that writes. A reader
//! that stalls costs lines, never a worker.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for their reader before more lines are dropped: a second or so at the access rate of one core.
const BYTES_WAITING_MAX: usize = 16 << 20;

/// Bytes that one write brings together where many wait.
const WRITE_BYTES: usize = 64 << 10;

/// Longest wait for the reader to take what is left when the process ends.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

enum Message {
    /// Whole lines.
    Lines(Vec<u8>),
    /// To be answered when all before it is written.
    Flush(mpsc::Sender<()>),
}

/// Takes lines, and never waits. Clones share the queue.
#[derive(Clone, Default)]
pub struct LogQueue(Option<Arc<Queue>>);

struct Queue {
    messages: mpsc::Sender<Message>,
    bytes_waiting: Arc<AtomicUsize>,
    lines_dropped: AtomicU64,
}

impl LogQueue {
    /// Starts the thread that writes to `output`.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<LogQueue> {
        let (messages, receiver) = mpsc::channel();
        let bytes_waiting = Arc::new(AtomicUsize::new(0));
        let queue =
            Queue { messages, bytes_waiting: Arc::clone(&bytes_waiting), lines_dropped: AtomicU64::new(0) };
        let body = move || write_all(&receiver, &bytes_waiting, output);
        std::thread::Builder::new().name("streamd-log".to_owned()).spawn(body)?;
        Ok(LogQueue(Some(Arc::new(queue))))
    }

    /// A queue whose lines go nowhere.
    pub fn nowhere() -> LogQueue {
        LogQueue(None)
    }

    /// Whether lines go nowhere, so that they needn't be written.
    pub(super) fn is_nowhere(&self) -> bool {
        self.0.is_none()
    }

    /// Hands over `lines` whole lines.
    pub(super) fn send(&self, text: Vec<u8>, lines: u64) {
        let Some(queue) = &self.0 else { return };
        let bytes = text.len();
        let waiting = queue.bytes_waiting.fetch_add(bytes, Ordering::Relaxed);
        let has_room = waiting + bytes <= BYTES_WAITING_MAX;
        if !has_room || queue.messages.send(Message::Lines(text)).is_err() {
            queue.bytes_waiting.fetch_sub(bytes, Ordering::Relaxed);
            queue.lines_dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped because their reader was too slow.
    pub(super) fn lines_dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.lines_dropped.load(Ordering::Relaxed))
    }

    /// Waits until all that was handed over is written, for [`FLUSH_TIME_MAX`] at most.
    pub(super) fn flush(&self) {
        let Some(queue) = &self.0 else { return };
        let (done, written) = mpsc::channel();
        if queue.messages.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIME_MAX);
        }
    }
}

/// The thread: what waits goes out in one write. Where nobody reads any more, lines are thrown away.
fn write_all(messages: &mpsc::Receiver<Message>, bytes_waiting: &AtomicUsize, mut output: impl Write) {
    let mut text = Vec::new();
    let mut flushed = None;
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Lines(lines) if text.is_empty() => text = lines,
                Message::Lines(lines) => text.extend_from_slice(&lines),
                Message::Flush(done) => flushed = Some(done),
            }
            let goes_on = flushed.is_none() && text.len() < WRITE_BYTES;
            next = if goes_on { messages.try_recv().ok() } else { None };
        }
        let _ = output.write_all(&text).and_then(|()| output.flush());
        bytes_waiting.fetch_sub(text.len(), Ordering::Relaxed);
        text.clear();
        if let Some(done) = flushed.take() {
            let _ = done.send(());
        }
    }
}

/// One line of tracing's, which it writes in one call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec(), 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogQueue;

    fn make_writer(&'a self) -> LogQueue {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::{BYTES_WAITING_MAX, LogQueue};

    /// Blocks while the test holds the lock, as a pipe does whose reader stalls.
    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order_and_whole() {
        let pipe = Pipe::default();
        let queue = LogQueue::start(pipe.clone()).unwrap();
        let expected: String = (0..10_000).map(|number| format!("line {number}\n")).collect();
        for line in expected.split_inclusive('\n') {
            queue.send(line.as_bytes().to_vec(), 1);
        }
        queue.flush();
        assert_eq!(String::from_utf8(pipe.0.lock().unwrap().clone()).unwrap(), expected);
        assert_eq!(queue.lines_dropped(), 0);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_which_are_counted() {
        let pipe = Pipe::default();
        let stalled = pipe.0.lock().unwrap();
        let queue = LogQueue::start(pipe.clone()).unwrap();
        let lines = vec![b'\n'; 1 << 20];
        let sent = 2 * BYTES_WAITING_MAX / lines.len();
        for _ in 0..sent {
            queue.send(lines.clone(), 1000);
        }
        let dropped = queue.lines_dropped();
        assert_eq!(dropped, (sent as u64 - (BYTES_WAITING_MAX / lines.len()) as u64) * 1000);
        drop(stalled);
        queue.flush();
        queue.send(lines, 1);
        assert_eq!(queue.lines_dropped(), dropped);
    }
}
