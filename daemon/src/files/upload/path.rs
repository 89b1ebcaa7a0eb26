//! Functions that take apart paths below the root.

use crate::protocol::name::Name;

/// Returns the path of the directory that a name lies in, relative to the root.
pub(super) fn parent_of(name: &Name) -> &str {
    parent_of_path(name.as_str())
}

/// Returns the path of the directory above, relative to the root.
pub(super) fn parent_of_path(path: &str) -> &str {
    path.rfind('/').map_or(".", |slash| &path[..slash])
}

/// Returns the last segment of a path.
pub(super) fn leaf_of_path(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// Returns how many bytes of a name the path of a directory on its way takes up; 0 for the root.
pub(super) fn bytes_of_directory(path: &str) -> usize {
    if path == "." { 0 } else { path.len() }
}
