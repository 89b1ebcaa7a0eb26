//! Chunked bodies (RFC 9112 7.1): their payload for an upload, or only their end, where the body is dropped.

use crate::protocol::http1::method::is_token_byte;

/// The most digits of a chunk size: 16 hold any `u64`, and leading zeros count, or they could go on for ever.
pub const SIZE_DIGITS_MAX: u32 = 16;

/// The most bytes of chunk extensions in one body. Common clients send none; without a limit they make a server
/// read much for little payload (CVE-2023-39326).
pub const EXTENSION_BYTES_MAX: u32 = 4 * 1024;

/// The most bytes of trailer fields in one body, as many as a target may have.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Why a body has no end that could be trusted. The connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A byte in a chunk size is neither a hexadecimal digit nor one that may follow.
    #[error(
        "a chunk size holds the byte 0x{byte:02x}; it is 1 to {SIZE_DIGITS_MAX} hexadecimal digits and CR LF"
    )]
    Size {
        /// The byte that came.
        byte: u8,
    },
    /// A chunk size has too many digits.
    #[error("a chunk size has more than {SIZE_DIGITS_MAX} digits")]
    SizeTooLong,
    /// A chunk extension holds a control character or a misplaced one.
    #[error("a chunk extension holds the byte 0x{byte:02x}, which can't stand there")]
    Extension {
        /// The byte that came.
        byte: u8,
    },
    /// The extensions have more than [`EXTENSION_BYTES_MAX`].
    #[error("the chunk extensions of one body are over {EXTENSION_BYTES_MAX} bytes")]
    ExtensionsTooLong,
    /// A CR came without LF, an LF without CR, or a chunk is longer than its size.
    #[error("the byte 0x{byte:02x} stands where a chunked body must have CR LF")]
    LineBreak {
        /// The byte that came.
        byte: u8,
    },
    /// A trailer field holds a byte that can't stand there.
    #[error("a trailer field holds the byte 0x{byte:02x}, which can't stand there")]
    Trailer {
        /// The byte that came.
        byte: u8,
    },
    /// The trailers have more than [`TRAILER_BYTES_MAX`].
    #[error("the trailer fields of one body are over {TRAILER_BYTES_MAX} bytes")]
    TrailersTooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u32,
    },
    /// White space came after a size: only an extension may follow.
    BeforeExtension {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        remaining: u64,
    },
    DataCarriageReturn,
    DataLineFeed,
    /// A trailer line begins, which ends the body if it is empty.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Ended,
}

/// The next piece in the bytes of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'i> {
    /// Bytes of payload, at least one.
    Payload(&'i [u8]),
    /// The input is used up and the body goes on.
    Incomplete,
    /// The body has ended; the rest of the input is the next request's.
    Ended,
}

/// A decoder of a chunked body, fed piece by piece. It keeps counts, and no bytes but those of the trailer fields.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    payload_bytes: u64,
    extension_bytes: u32,
    trailers: Vec<u8>,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// Makes a decoder for a body whose head has just ended.
    #[must_use]
    pub fn new() -> Self {
        Self { state: SIZE_START, payload_bytes: 0, extension_bytes: 0, trailers: Vec::new() }
    }

    /// Takes the next piece of the body out of `input`. Must be called until the piece is [`Piece::Incomplete`] or
    /// [`Piece::Ended`].
    ///
    /// # Errors
    /// [`ChunkError`] at the first byte that no chunked body can have there; the payload before it has been handed
    /// out.
    pub fn next_piece<'i>(&mut self, input: &mut &'i [u8]) -> Result<Piece<'i>, ChunkError> {
        while self.state != State::Ended {
            let Some((&byte, after)) = input.split_first() else { return Ok(Piece::Incomplete) };
            if let State::Data { remaining } = self.state {
                return Ok(Piece::Payload(self.take_data(remaining, input)));
            }
            self.state = self.step(byte)?;
            *input = after;
        }
        Ok(Piece::Ended)
    }

    /// Drops the payload in the next bytes; returns how many of them belong to the body and whether it ended with
    /// them. Bytes after the end are the next request's and never consumed; before the end all of `input` is.
    ///
    /// # Errors
    /// As [`ChunkedDecoder::next_piece`].
    pub fn skip(&mut self, input: &[u8]) -> Result<(usize, bool), ChunkError> {
        let mut rest = input;
        loop {
            match self.next_piece(&mut rest)? {
                Piece::Payload(_) => {}
                Piece::Incomplete => return Ok((input.len(), false)),
                Piece::Ended => return Ok((input.len() - rest.len(), true)),
            }
        }
    }

    /// Returns the payload bytes so far; size lines, extensions and trailers aren't payload.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Returns the trailer field lines so far, each ended by CR LF.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Takes a chunk's data out of the input, as much as is there.
    fn take_data<'i>(&mut self, remaining: u64, input: &mut &'i [u8]) -> &'i [u8] {
        let here = usize::try_from(remaining).unwrap_or(usize::MAX).min(input.len());
        let left = remaining - here as u64;
        // A body of 2^64 bytes takes longer than any connection lasts.
        self.payload_bytes = self.payload_bytes.saturating_add(here as u64);
        self.state = if left == 0 { State::DataCarriageReturn } else { State::Data { remaining: left } };
        let (data, rest) = input.split_at(here);
        *input = rest;
        data
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size { value, digits }, _) => self.step_size(value, digits, byte),
            (State::BeforeExtension { size } | State::Extension { size }, _) => {
                self.step_extension(size, byte)
            }
            (State::SizeLineFeed { size: 0 }, b'\n') => Ok(State::TrailerStart),
            (State::SizeLineFeed { size }, b'\n') => Ok(State::Data { remaining: size }),
            (State::DataCarriageReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(SIZE_START),
            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => self.step_trailer(byte),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            (State::LastLineFeed, b'\n') => Ok(State::Ended),
            _ => Err(ChunkError::LineBreak { byte }),
        }
    }

    fn step_size(&mut self, value: u64, digits: u32, byte: u8) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::SizeTooLong);
            }
            return Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => Err(ChunkError::Size { byte }),
            b'\r' => Ok(State::SizeLineFeed { size: value }),
            b';' | b' ' | b'\t' => self.step_extension(value, byte),
            _ => Err(ChunkError::Size { byte }),
        }
    }

    /// Takes a byte of an extension, which is any printable text after a semicolon, with white space before that.
    fn step_extension(&mut self, size: u64, byte: u8) -> Result<State, ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkError::ExtensionsTooLong);
        }
        let begun = matches!(self.state, State::Extension { .. });
        match byte {
            b'\r' if begun => Ok(State::SizeLineFeed { size }),
            b' ' | b'\t' if !begun => Ok(State::BeforeExtension { size }),
            b';' => Ok(State::Extension { size }),
            b'\t' | b' '..=b'~' | 0x80..=0xff if begun => Ok(State::Extension { size }),
            _ => Err(ChunkError::Extension { byte }),
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.trailers.len() >= TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailersTooLong);
        }
        // Each CR gets its LF at once, since nothing else can follow.
        self.trailers.extend_from_slice(if byte == b'\r' { b"\r\n" } else { std::slice::from_ref(&byte) });
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..=0xff) => Ok(State::TrailerValue),
            _ => Err(ChunkError::Trailer { byte }),
        }
    }
}

const SIZE_START: State = State::Size { value: 0, digits: 0 };

#[cfg(test)]
mod tests;
