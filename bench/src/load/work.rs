//! A load: its size, its pace, and the work of its connections.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};

/// The most connections of one load; beyond, one client host runs out of ports and memory before the server does.
pub const CONNECTIONS_MAX: usize = 100_000;
/// The most client threads.
pub const THREADS_MAX: usize = 64;
/// The most connections from one source address to one port: the ephemeral range has 28,232 ports by default
/// (net.ipv4.ip_local_port_range), less those in TIME_WAIT.
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 20_000;

/// The use that is made of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientMode {
    /// Dropped inside the kernel: the client costs next to nothing.
    Discard,
    /// Copied into fixed buffers, as a real client does.
    Read,
}

/// The rule by which requests begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection begins the next request when the last has ended, which measures capacity.
    Closed,
    /// A fixed number of requests begins each second, whatever the answers do, which measures latency.
    Open {
        /// Requests a second over all connections.
        rate_per_s: f64,
    },
}

/// The payload that an answer counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The body, which must be this long.
    Body {
        /// The bytes of the body.
        bytes: u64,
    },
    /// A short body that stands for a stream of this length, and must say that it was sent.
    Stream {
        /// The bytes of the stream.
        bytes: u64,
    },
}

/// A request for a file that isn't in memory.
#[derive(Clone, Debug)]
pub struct ColdPull {
    /// The whole request head.
    pub head: Vec<u8>,
    /// The payload that the answer counts for.
    pub answer: Answer,
    /// The file, where it lies on this host and can be pushed out of the page cache.
    pub file: Option<PathBuf>,
}

/// Bodies that are uploaded, each connection's to a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The beginning of the names: `/put/file` becomes `/put/file-0` and so on, by the connections' numbers.
    pub path: String,
    /// The bytes of each body.
    pub bytes: u64,
    /// The side that makes the bytes.
    pub source: Source,
    /// The part of the uploads that the clock counts.
    pub counted: Counted,
}

/// The side that makes the bytes of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client sends them, with PUT.
    Client,
    /// The server makes them itself when it is asked to, as the ceiling does to show the speed of the disk.
    Server,
}

/// The part of uploads that the clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Whole uploads: none is under way when the clock starts, and it stops when the last that has begun is
    /// answered. They include the work of a server at an upload's end, as the sync and the removal of the file
    /// that had the name before.
    Whole,
    /// Bytes as they are sent, beside something else that is measured.
    Bytes,
}

impl Upload {
    /// Returns the path of connection `number`.
    pub fn path_of(&self, number: usize) -> String {
        format!("{}-{number}", self.path)
    }

    /// Returns the head of its requests.
    pub fn head(&self, address: SocketAddr, number: usize) -> Vec<u8> {
        let (path, bytes) = (self.path_of(number), self.bytes);
        match self.source {
            Source::Client => {
                format!("PUT {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {bytes}\r\n\r\n")
            }
            Source::Server => {
                format!("POST {path}?bytes={bytes} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n")
            }
        }
        .into_bytes()
    }
}

/// The work of each connection.
#[derive(Clone, Debug)]
pub enum ConnectionWork {
    /// HTTP requests; where there are several kinds they are used in turn.
    Requests {
        /// The whole request heads, with the payload that each answer counts for.
        requests: Arc<[(Vec<u8>, Answer)]>,
        /// Whether a connection carries more than one request.
        keep_alive: bool,
    },
    /// HTTP requests for files on a slow device. A file that can be pushed out of the page cache is asked for by one
    /// connection alone, again and again, and pushed out after each answer; others are used in turn.
    Cold {
        /// The files that are asked for.
        pulls: Arc<[ColdPull]>,
    },
    /// Frames of this many bytes.
    Frames {
        /// The bytes of each payload.
        bytes: u64,
    },
    /// Uploads, each to its connection's name.
    Upload(Upload),
    /// One request whose answer is read at this speed; with 0 the connection stays idle after a first answer.
    Slow {
        /// The request head, with the payload that its answer counts for.
        request: (Vec<u8>, Answer),
        /// The bytes read in a second.
        bytes_per_s: u64,
    },
}

/// A load on one server.
#[derive(Clone, Debug)]
pub struct Load {
    /// The address of the server.
    pub address: SocketAddr,
    /// The work of each connection.
    pub work: ConnectionWork,
    /// The connections at once, over all threads.
    pub connections: usize,
    /// The number of client threads.
    pub threads: usize,
    /// The cores of the client, which threads take in turn. If empty, the kernel places the threads.
    pub cores: Vec<usize>,
    /// The use that is made of bodies.
    pub mode: ClientMode,
    /// The rule by which requests begin.
    pub pace: Pace,
    /// The source addresses, used in turn; if empty, the kernel chooses.
    pub sources: Vec<IpAddr>,
}

impl Load {
    /// Refuses loads that can't work.
    pub fn check(&self) -> Result<()> {
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            bail!("{} connections are outside 1 to {CONNECTIONS_MAX}", self.connections);
        }
        if self.threads == 0 || self.threads > THREADS_MAX || self.threads > self.connections {
            bail!(
                "{} threads for {} connections: at least one connection each, at most {THREADS_MAX}",
                self.threads,
                self.connections
            );
        }
        let addresses = self.sources.len().max(1);
        if self.connections > addresses * CONNECTIONS_PER_ADDRESS_MAX {
            bail!(
                "{} connections from {addresses} addresses: at most {CONNECTIONS_PER_ADDRESS_MAX} each",
                self.connections
            );
        }
        check_open_files(self.connections)
    }
}

/// The descriptors that the bench needs besides its connections.
const DESCRIPTORS_OWN: u64 = 128;

/// Raises the limit of open files as far as allowed, and refuses where that is too little.
fn check_open_files(connections: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // This is refused where the hard limit is above fs.nr_open; the limit in force decides.
    let _ = setrlimit(Resource::Nofile, raised);
    let wanted = connections as u64 + DESCRIPTORS_OWN;
    match getrlimit(Resource::Nofile).current {
        Some(current) if current < wanted => {
            bail!(
                "{connections} connections need {wanted} open files, and the limit is {current}: raise it with \
                 ulimit -n {wanted}"
            )
        }
        _ => Ok(()),
    }
}
