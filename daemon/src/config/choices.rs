//! The settings whose value is one of some names, with the meaning of each name.

/// The engine that moves a transfer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// Decided per window from its length and from whether it is hot.
    Auto,
    /// Non-blocking sendfile(2).
    Sendfile,
    /// splice(2) through a pipe.
    Splice,
    /// Read into a buffer, then send it.
    Copy,
}

/// The driver of a worker's event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DriverChoice {
    /// io_uring where the kernel grants it, else epoll, and says so.
    Auto,
    /// io_uring or nothing: start-up fails where it is refused.
    Uring,
    /// epoll.
    Epoll,
}

/// Whether the daemon gives up its rights at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SandboxChoice {
    /// Whatever the kernel can take away, and says what it can't.
    Auto,
    /// Everything or nothing: start-up fails where Landlock or the dropping of capabilities isn't to be had.
    Required,
    /// Nothing.
    Off,
}

/// The basis of a file's entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EtagChoice {
    /// Size, modification time, inode and change time: strong once it is 2 s old, and another on each host.
    Node,
    /// The content, of which a digest is made in the background: strong and the same everywhere once that is there.
    Digest,
    /// Size and modification time in seconds: always weak, and the same where both are.
    Times,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SymlinkChoice {
    /// None: what a link leads to is 404.
    None,
    /// Those that lead to what lies below the root, absolute ones too.
    Beneath,
    /// Those besides that lead into symlink_targets.
    Anywhere,
}

impl SymlinkChoice {
    /// Returns the name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            SymlinkChoice::None => "none",
            SymlinkChoice::Beneath => "beneath",
            SymlinkChoice::Anywhere => "anywhere",
        }
    }
}

/// A coding of which files have siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CodingChoice {
    /// Zstandard (RFC 8878), in `.zst`.
    Zst,
    /// Brotli (RFC 7932), in `.br`.
    Br,
    /// gzip (RFC 1952), in `.gz`.
    Gz,
}

impl CodingChoice {
    /// Reads the end of a sibling's name.
    pub fn of_suffix(suffix: &str) -> Option<CodingChoice> {
        <CodingChoice as clap::ValueEnum>::from_str(suffix, false).ok()
    }

    /// The end of a sibling's name.
    pub fn suffix(self) -> &'static str {
        match self {
            CodingChoice::Zst => ".zst",
            CodingChoice::Br => ".br",
            CodingChoice::Gz => ".gz",
        }
    }

    /// The coding as HTTP names it.
    pub fn token(self) -> &'static str {
        match self {
            CodingChoice::Zst => "zstd",
            CodingChoice::Br => "br",
            CodingChoice::Gz => "gzip",
        }
    }

    /// Says what is wrong with one.
    pub(super) fn check(suffix: &str) -> Result<(), String> {
        let known = CodingChoice::of_suffix(suffix).map(|_| ());
        known.ok_or_else(|| format!("{suffix:?} is no coding that is known: expected zst, br or gz"))
    }
}

/// The sink of incoming frames' payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SinkChoice {
    /// Counted and dropped inside the kernel.
    Discard,
    /// Written to the spool directory; acknowledged once it is durable.
    Store,
}

/// Whether connections to the data port begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProxyProtocolChoice {
    /// None does: what begins with one is refused.
    Off,
    /// Those of trusted proxies may.
    Optional,
    /// Those of trusted proxies must, and nobody else connects.
    Required,
}

/// What is served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlaneChoice {
    /// Files and frames.
    Data,
    /// Health, streams and metrics.
    Control,
}

impl PlaneChoice {
    /// The name of the plane.
    pub fn name(self) -> &'static str {
        match self {
            PlaneChoice::Data => "data",
            PlaneChoice::Control => "control",
        }
    }
}

/// The durability of an upload that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// On disk, with its name.
    Fsync,
    /// In the page cache: a host that loses power within the next half minute loses it too.
    None,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text for people.
    Text,
    /// One JSON object a line for machines.
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may soon need a person.
    Warn,
    /// Changes of state, and the access lines.
    Info,
    /// What each connection does.
    Debug,
    /// Everything.
    Trace,
}
