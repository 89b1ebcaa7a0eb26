//! The bytes that were sent and the peer has not acknowledged yet.

use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// The request number of SIOCOUTQ (tcp(7)), which is TIOCOUTQ's (asm-generic/ioctls.h).
const SIOCOUTQ: Opcode = 0x5411;

/// Returns the bytes in the socket's send queue, unsent or unacknowledged; 0 where the socket can't tell.
pub fn unacknowledged_bytes(socket: impl AsFd) -> u32 {
    // SAFETY: owner: the getter, which owns the int that is written to. Lifetime: the call's. The kernel keeps
    // nothing.
    let getter = unsafe { Getter::<SIOCOUTQ, i32>::new() };
    // SAFETY: owner: the caller's socket, borrowed. Lifetime: the call's. The kernel keeps nothing, and SIOCOUTQ
    // writes one int, which is what the getter holds.
    let bytes = unsafe { ioctl(socket, getter) };
    bytes.ok().and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::unacknowledged_bytes;

    #[test]
    fn the_queue_grows_while_the_peer_does_not_read_and_shrinks_when_it_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged_bytes(&sender), 0);
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = sender.write(&[0; 65_536]) {
            sent += count;
        }
        let full = unacknowledged_bytes(&sender);
        assert!(full > 0);
        let mut received = vec![0; sent];
        receiver.read_exact(&mut received).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while unacknowledged_bytes(&sender) > 0 {
            assert!(std::time::Instant::now() < end, "the queue did not drain");
            std::thread::yield_now();
        }
    }
}
