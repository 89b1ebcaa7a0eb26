//! The closed sets of label values: a value outside them can't be counted, so no peer can make a series.

/// A label with a fixed set of values.
pub trait Label: Copy + 'static {
    /// All values, in the order of their indices.
    const ALL: &'static [Self];
    /// Returns the value as metrics and logs show it.
    fn label(self) -> &'static str;
    /// Returns the index of the value in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$($name::$value,)+];
            fn label(self) -> &'static str {
                match self { $($name::$value => $text,)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// The outcome of a transfer.
    Outcome {
        /// Every byte was handed to the kernel, and for a stream acknowledged by its target.
        Complete => "complete",
        /// The peer closed the connection first.
        PeerClosed => "peer_closed",
        /// The peer made no progress in time.
        TimedOut => "timed_out",
        /// The peer moved less than `progress_bytes_min`.
        TooSlow => "too_slow",
        /// The transfer had to make room for others.
        Evicted => "evicted",
        /// The source could not be read, or got shorter on the way.
        SourceFailed => "source_failed",
        /// The sink could not take the bytes.
        SinkFailed => "sink_failed",
        /// The request was answered with an error.
        Refused => "refused",
        /// The daemon stopped, and `drain_timeout_ms` was over.
        Drained => "drained",
        /// The control client that asked for the stream went away.
        Cancelled => "cancelled",
        /// This host had no local port for a connection to the target of a stream.
        NoLocalPort => "no_local_port",
    }
}

label! {
    /// The engine that moved bytes.
    EngineLabel {
        /// Through a buffer in user space.
        Copy => "copy",
        /// By sendfile(2).
        Sendfile => "sendfile",
        /// By splice(2) through a pipe.
        Splice => "splice",
    }
}

label! {
    /// The outcome of a request that brought an upload, or a part of one.
    UploadOutcome {
        /// The upload has its name.
        Published => "published",
        /// The bytes that arrived are kept, so that the upload can be continued.
        Kept => "kept",
        /// The request asked for something impossible, or its body wasn't what its head said.
        Refused => "refused",
        /// The peer broke off, or the daemon stopped, and nothing is kept.
        BrokenOff => "broken_off",
        /// The disk failed, or the daemon had no room for the upload, and nothing is kept.
        Failed => "failed",
    }
}

label! {
    /// Why a frame got no `done`.
    FrameRefusal {
        /// The size of the frame is below zero.
        Negative => "negative",
        /// The size of the frame is above the limit.
        OverLimit => "over_limit",
        /// The peer closed the connection before the frame's end.
        Truncated => "truncated",
        /// The peer made no progress in time.
        TimedOut => "timed_out",
        /// The peer moved less than `progress_bytes_min`.
        TooSlow => "too_slow",
        /// The frame's connection had to make room for others.
        Evicted => "evicted",
        /// The sink could not take the frame.
        SinkFailed => "sink_failed",
        /// There was no room for the frame; [`SpaceRefusal`] says which.
        NoRoom => "no_room",
        /// The daemon stopped, and `drain_timeout_ms` was over.
        Drained => "drained",
    }
}

label! {
    /// Why a log line was lost.
    LogLoss {
        /// The reader was too slow: too many bytes waited for it already, or a pipe that doesn't wait stayed full.
        SlowReader => "slow_reader",
        /// The disk had no room, or the file may not get longer (RLIMIT_FSIZE).
        NoRoom => "no_room",
        /// Nobody reads any more.
        ReaderGone => "reader_gone",
        /// The write failed for another reason.
        Failed => "failed",
    }
}

label! {
    /// The kind of room that an upload or a frame was refused for.
    SpaceRefusal {
        /// `min_free_bytes` of the file system would no longer be free.
        MinFreeBytes => "min_free_bytes",
        /// `min_free_inodes` of the file system would no longer be free.
        MinFreeInodes => "min_free_inodes",
        /// The file system is full.
        Disk => "disk",
        /// A quota is used up.
        Quota => "quota",
        /// The file system's files can't be so long.
        FileLength => "file_length",
        /// `spool_bytes_max` would be passed.
        SpoolBytes => "spool_bytes_max",
        /// `spool_files_max` would be passed.
        SpoolFiles => "spool_files_max",
        /// `address_spool_bytes_max` would be passed.
        AddressSpoolBytes => "address_spool_bytes_max",
        /// `address_spool_files_max` would be passed.
        AddressSpoolFiles => "address_spool_files_max",
    }
}

label! {
    /// Why a connection was refused for its PROXY header.
    ProxyRefusal {
        /// The header begins like one and is malformed, or the connection ended inside it.
        Malformed => "malformed",
        /// The header is missing, and is required.
        Missing => "missing",
        /// The header was not complete in time.
        TimedOut => "timed_out",
        /// A header is required, and the peer is no trusted proxy.
        Untrusted => "untrusted",
    }
}

label! {
    /// The limit for which something was refused or ended.
    Limit {
        /// Connections that were refused since their address holds `address_connections_max`.
        AddressConnections => "address_connections_max",
        /// Uploads that were refused since their address writes `address_uploads_max`.
        AddressUploads => "address_uploads_max",
        /// Uploads that were refused since their mount, one below the root, holds half of `uploads_max`.
        MountUploads => "uploads_of_mount",
        /// Streams that were refused since their address has `address_streams_max`.
        AddressStreams => "address_streams_max",
        /// Listings that were refused since their address is being sent `address_listings_max`.
        AddressListings => "address_listings_max",
        /// Answers and heads that were refused since those of their address hold half of `waiting_bytes_max`.
        AddressWaiting => "waiting_bytes_of_address",
        /// Transfers that were ended since their peers moved less than `progress_bytes_min`.
        Progress => "progress_bytes_min",
        /// Connections that were closed for others, `connections_max` being reached.
        Connections => "connections_max",
        /// Control connections that were closed for others, `control_connections_max` being reached.
        ControlConnections => "control_connections_max",
        /// Uploads that were ended for others, `uploads_max` being reached.
        Uploads => "uploads_max",
        /// Streams that were ended for others, `streams_max` being reached.
        Streams => "streams_max",
        /// Connections that were closed for others since descriptors had run out.
        Descriptors => "descriptors",
    }
}

macro_rules! statuses {
    ($($code:ident = $number:literal,)+) => {
        /// The HTTP status codes that either plane answers with; 499 for a client that left before there was an answer,
        /// as NGINX has it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the number is the documentation")]
        pub enum Status { $($code,)+ }

        impl Status {
            /// Returns the status of this number; a number that no plane answers with counts as 500.
            pub fn of(code: u16) -> Status {
                match code { $($number => Status::$code,)+ _ => Status::S500 }
            }
        }

        impl Label for Status {
            const ALL: &'static [Self] = &[$(Status::$code,)+];
            fn label(self) -> &'static str {
                match self { $(Status::$code => stringify!($number),)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

statuses! {
    S200 = 200, S201 = 201, S202 = 202, S204 = 204, S206 = 206, S301 = 301, S304 = 304, S400 = 400, S401 = 401,
    S403 = 403, S404 = 404, S405 = 405, S408 = 408, S409 = 409, S410 = 410, S411 = 411, S412 = 412, S413 = 413,
    S414 = 414, S415 = 415, S416 = 416, S417 = 417, S421 = 421, S429 = 429, S431 = 431, S499 = 499, S500 = 500,
    S501 = 501, S502 = 502, S503 = 503, S504 = 504, S505 = 505, S507 = 507,
}
