//! A control plane under test, and a client that sends and shows bytes as they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::super::{ControlContext, ControlPlane, start};
use crate::config::{Live, Settings, Token};
use crate::job::{JobEnd, Mailboxes, StreamJob};
use crate::limits::AddressShares;
use crate::telemetry::{LogQueue, Telemetry};

/// A time far above what anything here takes, reached only when something never comes.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// The address of the own data plane. Nothing connects to it: the test plays the workers.
pub(super) const DATA_ADDRESS: &str = "127.0.0.1:8080";

/// A control plane with one worker, whose jobs the test takes and answers.
pub(super) struct Plane {
    pub(super) control: ControlPlane,
    address: SocketAddr,
    pub(super) telemetry: Arc<Telemetry>,
    live: watch::Sender<Arc<Live>>,
    jobs: mpsc::Receiver<StreamJob>,
}

impl Plane {
    /// Starts a plane with the default settings and these changes.
    pub(super) fn start(change: impl FnOnce(&mut Settings)) -> Plane {
        let mut settings = Settings::default();
        change(&mut settings);
        let (live, live_read) = watch::channel(Arc::new(Live::new(settings).unwrap()));
        let telemetry = Telemetry::new(1, "epoll", LogQueue::nowhere());
        telemetry.beat(0);
        let (sender, jobs) = mpsc::channel(8);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let context = ControlContext {
            sockets: vec![listener.into()],
            live: live_read,
            telemetry: Arc::clone(&telemetry),
            mailboxes: Mailboxes::new(vec![sender]),
            data_addresses: vec![(0, DATA_ADDRESS.parse().unwrap())],
            shares: AddressShares::default(),
            descriptors_max: None,
        };
        Plane { control: start(context).unwrap(), address, telemetry, live, jobs }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the settings in force, as SIGHUP does.
    pub(super) fn reload(&self, change: impl FnOnce(&mut Live)) {
        let mut live = Live::clone(&self.live.borrow());
        change(&mut live);
        self.live.send_replace(Arc::new(live));
    }

    pub(super) fn set_token(&self, token: &str) {
        self.reload(|live| live.token = Some(Token::new(token.as_bytes()).unwrap()));
    }

    /// Sends `METHOD target` with these header lines on a connection of its own.
    pub(super) fn ask(&self, method_and_target: &str, headers: &str) -> Reply {
        ask(self.address(), method_and_target, headers)
    }

    /// Sends as [`Plane::ask`] does, on a thread of its own.
    pub(super) fn ask_aside(&self, method_and_target: &str) -> JoinHandle<Reply> {
        let (address, method_and_target) = (self.address(), method_and_target.to_owned());
        std::thread::spawn(move || ask(address, &method_and_target, ""))
    }

    /// Returns the next job that reaches the worker.
    pub(super) fn next_job(&mut self) -> StreamJob {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let job = runtime.block_on(async { tokio::time::timeout(DEADLINE, self.jobs.recv()).await });
        job.expect("no job came").expect("the control plane has gone")
    }

    /// Whether no job waits for the worker.
    pub(super) fn has_no_job(&mut self) -> bool {
        self.jobs.try_recv().is_err()
    }

    /// Ends the worker's side of the mailbox, as when the worker goes away.
    pub(super) fn close_mailbox(&mut self) {
        self.jobs.close();
    }

    /// Asks for a stream whose worker sends `bytes_sent` bytes and ends with `end`.
    pub(super) fn stream(&mut self, method_and_target: &str, bytes_sent: u64, end: JobEnd) -> Reply {
        let client = self.ask_aside(method_and_target);
        let job = self.next_job();
        job.progress.add_bytes_sent(bytes_sent);
        job.end.send(end).unwrap();
        client.join().unwrap()
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn parse(text: &str) -> Reply {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// Returns the detail of a problem document whose other fixed members must say what `status` says.
    pub(super) fn problem_detail(&self) -> String {
        let document = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["status"], self.status);
        assert!(!document["title"].as_str().unwrap().is_empty());
        document["detail"].as_str().unwrap().to_owned()
    }
}

fn ask(address: SocketAddr, method_and_target: &str, headers: &str) -> Reply {
    let host = if headers.starts_with("Host: ") { "" } else { "Host: localhost\r\n" };
    let request = format!("{method_and_target} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
    Reply::parse(&exchange(address, &request))
}

/// Sends `request` and reads until the server closes.
pub(super) fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    read_to_close(&mut stream)
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads until the server closes, possibly by a reset.
pub(super) fn read_to_close(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    if let Err(error) = stream.read_to_end(&mut received) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the server did not close in time");
    }
    String::from_utf8(received).unwrap()
}

/// Sends GET /health and reads its answer, keeping the connection.
pub(super) fn ask_health(stream: &mut TcpStream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    while !received.ends_with(b"\r\n\r\nOK") {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the server closed after {:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..count]);
    }
}

/// Returns once `condition` holds.
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
