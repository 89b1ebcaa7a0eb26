//! Digest fields (RFC 9530): `Repr-Digest`, `Content-Digest` and `Want-Repr-Digest`, which are dictionaries of
//! structured fields (RFC 9651). Nothing here hashes.
//!
//! Of the algorithms in the IANA registry two are known here: sha-256, which the registry calls active, and crc32c,
//! which it calls deprecated since it doesn't withstand an adversary. Against a faulty disk or wire it does, at a
//! fraction of the cost.

use std::fmt;

use sfv::{BareItem, DictSerializer, Dictionary, Item, KeyRef, ListEntry, Parser, key_ref};

/// A digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256 (RFC 6234).
    Sha256,
    /// CRC-32C (RFC 9260 appendix A), its four bytes in network byte order.
    Crc32c,
}

impl Algorithm {
    /// All algorithms, the one that is preferred where a client doesn't care first.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Crc32c];

    /// Returns the algorithm's key in the registry.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.key_ref().as_str()
    }

    /// Returns the length of the algorithm's digests in bytes.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Crc32c => 4,
        }
    }

    fn key_ref(self) -> &'static KeyRef {
        const SHA_256: &KeyRef = key_ref("sha-256");
        const CRC32C: &KeyRef = key_ref("crc32c");
        match self {
            Algorithm::Sha256 => SHA_256,
            Algorithm::Crc32c => CRC32C,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.key())
    }
}

/// A digest, of the length that its algorithm gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// A digest by [`Algorithm::Sha256`].
    Sha256([u8; 32]),
    /// A digest by [`Algorithm::Crc32c`].
    Crc32c([u8; 4]),
}

impl Digest {
    /// Makes a digest out of its bytes; `None` when they are too few or too many.
    #[must_use]
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Digest> {
        match algorithm {
            Algorithm::Sha256 => bytes.try_into().ok().map(Digest::Sha256),
            Algorithm::Crc32c => bytes.try_into().ok().map(Digest::Crc32c),
        }
    }

    /// Returns the algorithm of the digest.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Crc32c(_) => Algorithm::Crc32c,
        }
    }

    /// Returns the bytes of the digest.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Crc32c(bytes) => bytes,
        }
    }
}

/// Writes the bytes as a structured field spells them, `:BASE64:`.
impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&sfv::ItemSerializer::new().bare_item(self.bytes()).finish())
    }
}

/// Why a digest field can't be verified against. Each of these is answered with 400: a client that sends a digest
/// wants it checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The field is no dictionary of RFC 9651.
    #[error("a digest field is not of the form `sha-256=:BASE64:` (RFC 9530)")]
    Malformed,
    /// The value is no byte sequence.
    #[error("the value of {algorithm} in a digest field is no byte sequence; write `{algorithm}=:BASE64:`")]
    NoBytes {
        /// The algorithm that the value stands behind.
        algorithm: Algorithm,
    },
    /// The algorithm can't have computed the value.
    #[error("a digest of {algorithm} has {} bytes, and the one that was sent has {length}", .algorithm.length())]
    Length {
        /// The algorithm that the value stands behind.
        algorithm: Algorithm,
        /// The length of the value in bytes.
        length: usize,
    },
}

/// Reads `Repr-Digest` or `Content-Digest`, its lines joined with `, `. Algorithms that aren't known here are
/// ignored, as a receiver may do with any (RFC 9530 2).
///
/// # Errors
/// [`DigestError`] for a field that is malformed, and for values that a known algorithm can't have computed.
pub fn parse(field: &[u8]) -> Result<Vec<Digest>, DigestError> {
    let members: Dictionary = Parser::new(field).parse().map_err(|_| DigestError::Malformed)?;
    let mut digests = Vec::new();
    for algorithm in Algorithm::ALL {
        let Some(member) = members.get(algorithm.key()) else { continue };
        let ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), .. }) = member else {
            return Err(DigestError::NoBytes { algorithm });
        };
        let digest = Digest::new(algorithm, bytes);
        digests.push(digest.ok_or(DigestError::Length { algorithm, length: bytes.len() })?);
    }
    Ok(digests)
}

/// Formats the value of a `Repr-Digest` or `Content-Digest` field; `None` without a digest, since an empty
/// dictionary isn't sent (RFC 9651 4.1).
#[must_use]
pub fn format(digests: &[Digest]) -> Option<String> {
    let mut members = DictSerializer::new();
    for digest in digests {
        let _ = members.bare_item(digest.algorithm().key_ref(), digest.bytes());
    }
    members.finish()
}

/// The highest preference in `Want-Repr-Digest` (RFC 9530 4); 0 means not acceptable.
const PREFERENCE_MAX: i64 = 10;

/// Returns the algorithms that `Want-Repr-Digest` names, most wanted first. The field is a hint (RFC 9530 4):
/// malformed or unknown parts are ignored.
#[must_use]
pub fn wanted(field: &[u8]) -> Vec<Algorithm> {
    let Ok(members) = Parser::new(field).parse::<Dictionary>() else { return Vec::new() };
    let preference = |algorithm: &Algorithm| match members.get(algorithm.key()) {
        Some(ListEntry::Item(item)) => item.bare_item.as_integer().map_or(0, i64::from),
        _ => 0,
    };
    let acceptable = |algorithm: &Algorithm| (1..=PREFERENCE_MAX).contains(&preference(algorithm));
    let mut algorithms: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(acceptable).collect();
    // The sort is stable: where preferences are equal our own order decides.
    algorithms.sort_by_key(|algorithm| -preference(algorithm));
    algorithms
}

#[cfg(test)]
mod tests;
