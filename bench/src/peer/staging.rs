//! Staging directories, where servers keep the bytes of an upload until it is whole. A server that is killed may
//! leave files there, which the bench removes.

/// The name of streamd's staging directory, which it makes in its root and in directories that are file systems of
/// their own.
pub(crate) const STREAMD_DIRECTORY: &str = ".streamd-uploads";

/// Returns the name of the staging directory of a peer that is told where to stage. It lies in the directory that
/// the uploads go to, so that a rename within one file system gives them their names.
pub(crate) fn directory_of(peer: &str) -> String {
    format!(".{peer}-body")
}
