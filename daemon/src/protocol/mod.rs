//! The protocols of the data port, sans-I/O and pure. Nothing here reads a socket, a file or a clock, so every
//! rule is a table test and every parser a property test.
//!
//! | module | question it answers |
//! |---|---|
//! | [`detect`] | frame or HTTP, from the first 8 bytes of a connection |
//! | [`frame`] | the 8-byte size header and the 4-byte acknowledgement |
//! | [`http1`] | request heads, chunked bodies, response heads |
//! | [`name`] | which file below the root a request path means; escaping for logs |
//! | [`accept`] | which form and which coding of an answer a client takes |
//! | [`natural`] | which of two names comes first |
//! | [`listing`] | in which order a directory is listed |
//! | [`conditional`] | 200, 304 or 412; whether a write may go on |
//! | [`range`] | 200, 206 or 416, and which bytes |
//! | [`content_range`] | which bytes of a file the body of a request is |
//! | [`digest`] | the digests of a file or a body |
//! | [`upload`] | resumable uploads: what a request asks, and the rules of the answer |
//! | `upload_fields` | the fields of resumable uploads in one request |
//! | [`multipart`] | the body of a 206 with several ranges |
//! | [`media_type`] | the `Content-Type` of a name |
//! | [`cors`] | which pages of other origins may read an answer |
//! | [`disposition`] | under which name a browser saves a file |
//! | [`error_page`] | errors for people |
//! | [`date`] | HTTP and ISO dates, without the panics outside the years 1970 to 9999 |
//! | [`problem`] | error bodies and reason phrases |
//! | [`proxy_header`] | the client that a proxy names ahead of a connection's first byte |

pub mod accept;
pub mod conditional;
pub mod content_range;
pub mod cors;
pub mod date;
pub mod detect;
pub mod digest;
pub mod disposition;
pub mod error_page;
pub mod frame;
pub mod http1;
pub mod listing;
pub mod media_type;
pub mod multipart;
pub mod name;
pub mod natural;
pub mod problem;
pub mod proxy_header;
pub mod range;
pub mod upload;
mod upload_fields;
