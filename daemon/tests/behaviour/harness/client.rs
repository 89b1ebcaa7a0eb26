//! A raw HTTP client, which sends exactly the bytes it is told to, and keeps everything that comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::DEADLINE;

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// One response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The names and values as sent, in order.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the value of a field, whatever the case of its name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is sent twice: {:?}", self.fields);
        value
    }

    /// Returns the length that the head promises.
    pub(crate) fn content_length(&self) -> usize {
        self.field("Content-Length").expect("a length").parse().unwrap()
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Returns the `detail` of a problem document, after checking that it is one for this status.
    pub(crate) fn problem(&self) -> String {
        self.problem_document()["detail"].as_str().unwrap().to_owned()
    }

    /// Returns the registered kind of problem: the text behind the `#` in `type`, and nothing for `about:blank`.
    pub(crate) fn problem_kind(&self) -> String {
        let uri = self.problem_document()["type"].as_str().unwrap().to_owned();
        uri.split_once('#').map_or(String::new(), |(_, kind)| kind.to_owned())
    }

    /// Returns a problem document with all its members, after checking that it is one for this status.
    pub(crate) fn problem_document(&self) -> serde_json::Value {
        let content_type = self.field("Content-Type");
        assert_eq!(content_type, Some("application/problem+json"), "{} {}", self.status, self.text());
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], self.status, "{document}");
        assert!(document["title"].is_string() && document["detail"].is_string(), "{document}");
        document
    }
}

impl Connection {
    /// Opens a connection.
    pub(crate) fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, received: Vec::new() }
    }

    /// Connects from this address, with a receive buffer as [`Connection::open_slow`] has it.
    pub(crate) fn open_slow_from(
        source: &str,
        address: SocketAddr,
        receive_buffer_bytes: usize,
    ) -> Connection {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(receive_buffer_bytes).unwrap();
        socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Connection { stream: socket.into(), received: Vec::new() }
    }

    /// Connects with a receive buffer of about `receive_buffer_bytes`, so that a transfer stays in flight for as
    /// long as nothing is read.
    pub(crate) fn open_slow(address: SocketAddr, receive_buffer_bytes: usize) -> Connection {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        // The buffer is set before the connect, when the window is agreed on (tcp(7)).
        socket.set_recv_buffer_size(receive_buffer_bytes).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Connection { stream: socket.into(), received: Vec::new() }
    }

    /// Connects from `source`, an address of this host.
    pub(crate) fn open_from(source: [u8; 4], address: SocketAddr) -> Connection {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        Connection { stream: socket.into(), received: Vec::new() }
    }

    /// The socket.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes that the peer may not take to the end.
    pub(crate) fn send_in_vain(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends our direction.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Receives exactly `count` bytes.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(
                self.receive_more(),
                "the connection ended after {} of {count} bytes",
                self.received.len()
            );
        }
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }

    /// Receives until the peer closes; panics on a reset.
    pub(crate) fn receive_to_end(&mut self) -> Vec<u8> {
        while self.receive_more() {}
        std::mem::take(&mut self.received)
    }

    /// Receives until the connection is over, in order or by a reset.
    pub(crate) fn receive_what_comes(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match uninterrupted(|| self.stream.read(&mut buffer)) {
                Ok(0) => break,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "the connection stays");
                    break;
                }
            }
        }
        std::mem::take(&mut self.received)
    }

    /// Receives until the connection is reset; panics where it ends in order.
    pub(crate) fn receive_to_reset(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match uninterrupted(|| self.stream.read(&mut buffer)) {
                Ok(0) => panic!("a clean end after {} bytes", self.received.len()),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    return std::mem::take(&mut self.received);
                }
            }
        }
    }

    /// Whether the peer closes without another byte, in order or by a reset.
    pub(crate) fn ends(&mut self) -> bool {
        let mut byte = [0];
        let is_gone = match uninterrupted(|| self.stream.read(&mut byte)) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        self.received.is_empty() && is_gone
    }

    /// Whether nothing comes for `time`, not even an end.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        let result = uninterrupted(|| self.stream.peek(&mut byte));
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.received.is_empty() && result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Receives one response to `method`.
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        let mut response = self.head();
        // Answers of 1xx and these statuses have no body, whatever their fields say (RFC 9112 6.3).
        if method != "HEAD" && response.status >= 200 && !matches!(response.status, 204 | 304) {
            response.body = match response.field("Transfer-Encoding") {
                Some(coding) => {
                    assert_eq!(coding, "chunked");
                    assert_eq!(response.field("Content-Length"), None);
                    self.chunks()
                }
                None => self.receive(response.content_length()),
            };
        }
        response
    }

    /// Receives a body in chunks, without extensions and trailers, to its last.
    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = self.receive(1);
            while !line.ends_with(b"\r\n") {
                line.extend(self.receive(1));
            }
            let length = std::str::from_utf8(&line).unwrap().trim_end();
            let length = usize::from_str_radix(length, 16).unwrap();
            body.extend(self.receive(length));
            assert_eq!(self.receive(2), b"\r\n");
            if length == 0 {
                return body;
            }
        }
    }

    /// Receives the head of a response.
    pub(crate) fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            let so_far = String::from_utf8_lossy(&self.received).into_owned();
            assert!(self.receive_more(), "the connection ended inside a head: {so_far:?}");
        };
        let head = String::from_utf8(self.receive(end + 4)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Response { status, fields, body: Vec::new() }
    }

    fn receive_more(&mut self) -> bool {
        let mut buffer = vec![0; 1 << 20];
        let count = uninterrupted(|| self.stream.read(&mut buffer)).unwrap();
        self.received.extend_from_slice(&buffer[..count]);
        count > 0
    }
}

/// Makes a socket call, and repeats it where a ring that this thread has just dropped interrupts it (the probe of
/// a daemon that starts; seen on 6.18).
fn uninterrupted(mut call: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Makes a request that keeps its connection, with further field lines, each ended by CRLF.
pub(crate) fn request_text(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// Sends a GET of `path` with further field lines, each ended by CRLF.
pub(crate) fn get(address: SocketAddr, path: &str, fields: &str) -> Response {
    request(address, "GET", path, fields)
}

/// Sends one request on a connection of its own, which must end after the answer.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, fields: &str) -> Response {
    let mut connection = Connection::open(address);
    connection
        .send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"));
    let response = connection.response_to(method);
    let rest = connection.receive_to_end();
    assert!(rest.is_empty(), "more than one answer: {:?}", String::from_utf8_lossy(&rest));
    response
}
