//! What a request says of the upload that it begins or goes on with.

use super::super::digest::Digests;
use super::super::mounts::MountId;
use crate::protocol::name::Name;

/// What is known of an upload when it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name it will get.
    pub destination: Name,
    /// The mount that its directory is on.
    pub mount: MountId,
    /// How long it will be.
    pub length: Option<u64>,
    /// What its content must turn out to be.
    pub digests: Digests,
    /// What the caller wants back from [`Writer::note`](super::Writer::note) when the upload is continued, after a
    /// restart too; up to 1 KiB of text is sure to be kept.
    pub note: String,
}
