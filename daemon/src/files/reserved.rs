//! The one name below the root that isn't the clients': directories of this name hold uploads on their way.

/// The segment. Whatever lies at or below it is neither served nor listed nor written by name.
pub const RESERVED_SEGMENT: &str = ".streamd-uploads";

/// Whether a segment of `path` is the reserved one. Case doesn't count: on a file system that folds it the other
/// spellings lead to the same directory.
pub(super) fn is_reserved(path: &str) -> bool {
    path.split('/').any(|segment| segment.eq_ignore_ascii_case(RESERVED_SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::is_reserved;

    #[test]
    fn the_segment_is_reserved_wherever_it_stands() {
        for path in [".streamd-uploads", ".streamd-uploads/", "a/.streamd-uploads/b", ".Streamd-UPLOADS/x"] {
            assert!(is_reserved(path), "{path}");
        }
        for path in ["", "streamd-uploads", ".streamd-uploads2", "a.streamd-uploads", ".streamd-upload"] {
            assert!(!is_reserved(path), "{path}");
        }
    }
}
