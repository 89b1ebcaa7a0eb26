//! HTTP/1.x as RFC 9112 frames it, for a server of files.
//!
//! | module | what it holds |
//! |---|---|
//! | [`request`] | from received bytes to a [`Request`](request::Request): the entry |
//! | `head` | the end of a head; faults that are certain before it |
//! | `line` | the request line |
//! | `target` | from a request target to a name |
//! | `field` | one header field: its name, and its values where it repeats |
//! | `fields` | the header fields that matter, and their joint meaning |
//! | [`read_fields`] | the header fields that matter where the settings say so |
//! | [`signs`] | the signs of who makes a request |
//! | [`write_fields`] | the header fields that matter to a method that writes |
//! | [`forwarded`] | the sender of a request, as the proxies in between name it |
//! | `body` | the framing of request bodies |
//! | `limits` | the limits on a head and its parts |
//! | [`caller`] | the names that a client gives itself and its request |
//! | [`authority`] | `host:port` in `Host` and absolute targets |
//! | [`method`] | the methods on offer, with uploads and without |
//! | `method_name` | the method of a request line, and those that are only known |
//! | [`framing`] | the ends of heads and bodies, for a caller that hands them on to another reader |
//! | [`glimpse`] | the readable parts of a refused request, for logs |
//! | [`error`] | every reason to refuse a request, with its status |
//! | [`chunked`] | chunked bodies: their payload, or only their end |
//! | [`response`] | response heads |
//! | [`trailers`] | digests behind a chunked body |

pub mod authority;
mod body;
pub mod caller;
pub mod chunked;
pub mod error;
mod field;
mod fields;
pub mod forwarded;
pub mod framing;
pub mod glimpse;
mod head;
mod limits;
mod line;
pub mod method;
mod method_name;
pub mod read_fields;
pub mod request;
pub mod response;
pub mod signs;
mod target;
pub mod trailers;
pub mod write_fields;
