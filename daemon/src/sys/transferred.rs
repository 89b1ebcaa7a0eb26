//! The bytes that a connection has moved.

use std::os::fd::{AsFd, AsRawFd};

/// The offset in `struct tcp_info` (linux/tcp.h) of `tcpi_bytes_acked`, with `tcpi_bytes_received` behind it:
/// eight bytes of flags, 24 numbers of 32 bits and two of 64 come before. Both are there since Linux 4.1.
const BYTES_ACKED: usize = 120;

/// The bytes of the structure that are asked for; the kernel cuts it to the given length.
const INFO_BYTES: usize = BYTES_ACKED + 2 * size_of::<u64>();

/// Returns the bytes that the peer has acknowledged and those that have come from it, together; 0 where the socket
/// can't tell.
pub fn transferred_bytes(socket: impl AsFd) -> u64 {
    let mut info = [0_u8; INFO_BYTES];
    let Ok(mut length) = libc::socklen_t::try_from(INFO_BYTES) else { return 0 };
    // SAFETY: owner: the caller's socket, borrowed, and `info` and `length`, which live on this stack. Lifetime: the
    // call's. The kernel writes at most `length` bytes, and keeps nothing.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 || usize::try_from(length).is_ok_and(|length| length < INFO_BYTES) {
        return 0;
    }
    let number = |at: usize| info[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    number(BYTES_ACKED).saturating_add(number(BYTES_ACKED + size_of::<u64>()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::transferred_bytes;

    #[test]
    fn both_directions_count_and_what_lies_unread_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        // The kernel counts the SYN as well.
        let (before, before_other) = (transferred_bytes(&one), transferred_bytes(&other));
        one.write_all(&[7; 1000]).unwrap();
        other.read_exact(&mut [0; 1000]).unwrap();
        other.write_all(&[7; 30]).unwrap();
        assert!(one.peek(&mut [0; 30]).unwrap() > 0);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while transferred_bytes(&one) - before < 1030 || transferred_bytes(&other) - before_other < 1030 {
            assert!(
                std::time::Instant::now() < end,
                "{} {}",
                transferred_bytes(&one),
                transferred_bytes(&other)
            );
            std::thread::yield_now();
        }
        assert_eq!(transferred_bytes(&one) - before, 1030);
    }
}
