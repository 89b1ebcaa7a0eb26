//! Ring operations that tokio-uring doesn't offer: dropping received bytes inside the kernel, a timer finer than
//! tokio's millisecond, connecting a socket that is bound already, and breaking a connection off.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use io_uring::{cqueue, opcode, types};
use socket2::{SockAddr, Socket};
use tokio_uring::net::TcpStream;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

/// The flag by which TCP counts received bytes and drops them (MSG_TRUNC, tcp(7), Linux 2.4).
const MSG_TRUNC: i32 = 0x20;

/// The length lent to receives that drop their bytes: as much as a socket can hold is dropped at once.
const DISCARD_BYTES: u32 = 4 << 20;

/// The memory lent to receives that drop their bytes. The kernel writes nothing to it, so all share it.
#[derive(Clone)]
pub(super) struct DiscardMemory(Rc<Box<[u8]>>);

impl DiscardMemory {
    pub(super) fn new() -> DiscardMemory {
        DiscardMemory(Rc::new(vec![0; DISCARD_BYTES as usize].into_boxed_slice()))
    }
}

/// Drops up to `bytes_max` bytes that arrive; 0 is the peer's end.
pub(super) async fn discard(stream: &TcpStream, memory: &DiscardMemory, bytes_max: u64) -> io::Result<u64> {
    let length = u32::try_from(bytes_max).unwrap_or(DISCARD_BYTES).min(DISCARD_BYTES);
    let pointer = memory.0.as_ptr().cast_mut();
    let entry = opcode::Recv::new(types::Fd(stream.as_raw_fd()), pointer, length).flags(MSG_TRUNC).build();
    UnsubmittedOneshot::new(memory.clone(), Count, entry).submit().await
}

/// Waits for `duration` on the ring's own timer.
pub(super) async fn pause(duration: Duration) -> io::Result<()> {
    let timespec = types::Timespec::new().sec(duration.as_secs()).nsec(duration.subsec_nanos());
    let timespec = Box::new(timespec);
    let entry = opcode::Timeout::new(&raw const *timespec).build();
    UnsubmittedOneshot::new(timespec, Elapsed, entry).submit().await
}

/// Connects `socket`, and returns it as a stream.
pub(super) async fn connect(socket: Socket, address: SockAddr) -> io::Result<TcpStream> {
    let address = Box::new(address);
    let entry =
        opcode::Connect::new(types::Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len()).build();
    UnsubmittedOneshot::new((socket, address), Connected, entry).submit().await
}

/// Breaks the connection off at once, with a reset, and wakes the tasks that wait for it: connect(2) to AF_UNSPEC.
/// Dropping a stream closes it only when the ring has come round to that, and until then the server goes on
/// sending.
pub(super) async fn break_off(stream: &TcpStream) -> io::Result<()> {
    /// A sockaddr (16 bytes) all of whose bytes, the family among them, are 0.
    static UNSPECIFIED: [u8; 16] = [0; 16];
    let length = u32::try_from(UNSPECIFIED.len()).unwrap_or_default();
    let entry =
        opcode::Connect::new(types::Fd(stream.as_raw_fd()), UNSPECIFIED.as_ptr().cast(), length).build();
    UnsubmittedOneshot::new((), Done, entry).submit().await
}

struct Count;

impl OneshotOutputTransform for Count {
    type Output = io::Result<u64>;
    type StoredData = DiscardMemory;

    fn transform_oneshot_output(self, _: DiscardMemory, entry: cqueue::Entry) -> io::Result<u64> {
        u64::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()))
    }
}

struct Elapsed;

impl OneshotOutputTransform for Elapsed {
    type Output = io::Result<()>;
    type StoredData = Box<types::Timespec>;

    fn transform_oneshot_output(self, _: Box<types::Timespec>, entry: cqueue::Entry) -> io::Result<()> {
        // A timer that ran out says so with ETIME (io_uring_enter(2)).
        let timed_out = rustix::io::Errno::TIME.raw_os_error();
        if entry.result() == 0 || -entry.result() == timed_out {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(-entry.result()))
        }
    }
}

struct Done;

impl OneshotOutputTransform for Done {
    type Output = io::Result<()>;
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), entry: cqueue::Entry) -> io::Result<()> {
        if entry.result() < 0 { Err(io::Error::from_raw_os_error(-entry.result())) } else { Ok(()) }
    }
}

struct Connected;

impl OneshotOutputTransform for Connected {
    type Output = io::Result<TcpStream>;
    type StoredData = (Socket, Box<SockAddr>);

    fn transform_oneshot_output(
        self,
        (socket, _): Self::StoredData,
        entry: cqueue::Entry,
    ) -> io::Result<TcpStream> {
        if entry.result() < 0 {
            return Err(io::Error::from_raw_os_error(-entry.result()));
        }
        Ok(TcpStream::from_std(socket.into()))
    }
}
