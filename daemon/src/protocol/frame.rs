//! Frames: 8 bytes little-endian signed size, then that many bytes, answered with `done` once the sink has
//! them all.

/// Bytes of the header before each payload.
pub const HEADER_BYTES: usize = 8;

/// The highest value that `frame_bytes_max` may take, in bytes. Above it byte 7 of a header would no longer
/// be 0 and [`detect`](crate::protocol::detect::detect) could not tell a frame from an HTTP request.
pub const FRAME_BYTES_LIMIT: u64 = (1 << 56) - 1;

/// The bytes that the sender of a frame gets once the sink has the whole payload.
pub const ACKNOWLEDGEMENT: [u8; 4] = *b"done";

/// Why a frame was not acknowledged. The connection is closed after each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The size field, which is signed, is below zero.
    #[error("frame size {size} is negative: the header is the payload's size as 8 bytes, little-endian")]
    Negative {
        /// The size as sent, in bytes.
        size: i64,
    },
    /// The size is above the configured limit.
    #[error(
        "frame of {size} bytes is over the limit of {frame_bytes_max}: send smaller frames or raise \
         frame_bytes_max"
    )]
    OverLimit {
        /// The size as sent, in bytes.
        size: u64,
        /// The limit in force, in bytes.
        frame_bytes_max: u64,
    },
    /// The peer ended the connection inside the header.
    #[error(
        "frame was cut off: {received} of {HEADER_BYTES} bytes of its header came before the peer ended the connection"
    )]
    HeaderTruncated {
        /// The bytes of the header that came.
        received: usize,
    },
    /// The header wasn't complete in time.
    #[error(
        "frame came too slowly: {received} of {HEADER_BYTES} bytes of its header within receive_timeout_ms, \
         {timeout_ms}"
    )]
    HeaderLate {
        /// The bytes of the header that came.
        received: usize,
        /// The time allowed for the header, in milliseconds.
        timeout_ms: u64,
    },
    /// No further byte of the payload came for too long.
    #[error(
        "frame came too slowly: {received} of {expected} payload bytes, and then none within receive_timeout_ms, \
         {timeout_ms}"
    )]
    Late {
        /// The payload bytes that the header announced.
        expected: u64,
        /// The payload bytes that came.
        received: u64,
        /// The time without a byte, in milliseconds.
        timeout_ms: u64,
    },
    /// The frame came with less than the minimum of progress.
    #[error(
        "frame came too slowly: fewer than progress_bytes_min bytes a second, {received} of its payload bytes so far"
    )]
    TooSlow {
        /// The payload bytes that came.
        received: u64,
    },
    /// The frame's connection had to make room for another.
    #[error("frame made room for others: connections_max is reached, or descriptors are used up")]
    Evicted,
    /// This side ended inside the frame, since the daemon drained.
    #[error("frame was not waited for: the daemon stopped after {received} of its payload bytes")]
    Drained {
        /// The payload bytes that came.
        received: u64,
    },
    /// The peer ended the connection inside the payload.
    #[error(
        "frame was cut off: {received} of {expected} payload bytes came before the peer ended the connection"
    )]
    Truncated {
        /// The payload bytes that the header announced.
        expected: u64,
        /// The payload bytes that came.
        received: u64,
    },
}

/// Decodes the payload size, in bytes, that a header announces.
///
/// # Errors
/// [`FrameError::Negative`] below zero, [`FrameError::OverLimit`] above `frame_bytes_max`.
pub fn decode_header(header: [u8; HEADER_BYTES], frame_bytes_max: u64) -> Result<u64, FrameError> {
    let signed = i64::from_le_bytes(header);
    let size = u64::try_from(signed).map_err(|_| FrameError::Negative { size: signed })?;
    if size > frame_bytes_max {
        return Err(FrameError::OverLimit { size, frame_bytes_max });
    }
    Ok(size)
}

/// Encodes the header of a frame with `size` payload bytes. Sizes above [`FRAME_BYTES_LIMIT`] encode as well, but
/// every receiver refuses them.
#[must_use]
pub fn encode_header(size: u64) -> [u8; HEADER_BYTES] {
    size.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_size_is_little_endian() {
        assert_eq!(encode_header(0x0102), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_header([169, 0, 0, 0, 0, 0, 0, 0], FRAME_BYTES_LIMIT), Ok(169));
        assert_eq!(decode_header([0; 8], 0), Ok(0));
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        assert_eq!(decode_header(encode_header(1000), 1000), Ok(1000));
        assert_eq!(
            decode_header(encode_header(1001), 1000),
            Err(FrameError::OverLimit { size: 1001, frame_bytes_max: 1000 })
        );
        assert_eq!(
            decode_header(i64::MAX.to_le_bytes(), FRAME_BYTES_LIMIT),
            Err(FrameError::OverLimit { size: i64::MAX.unsigned_abs(), frame_bytes_max: FRAME_BYTES_LIMIT })
        );
    }

    #[test]
    fn negative_sizes_are_named_as_sent() {
        for size in [-1, i64::MIN] {
            assert_eq!(decode_header(size.to_le_bytes(), u64::MAX), Err(FrameError::Negative { size }));
        }
        assert_eq!(
            FrameError::Negative { size: -1 }.to_string(),
            "frame size -1 is negative: the header is the payload's size as 8 bytes, little-endian"
        );
    }

    proptest! {
        #[test]
        fn headers_round_trip(size in 0..=FRAME_BYTES_LIMIT) {
            prop_assert_eq!(decode_header(encode_header(size), FRAME_BYTES_LIMIT), Ok(size));
        }

        #[test]
        fn no_header_decodes_to_more_than_the_limit(header: [u8; 8], frame_bytes_max: u64) {
            if let Ok(size) = decode_header(header, frame_bytes_max) {
                prop_assert!(size <= frame_bytes_max);
                prop_assert_eq!(encode_header(size), header);
            }
        }
    }
}
