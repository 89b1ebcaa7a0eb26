//! Errors of the fields in which proxies name a request's sender.

/// Why the fields can't be believed. Each of these is answered with 400. Quoted parts are escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// The field isn't what RFC 7239 4 describes.
    #[error("the Forwarded field `{value}` can't be read (RFC 7239)")]
    Forwarded {
        /// The value of the field.
        value: String,
    },
    /// An entry is no address.
    #[error("X-Forwarded-For names `{node}`, which is no address")]
    Node {
        /// The text of the entry.
        node: String,
    },
    /// The two fields name different clients.
    #[error(
        "Forwarded and X-Forwarded-For name different clients: the proxy must remove the one that it doesn't write"
    )]
    Differ,
}
