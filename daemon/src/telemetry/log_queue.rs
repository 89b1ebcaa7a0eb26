//! The queue of log lines on their way to standard error, bounded in bytes, and the thread that writes them. A
//! reader that stalls costs lines, never a worker.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::labels::{Label, LogLoss};
use super::log_order::{LineBuffers, Lines, Oldest};

/// The most bytes that wait for their reader; further lines are dropped. They are a second or so of the access
/// rate of one core.
const BYTES_WAITING_MAX: usize = 16 << 20;

/// The bytes that one write combines where many wait.
const WRITE_BYTES: usize = 64 << 10;

/// The interval at which held lines are looked at: workers hand theirs over every 100 ms.
const HELD_LOOK: Duration = Duration::from_millis(50);

/// The longest wait for the reader to take the rest when the process ends.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// The longest time that a pipe or socket which doesn't wait itself may stay full before lines are lost. Lines
/// that come meanwhile wait in the queue.
const FULL_TIME_MAX: Duration = Duration::from_secs(1);

enum Message {
    /// One line.
    Line(Vec<u8>),
    /// Whole lines of a worker, in their order.
    Batch(Vec<u8>),
    /// A request that is answered when all lines before it are written.
    Flush(mpsc::Sender<()>),
}

/// A queue that takes lines and never waits. Clones share it.
#[derive(Clone, Default)]
pub struct LogQueue(Option<Arc<Queue>>);

struct Queue {
    messages: mpsc::Sender<Message>,
    bytes_waiting: Arc<AtomicUsize>,
    losses: Arc<Losses>,
    buffers: LineBuffers,
}

/// The counts of lost lines, by reason.
#[derive(Default)]
struct Losses([AtomicU64; LogLoss::ALL.len()]);

impl Losses {
    fn add(&self, loss: LogLoss, lines: u64) {
        self.0[loss.index()].fetch_add(lines, Ordering::Relaxed);
    }

    fn get(&self, loss: LogLoss) -> u64 {
        self.0[loss.index()].load(Ordering::Relaxed)
    }
}

impl LogQueue {
    /// Starts the thread that writes to `output`. Where that is full and doesn't wait itself, `wait` waits until
    /// it can take more, for the given time at most.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        wait: impl Fn(Duration) + Send + 'static,
    ) -> io::Result<LogQueue> {
        let (messages, receiver) = mpsc::channel();
        let bytes_waiting = Arc::new(AtomicUsize::new(0));
        let buffers = LineBuffers::default();
        let losses = Arc::<Losses>::default();
        let writer = Writer {
            bytes_waiting: Arc::clone(&bytes_waiting),
            buffers: buffers.clone(),
            lines: Lines::default(),
        };
        let output = Output { output, wait, losses: Arc::clone(&losses), is_within_line: false, lost: None };
        std::thread::Builder::new()
            .name("streamd-log".to_owned())
            .spawn(move || writer.write_all(&receiver, output))?;
        Ok(LogQueue(Some(Arc::new(Queue { messages, bytes_waiting, losses, buffers }))))
    }

    /// Makes a queue whose lines go nowhere.
    pub fn nowhere() -> LogQueue {
        LogQueue(None)
    }

    /// Whether lines go nowhere, so that they needn't be written.
    pub(super) fn is_nowhere(&self) -> bool {
        self.0.is_none()
    }

    /// Adds the entry of one more buffer of lines.
    pub(super) fn add_buffer(&self) -> Oldest {
        self.0.as_ref().map(|queue| queue.buffers.clone()).unwrap_or_default().add()
    }

    /// Hands over `lines` whole lines that are in the order of their times.
    pub(super) fn send_batch(&self, text: Vec<u8>, lines: u64) {
        let bytes = text.len();
        self.send(Message::Batch(text), bytes, lines);
    }

    fn send(&self, message: Message, bytes: usize, lines: u64) {
        let Some(queue) = &self.0 else { return };
        let waiting = queue.bytes_waiting.fetch_add(bytes, Ordering::Relaxed);
        let has_room = waiting + bytes <= BYTES_WAITING_MAX;
        if !has_room || queue.messages.send(message).is_err() {
            queue.bytes_waiting.fetch_sub(bytes, Ordering::Relaxed);
            queue.losses.add(LogLoss::SlowReader, lines);
        }
    }

    /// Returns how many lines were lost for this reason.
    pub(super) fn lines_dropped(&self, loss: LogLoss) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.losses.get(loss))
    }

    /// Waits until all lines that were handed over are written, for [`FLUSH_TIME_MAX`] at most.
    pub(super) fn flush(&self) {
        let Some(queue) = &self.0 else { return };
        let (done, written) = mpsc::channel();
        if queue.messages.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIME_MAX);
        }
    }
}

