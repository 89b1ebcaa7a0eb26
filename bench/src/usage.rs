//! The error of a command line that can't be carried out, told apart from a measurement that fails.

/// The command line can't be carried out as it is: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Ends the function with a [`UsageError`].
macro_rules! refuse {
    ($($text:tt)*) => { ::anyhow::bail!($crate::usage::UsageError(format!($($text)*))) };
}
pub(crate) use refuse;
