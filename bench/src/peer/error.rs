//! The reasons for which a peer doesn't take part.

/// Why a peer doesn't take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It isn't on this host.
    #[error("{0}")]
    NotInstalled(String),
    /// It is on this host, and can't do what it would be set up for.
    #[error("{0}")]
    Unable(String),
    /// It could not be started, though it is on this host; or there is no peer of this name.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for StartError {
    fn from(reason: String) -> StartError {
        StartError::Failed(reason)
    }
}
