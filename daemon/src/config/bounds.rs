//! Bounds that settings of the node and of a share have in common.

use std::time::Duration;

use super::kind::{ANY, Kind, Range, range};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;

/// The shortest lifetime of an upload that isn't continued: a client needs some time to notice and come back.
pub const PARTIAL_TTL_MIN: Duration = Duration::from_secs(60);
/// The longest lifetime of an upload that isn't continued: 30 days. A partial older than that is forgotten, and
/// its disk space with it.
pub const PARTIAL_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The highest value of the upload limit, 10^15 - 1: `Upload-Offset` can't name a later byte (RFC 9651 3.3.1).
pub const UPLOAD_BYTES_MAX_LIMIT: u64 = 999_999_999_999_999;

pub(super) const SOME_OR_NONE: Kind = Kind::Count(range(0, ANY));
pub(super) const BYTES: Kind = Kind::Bytes(range(0, ANY));
pub(super) const SPAN: Range = range(PARTIAL_TTL_MIN.as_secs(), PARTIAL_TTL_MAX.as_secs());
