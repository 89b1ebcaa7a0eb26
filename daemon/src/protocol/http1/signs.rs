//! Who makes a request, as far as fields of its head tell.

/// Signs that somebody else than a program on this host makes a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs {
    /// A page makes it, of whatever origin.
    pub has_origin: bool,
    /// A page of another site makes it, by what the browser says (`Sec-Fetch-Site`, Fetch Metadata).
    pub is_cross_site: bool,
    /// A proxy says that it stands in between (RFC 7239, RFC 9110 7.6.3, and older fields).
    pub is_forwarded: bool,
}
