//! Names of uploads.

use std::fmt;

use rustix::io::Errno;

use super::super::digest::hex;
use super::super::reserved::RESERVED_SEGMENT;
use super::error::UploadError;

/// The name of an upload: nobody guesses 128 random bits, so it also is what a client needs to continue it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId([u8; 16]);

impl UploadId {
    pub(super) fn random() -> Result<UploadId, UploadError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|_| UploadError::Failed { step: "choosing a name", reason: Errno::IO })?;
        Ok(UploadId(bytes))
    }

    /// From 32 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<UploadId> {
        hex::decode(text).map(UploadId)
    }

    /// The upload that a name below the root means: `.streamd-uploads/` and its digits.
    pub fn of_name(name: &str) -> Option<UploadId> {
        UploadId::parse(name.strip_prefix(RESERVED_SEGMENT)?.strip_prefix('/')?.as_bytes())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::UploadId;

    #[test]
    fn an_id_is_32_lower_case_digits_and_nothing_else() {
        let id = UploadId::random().unwrap();
        assert_eq!(UploadId::parse(id.to_string().as_bytes()), Some(id));
        assert_eq!(UploadId::of_name(&format!(".streamd-uploads/{id}")), Some(id));
        assert_ne!(UploadId::random().unwrap(), id);
        let digits = "0123456789abcdef0123456789abcdef";
        assert!(UploadId::parse(digits.as_bytes()).is_some());
        for other in
            ["", &digits[1..], &format!("{digits}0"), &digits.to_uppercase(), &digits.replace('a', "g")]
        {
            assert_eq!(UploadId::parse(other.as_bytes()), None, "{other}");
        }
        for other in [digits, &format!("x/.streamd-uploads/{digits}"), &format!(".streamd-uploads{digits}")] {
            assert_eq!(UploadId::of_name(other), None, "{other}");
        }
    }
}
