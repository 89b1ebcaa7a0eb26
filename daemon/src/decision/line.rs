//! Lines of `--check`.

/// The width of the first column of `--check`.
const COLUMN: usize = 15;

/// Writes a line that says what something is.
pub(super) fn line(what: &str, is: &str) -> String {
    format!("{what:<COLUMN$}{is}\n")
}
