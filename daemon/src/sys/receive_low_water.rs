//! The bytes that a socket gathers before a waiting receiver is woken.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets SO_RCVLOWAT (socket(7); poll(2) and epoll heed it for TCP since Linux 2.6.28). The end of the peer, an
/// error and a full receive buffer wake the receiver as ever.
pub fn set_receive_low_water(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: owner: the caller's socket, borrowed, and `bytes`, which lives on this stack. Lifetime: the call's. The
    // kernel copies the int and keeps nothing of it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::set_receive_low_water;

    fn is_readable(socket: &TcpStream, wait_ms: i64) -> bool {
        let wait = Timespec { tv_sec: 0, tv_nsec: wait_ms * 1_000_000 };
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&wait)).unwrap() == 1
    }

    #[test]
    fn a_reader_is_woken_by_so_much_or_by_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        set_receive_low_water(&receiver, 1000).unwrap();
        sender.write_all(&[7; 999]).unwrap();
        assert!(!is_readable(&receiver, 100));
        sender.write_all(&[7]).unwrap();
        assert!(is_readable(&receiver, 900));
        set_receive_low_water(&receiver, 2000).unwrap();
        assert!(!is_readable(&receiver, 100));
        drop(sender);
        assert!(is_readable(&receiver, 900));
    }
}
