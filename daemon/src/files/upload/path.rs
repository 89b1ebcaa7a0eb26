//! Functions that take apart paths below the root.

use crate::protocol::name::Name;

/// Returns the path of the directory that a name lies in, relative to the root.
pub(super) fn parent_of(name: &Name) -> &[u8] {
    parent_of_path(name.as_bytes())
}

/// Returns the path of the directory above, relative to the root.
pub(super) fn parent_of_path(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', path).map_or(b".", |slash| &path[..slash])
}

/// Returns the last segment of a path.
pub(super) fn leaf_of_path(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', path).map_or(path, |slash| &path[slash + 1..])
}

/// Returns how many bytes of a name the path of a directory on its way takes up; 0 for the root.
pub(super) fn bytes_of_directory(path: &[u8]) -> usize {
    if path == b"." { 0 } else { path.len() }
}
