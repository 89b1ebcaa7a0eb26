//! The header fields of a request on which its answer depends only where the settings say so.

use crate::protocol::http1::write_fields::Credentials;

/// The fields that are kept of requests, since some answer may depend on them. A field that none does costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `Origin`, and what a preflight says.
    pub origin: bool,
    /// `Accept-Encoding`.
    pub accept_encoding: bool,
}

/// What a request says of who reads, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadFields {
    /// The credentials of the client.
    pub authorization: Option<Credentials>,
    /// The origin of the web page that makes the request, if one does.
    pub origin: Option<Box<[u8]>>,
    /// `Accept-Encoding`, its lines joined with `, `, for [`codings_taken`](crate::protocol::accept::codings_taken).
    pub accept_encoding: Option<Box<[u8]>>,
    /// The question of a browser whether it may make another request, where the method is OPTIONS.
    pub preflight: Option<Preflight>,
    /// `Want-Repr-Digest`, its lines joined with `, `.
    pub want_repr_digest: Option<Box<[u8]>>,
}

/// A CORS preflight (Fetch standard, section 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preflight {
    /// Whether a page of the public Internet asks for a host of a private network (Private Network Access).
    pub wants_private_network: bool,
}

impl ReadFields {
    /// Returns the fields, if there is any: most requests have none, and take up no room for them.
    pub(super) fn boxed(self) -> Option<Box<ReadFields>> {
        (self != ReadFields::default()).then(|| Box::new(self))
    }
}

impl Preflight {
    /// Reads the fields of an OPTIONS; None where it is no preflight.
    pub(super) fn parse(headers: &[httparse::Header<'_>]) -> Option<Preflight> {
        let value_of = |name: &str| {
            headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        value_of("Access-Control-Request-Method")?;
        let wants_private_network = value_of("Access-Control-Request-Private-Network") == Some(b"true");
        Some(Preflight { wants_private_network })
    }
}
