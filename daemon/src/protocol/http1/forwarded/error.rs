//! Why what proxies say of a request is not believed.

/// The fields say nothing that could be believed. Answered with 400. What they quote is escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// Not what RFC 7239 4 describes.
    #[error("the Forwarded field `{value}` can't be read (RFC 7239)")]
    Forwarded {
        /// The field.
        value: String,
    },
    /// No address.
    #[error("X-Forwarded-For names `{node}`, which is no address")]
    Node {
        /// The entry.
        node: String,
    },
    /// Two clients.
    #[error(
        "Forwarded and X-Forwarded-For name different clients: the proxy must remove the one that it doesn't write"
    )]
    Differ,
}