/// The writing thread, which writes the waiting lines in one go, in the order of their times.
struct Writer {
    bytes_waiting: Arc<AtomicUsize>,
    buffers: LineBuffers,
    lines: Lines,
}

impl Writer {
    fn write_all(
        mut self,
        messages: &mpsc::Receiver<Message>,
        mut output: Output<impl Write, impl Fn(Duration)>,
    ) {
        loop {
            let first = if self.lines.bytes() == 0 {
                messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                messages.recv_timeout(HELD_LOOK)
            };
            let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
            let flushed = self.gather(messages, first.ok());
            let is_last = is_over || flushed.is_some();
            let text = self.lines.take((!is_last).then_some(&self.buffers));
            output.write(&text);
            self.bytes_waiting.fetch_sub(text.len(), Ordering::Relaxed);
            if let Some(done) = flushed {
                let _ = done.send(());
            }
            if is_over {
                return;
            }
        }
    }

    /// Collects the waiting lines. Ends early at a flush, whose sender waits for all lines before it.
    fn gather(
        &mut self,
        messages: &mpsc::Receiver<Message>,
        first: Option<Message>,
    ) -> Option<mpsc::Sender<()>> {
        let (mut next, mut bytes) = (first, 0);
        while let Some(message) = next {
            match message {
                Message::Line(line) => bytes += self.lines.add(&line, false),
                Message::Batch(lines) => bytes += self.lines.add(&lines, true),
                Message::Flush(done) => return Some(done),
            }
            next = if bytes < WRITE_BYTES { messages.try_recv().ok() } else { None };
        }
        None
    }
}

/// The output of the lines. Lines that it doesn't take are lost and counted, and told with the first line that it
/// takes again.
struct Output<W, F> {
    output: W,
    wait: F,
    losses: Arc<Losses>,
    /// Whether the output ends with the beginning of a line whose rest was lost.
    is_within_line: bool,
    /// The losses since the output last took a line: how many lines, and the latest error.
    lost: Option<(u64, io::Error)>,
}

impl<W: Write, F: Fn(Duration)> Output<W, F> {
    fn write(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let ended =
            if self.is_within_line { self.write_part(b"\n").map_err(|(_, error)| error) } else { Ok(()) };
        let result = match ended {
            Ok(()) => self.write_part(text),
            Err(error) => Err((0, error)),
        };
        let Err((written, error)) = result else {
            self.is_within_line = false;
            self.tell_what_was_lost();
            return;
        };
        if written > 0 {
            self.is_within_line = text[written - 1] != b'\n';
        }
        let lines = memchr::memchr_iter(b'\n', &text[written..]).count() as u64;
        self.losses.add(loss_of(&error), lines);
        let before = self.lost.take().map_or(0, |(lines, _)| lines);
        self.lost = Some((before + lines, error));
    }

