//! Targets of streams: listeners that behave as a test tells them to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::DEADLINE;

/// A listener whose connections each get a thread.
pub(crate) struct Target {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Target {
    /// Serves each connection by `serve`, and hands over its result.
    pub(crate) fn start<R: Send + 'static>(
        serve: impl Fn(&mut TcpStream) -> R + Send + Sync + 'static,
    ) -> (Target, Receiver<R>) {
        let (sender, results) = channel();
        (Target::accepting(Arc::new(move |stream: &mut TcpStream| drop(sender.send(serve(stream))))), results)
    }

    /// Takes frames, hands over their payloads and acknowledges each.
    pub(crate) fn acknowledging() -> (Target, Receiver<Vec<u8>>) {
        let (sender, payloads) = channel();
        let serve = move |stream: &mut TcpStream| acknowledge_frames(stream, &sender);
        (Target::accepting(Arc::new(serve)), payloads)
    }

    fn accepting(serve: Arc<dyn Fn(&mut TcpStream) + Send + Sync>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&accepted), Arc::clone(&stopped));
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(&mut stream));
            }
        });
        Target { address, accepted, stopped, acceptor: Some(acceptor) }
    }

    /// Returns the address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many connections it has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // This connection wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Reads the size that a frame's header announces; None at the end of the connection.
pub(crate) fn frame_size(stream: &mut TcpStream) -> Option<u64> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    Some(u64::from_le_bytes(header))
}

fn acknowledge_frames(stream: &mut TcpStream, payloads: &Sender<Vec<u8>>) {
    while let Some(size) = frame_size(stream) {
        let mut payload = Vec::new();
        stream.take(size).read_to_end(&mut payload).unwrap();
        if payload.len() as u64 != size || payloads.send(payload).is_err() {
            return;
        }
        stream.write_all(b"done").unwrap();
    }
}
