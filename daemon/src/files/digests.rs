//! Digests of one content, and the algorithms by which they are computed.

use serde::{Deserialize, Serialize};

use crate::protocol::digest::{Algorithm, Digest};

/// A set of digest algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// Whether the set has [`Algorithm::Sha256`].
    pub sha256: bool,
    /// Whether the set has [`Algorithm::Crc32c`].
    pub crc32c: bool,
}

impl Algorithms {
    /// Makes the set of the named algorithms.
    pub fn of(algorithms: &[Algorithm]) -> Algorithms {
        Algorithms {
            sha256: algorithms.contains(&Algorithm::Sha256),
            crc32c: algorithms.contains(&Algorithm::Crc32c),
        }
    }

    /// Returns the algorithms that are in either set.
    #[must_use]
    pub fn union(self, other: Algorithms) -> Algorithms {
        Algorithms { sha256: self.sha256 || other.sha256, crc32c: self.crc32c || other.crc32c }
    }

    /// Returns the algorithms that `other` lacks.
    #[must_use]
    pub fn without(self, other: Algorithms) -> Algorithms {
        Algorithms { sha256: self.sha256 && !other.sha256, crc32c: self.crc32c && !other.crc32c }
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self == Algorithms::default()
    }
}

/// The digests of one content that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// The digest by [`Algorithm::Sha256`].
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[u8; 32]>,
    /// The digest by [`Algorithm::Crc32c`], most significant byte first, as RFC 9530 has it.
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<[u8; 4]>,
}

impl Digests {
    /// Reads the digests that a header field names; of two by one algorithm the last counts.
    pub fn from_fields(fields: &[Digest]) -> Digests {
        let mut digests = Digests::default();
        for field in fields {
            match field {
                Digest::Sha256(bytes) => digests.sha256 = Some(*bytes),
                Digest::Crc32c(bytes) => digests.crc32c = Some(*bytes),
            }
        }
        digests
    }

    /// Returns the digests as the members of a header field.
    pub fn to_fields(&self) -> Vec<Digest> {
        let (sha256, crc32c) = (self.sha256.map(Digest::Sha256), self.crc32c.map(Digest::Crc32c));
        sha256.into_iter().chain(crc32c).collect()
    }

    /// Returns the algorithms whose digests are known.
    pub fn algorithms(&self) -> Algorithms {
        Algorithms { sha256: self.sha256.is_some(), crc32c: self.crc32c.is_some() }
    }

    /// Returns the first algorithm by which `other` has a digest that differs from this one's or isn't known here.
    pub fn mismatch(&self, other: &Digests) -> Option<Algorithm> {
        if other.sha256.is_some() && other.sha256 != self.sha256 {
            return Some(Algorithm::Sha256);
        }
        (other.crc32c.is_some() && other.crc32c != self.crc32c).then_some(Algorithm::Crc32c)
    }

    /// Whether `digest` is known here to be another content's.
    pub fn contradict(&self, digest: &Digest) -> bool {
        match digest {
            Digest::Sha256(sent) => self.sha256.is_some_and(|computed| computed != *sent),
            Digest::Crc32c(sent) => self.crc32c.is_some_and(|computed| computed != *sent),
        }
    }

    /// Returns these digests, completed by those of `other` where they are unknown here.
    #[must_use]
    pub fn or(&self, other: &Digests) -> Digests {
        Digests { sha256: self.sha256.or(other.sha256), crc32c: self.crc32c.or(other.crc32c) }
    }

    /// Returns the entity tag of the content, with its quotes: 128 bits of its SHA-256.
    pub(super) fn etag(&self) -> Option<String> {
        let sha256 = self.sha256?;
        Some(format!("\"sha256-{}\"", hex::encode(&sha256[..16])))
    }
}

/// Bytes as lower-case hexadecimal digits, for people who read attributes.
pub(super) mod hex {
    use std::fmt::Write;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    pub(in super::super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if text.len() != 2 * N {
            return None;
        }
        let mut bytes = [0; N];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(bytes)
    }

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(text.as_bytes()).map(Some).ok_or_else(|| D::Error::custom("not so many hexadecimal digits"))
    }
}
