//! The reasons for which a peer doesn't take part.

/// Why a peer doesn't take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The peer isn't installed on this host.
    #[error("{0}")]
    NotInstalled(String),
    /// The peer is installed, and lacks a feature that it would be set up for.
    #[error("{0}")]
    Unable(String),
    /// The peer could not be started, though it is installed; or there is no peer of this name.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for StartError {
    fn from(reason: String) -> StartError {
        StartError::Failed(reason)
    }
}
