//! The closed sets of label values: what isn't in them can't be counted, so no peer can make a series.

/// A label with a fixed set of values.
pub trait Label: Copy + 'static {
    /// All values, in the order of their indices.
    const ALL: &'static [Self];
    /// The value as metrics and logs show it.
    fn label(self) -> &'static str;
    /// Its place in [`Label::ALL`].
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
    /// How a transfer ended.
    Outcome {
        /// Every byte was handed to the kernel, and for a stream acknowledged by its target.
        Complete => "complete",
        /// The peer went away first.
        PeerClosed => "peer_closed",
        /// The peer made no progress in time.
        TimedOut => "timed_out",
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
    }
}

label! {
    /// How bytes were moved.
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
    /// How a request ended that brought an upload, or a part of one.
    UploadOutcome {
        /// The upload has its name.
        Published => "published",
        /// What arrived is kept, to be gone on with.
        Kept => "kept",
        /// The request asked for what can't be, or what it brought wasn't what it said.
        Refused => "refused",
        /// The disk or the peer failed, and nothing is kept.
        Failed => "failed",
    }
}

label! {
    /// Why a frame got no `done`.
    FrameRefusal {
        /// Its size is below zero.
        Negative => "negative",
        /// Its size is above the limit.
        OverLimit => "over_limit",
        /// The peer closed before its end.
        Truncated => "truncated",
        /// The peer made no progress in time.
        TimedOut => "timed_out",
        /// The sink could not take it.
        SinkFailed => "sink_failed",
    }
}

macro_rules! statuses {
    ($($code:ident = $number:literal,)+) => {
        /// The HTTP status codes that either plane answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the number is the documentation")]
        pub enum Status { $($code,)+ }

        impl Status {
            /// The status of this number; a number that no plane answers with counts as 500.
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
    S200 = 200, S201 = 201, S202 = 202, S204 = 204, S206 = 206, S304 = 304, S400 = 400, S401 = 401, S403 = 403,
    S404 = 404, S405 = 405, S408 = 408, S409 = 409, S410 = 410, S411 = 411, S412 = 412, S413 = 413, S414 = 414,
    S415 = 415, S416 = 416, S417 = 417, S429 = 429, S431 = 431, S500 = 500, S501 = 501, S502 = 502, S503 = 503,
    S504 = 504, S505 = 505, S507 = 507,
}
