//! The plan of an upload: what a request says of the one that it begins or continues.

use super::super::digest::Digests;
use super::super::mounts::MountId;
use crate::protocol::name::Name;

/// The facts that are known of an upload when it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name that the file will get.
    pub destination: Name,
    /// The mount that its directory is on.
    pub mount: MountId,
    /// The bytes of the whole file, if that is known.
    pub length: Option<u64>,
    /// The digests that the content must have.
    pub digests: Digests,
    /// A text that the caller gets back from [`Writer::note`](super::Writer::note) when the upload is continued,
    /// after a restart too; up to 1 KiB of it is sure to be kept.
    pub note: String,
}
