//! The ceiling's frames: the payload is dropped inside the kernel, and acknowledged.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, recv};

/// The most bytes that one recv drops. With MSG_TRUNC tcp(7) discards them: the buffer is never touched, so that
/// its pages are never allocated.
const DISCARD_BYTES_MAX: usize = 1 << 20;

const ACKNOWLEDGEMENT: &[u8] = b"done";

/// Takes frames until the client ends the connection.
pub(super) fn serve(mut stream: &TcpStream) -> io::Result<()> {
    set_tcp_nodelay(stream, true)?;
    let mut buffer = vec![0; DISCARD_BYTES_MAX];
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header)?;
        let size = i64::from_le_bytes(header);
        let mut left = u64::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(DISCARD_BYTES_MAX).min(DISCARD_BYTES_MAX);
            let (_, dropped) = recv(stream, &mut buffer[..count], RecvFlags::TRUNC)?;
            if dropped == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= dropped as u64;
        }
        stream.write_all(ACKNOWLEDGEMENT)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn frames_are_acknowledged_one_by_one_and_a_negative_size_ends_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = std::thread::spawn(move || super::serve(&listener.accept().unwrap().0));
        let mut answer = [0; 4];
        for size in [0_usize, 1, 3 << 20] {
            client.write_all(&(size as u64).to_le_bytes()).unwrap();
            client.write_all(&vec![7; size]).unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"done");
        }
        client.write_all(&(-1_i64).to_le_bytes()).unwrap();
        assert_eq!(client.read(&mut answer).unwrap(), 0);
        assert_eq!(server.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    }
}
