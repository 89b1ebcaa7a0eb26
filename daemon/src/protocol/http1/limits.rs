//! The limits on a request head and its parts.

/// The longest head, in bytes, from the first byte received to the empty line; a longer one gets 431. It has room
/// for the longest target and as much again for the fields.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest request target, in bytes; a longer one gets 414. RFC 9112 3 recommends support for 8000.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// The most header fields; more get 431. They are parsed on the stack, and clients send some dozens at most.
pub const FIELDS_MAX: usize = 100;
