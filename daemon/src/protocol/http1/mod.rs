//! HTTP/1.x as RFC 9112 frames it, for a server of files.
//!
//! | module | what it holds |
//! |---|---|
//! | [`request`] | from received bytes to a [`Request`](request::Request): the entry |
//! | `head` | where a head ends; what is certainly wrong before it does |
//! | `line` | the request line |
//! | `target` | from a request target to a name |
//! | `field` | one header field: its name, and its values where it repeats |
//! | `fields` | the header fields that matter, and what they say together |
//! | [`write_fields`] | those that matter to a method that writes |
//! | [`forwarded`] | whom a request comes from by the words of the proxies in between |
//! | `body` | how the body of a request is framed |
//! | `limits` | how long a head and its parts may be |
//! | [`caller`] | what a client calls itself and its request |
//! | [`authority`] | `host:port` in `Host` and absolute targets |
//! | [`method`] | the methods on offer, with uploads and without |
//! | `method_name` | the method of a request line, and those that are only known |
//! | [`framing`] | where heads and bodies end, for who hands them on to another reader |
//! | [`glimpse`] | as much of a refused request as could be read, for logs |
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
pub mod request;
pub mod response;
mod target;
pub mod trailers;
pub mod write_fields;