    /// Writes the whole text; the error tells how much was written and why not the rest.
    fn write_part(&mut self, text: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        let mut end = Instant::now() + FULL_TIME_MAX;
        while written < text.len() {
            match self.output.write(&text[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    end = Instant::now() + FULL_TIME_MAX;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                    (self.wait)(end.saturating_duration_since(Instant::now()));
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Logs the losses, by a line in the queue as any other.
    fn tell_what_was_lost(&mut self) {
        if let Some((lines, error)) = self.lost.take() {
            tracing::warn!(lines, %error, "log lines were lost");
        }
    }
}

fn loss_of(error: &io::Error) -> LogLoss {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::WouldBlock => LogLoss::SlowReader,
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => LogLoss::NoRoom,
        // These errors come from a socket, which standard error of a service is: journald has ended.
        Kind::BrokenPipe | Kind::ConnectionReset | Kind::NotConnected | Kind::ConnectionRefused => {
            LogLoss::ReaderGone
        }
        _ => LogLoss::Failed,
    }
}

/// Takes one line of tracing's, which it writes in one call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(Message::Line(line.to_vec()), line.len(), 1);
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
    use std::collections::VecDeque;
    use std::io::{self, ErrorKind, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{BYTES_WAITING_MAX, Label, LogLoss, LogQueue};

    /// An output that blocks while the test holds the lock, as a pipe does whose reader stalls.
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
        let queue = LogQueue::start(pipe.clone(), |_| {}).unwrap();
        let expected: String = (0..10_000).map(|number| format!("line {number:06}\n")).collect();
        for line in expected.split_inclusive('\n') {
            queue.send_batch(line.as_bytes().to_vec(), 1);
        }
        queue.flush();
        assert_eq!(String::from_utf8(pipe.0.lock().unwrap().clone()).unwrap(), expected);
        assert_eq!(dropped(&queue), [0; 4]);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_which_are_counted() {
        let pipe = Pipe::default();
        let stalled = pipe.0.lock().unwrap();
        let queue = LogQueue::start(pipe.clone(), |_| {}).unwrap();
        let mut lines = vec![b'x'; (1 << 20) - 1];
        lines.push(b'\n');
        let sent = 2 * BYTES_WAITING_MAX / lines.len();
        for _ in 0..sent {
            queue.send_batch(lines.clone(), 1000);
        }
        let lost = queue.lines_dropped(LogLoss::SlowReader);
        assert_eq!(lost, (sent as u64 - (BYTES_WAITING_MAX / lines.len()) as u64) * 1000);
        drop(stalled);
        queue.flush();
        queue.send_batch(lines, 1);
        assert_eq!(dropped(&queue), [lost, 0, 0, 0]);
    }

    fn dropped(queue: &LogQueue) -> [u64; LogLoss::ALL.len()] {
        [0, 1, 2, 3].map(|index| queue.lines_dropped(LogLoss::ALL[index]))
    }

    /// An output that answers each write in turn with an error, or takes so many bytes; all of them once there are
    /// no more answers.
    #[derive(Clone, Default)]
    struct Scripted {
        answers: Arc<Mutex<VecDeque<Result<usize, ErrorKind>>>>,
        taken: Pipe,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = match self.answers.lock().unwrap().pop_front() {
                Some(Err(kind)) => return Err(kind.into()),
                Some(Ok(count)) => count.min(bytes.len()),
                None => bytes.len(),
            };
            self.taken.write(&bytes[..taken])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_not_taken_is_counted_by_why_and_the_next_line_begins_a_line() {
        for (kind, expected) in [
            (ErrorKind::StorageFull, LogLoss::NoRoom),
            (ErrorKind::FileTooLarge, LogLoss::NoRoom),
            (ErrorKind::BrokenPipe, LogLoss::ReaderGone),
            (ErrorKind::ConnectionReset, LogLoss::ReaderGone),
            (ErrorKind::Other, LogLoss::Failed),
        ] {
            let output = Scripted::default();
            output.answers.lock().unwrap().extend([Err(ErrorKind::Interrupted), Ok(8), Err(kind)]);
            let queue = LogQueue::start(output.clone(), |_| {}).unwrap();
            queue.send_batch(b"first\nsecond\nthird\n".to_vec(), 3);
            queue.flush();
            queue.send_batch(b"fourth\n".to_vec(), 1);
            queue.flush();
            let taken = String::from_utf8(output.taken.0.lock().unwrap().clone()).unwrap();
            assert_eq!(taken, "first\nse\nfourth\n", "{kind}");
            let losses = LogLoss::ALL.iter().map(|loss| if *loss == expected { 2 } else { 0 });
            assert_eq!(dropped(&queue).to_vec(), losses.collect::<Vec<u64>>(), "{kind}");
        }
    }

    #[test]
    fn a_pipe_that_does_not_wait_is_waited_for() {
        let output = Scripted::default();
        output.answers.lock().unwrap().extend([
            Ok(3),
            Err(ErrorKind::WouldBlock),
            Ok(2),
            Err(ErrorKind::WouldBlock),
        ]);
        let waits = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&waits);
        let wait = move |most: Duration| {
            assert!(most <= super::FULL_TIME_MAX);
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let queue = LogQueue::start(output.clone(), wait).unwrap();
        queue.send_batch(b"a line\n".to_vec(), 1);
        queue.flush();
        assert_eq!(output.taken.0.lock().unwrap().as_slice(), b"a line\n");
        assert_eq!((dropped(&queue), waits.load(Ordering::Relaxed)), ([0; 4], 2));
    }

    #[test]
    fn a_pipe_that_stays_full_costs_lines_in_the_end() {
        #[derive(Clone)]
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::WouldBlock.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LogQueue::start(Full, std::thread::park_timeout).unwrap();
        queue.send_batch(b"one\ntwo\n".to_vec(), 2);
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while dropped(&queue) != [2, 0, 0, 0] {
            assert!(std::time::Instant::now() < end, "{:?}", dropped(&queue));
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
