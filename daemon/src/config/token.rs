//! The bearer token of the control plane and of uploads, read from a file so that it never stands in a process list.

use std::fmt;
use std::io::Read;
use std::path::Path;

use subtle::ConstantTimeEq;

use super::faults::{Reach, remedy};

/// The longest token, in bytes: headers of more than a few KiB are refused anyway.
const TOKEN_BYTES_MAX: u64 = 4096;

/// A secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<[u8]>);

impl Token {
    /// Reads a token: the file's content without surrounding white space, printable ASCII without spaces
    /// (RFC 6750 2.1).
    pub fn read(path: &Path, reach: Reach) -> Result<Token, String> {
        let mut content = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut content))
            .map_err(|error| format!("{}: {error}{}", path.display(), remedy(&error, reach)))?;
        if content.len() as u64 > TOKEN_BYTES_MAX {
            return Err(format!("{}: longer than {TOKEN_BYTES_MAX} bytes", path.display()));
        }
        Token::new(content.trim_ascii()).map_err(|reason| format!("{}: {reason}", path.display()))
    }

    /// Makes a token out of its bytes.
    pub fn new(bytes: &[u8]) -> Result<Token, &'static str> {
        if bytes.is_empty() {
            return Err("is empty: write a token into it, for example with `openssl rand -hex 32`");
        }
        if !bytes.iter().all(u8::is_ascii_graphic) {
            return Err("holds characters other than printable ASCII, or more than one word");
        }
        Ok(Token(bytes.into()))
    }

    /// Returns its length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether `presented` is the token. Takes a time that depends on the length of `presented` alone: subtle's
    /// comparison of slices returns at once where lengths differ, which would tell the token's length.
    pub fn is(&self, presented: &[u8]) -> bool {
        let lengths = presented.len().ct_eq(&self.0.len());
        let pairs = presented.iter().zip(self.0.iter().cycle());
        pairs.fold(lengths, |equal, (left, right)| equal & left.ct_eq(right)).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}
