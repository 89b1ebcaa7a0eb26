//! How long a request head and its parts may be.

/// The longest head, in bytes, from the first byte received to the empty line; past it 431. Room for
/// the longest target and as much again for the fields.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest request target, in bytes; past it 414. RFC 9112 3 recommends support for 8000.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// The most header fields; past it 431. They are parsed on the stack, and clients send some
/// dozens at most.
pub const FIELDS_MAX: usize = 100;
