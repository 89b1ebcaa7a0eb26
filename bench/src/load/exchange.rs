//! A request and its answer, which is verified.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use tokio_uring::net::TcpStream;

use super::client::Client;
use super::operation::discard;
use super::work::{Answer, ClientMode};

/// The bytes of the buffer: room for a response head and a short body, so that one receive brings both.
const BUFFER_BYTES: usize = 16 << 10;

/// The bytes received at a time where the client reads them.
const READ_BYTES: usize = 256 << 10;

/// The most header fields of an answer.
const FIELDS_MAX: usize = 64;

/// The exchanges of one connection.
pub(super) struct Exchange {
    client: Rc<Client>,
    stream: Rc<TcpStream>,
    /// The number of the connection within the thread.
    index: usize,
    buffer: Vec<u8>,
    /// The body bytes of the current answer that are still to come.
    body_left: u64,
    is_warm: bool,
}

/// The head of a response.
struct Head {
    status: u16,
    head_bytes: usize,
    content_length: u64,
}

impl Exchange {
    pub(super) fn new(client: Rc<Client>, stream: Rc<TcpStream>, index: usize) -> Exchange {
        Exchange {
            client,
            stream,
            index,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            body_left: 0,
            is_warm: false,
        }
    }

    pub(super) fn client(&self) -> &Rc<Client> {
        &self.client
    }

    pub(super) fn stream(&self) -> &Rc<TcpStream> {
        &self.stream
    }

    /// Sends a request, receives the whole answer and counts it. The latency is measured from `begin`.
    pub(super) async fn request(&mut self, head: &[u8], answer: Answer, begin: Instant) -> io::Result<()> {
        self.begin(head, answer).await?;
        match answer {
            Answer::Body { .. } => self.receive_body().await?,
            Answer::Stream { bytes } => self.receive_stream_report(bytes).await?,
        }
        self.answered(begin);
        Ok(())
    }

    /// Sends a request and receives the head of its answer, which must promise what was expected.
    pub(super) async fn begin(&mut self, head: &[u8], answer: Answer) -> io::Result<()> {
        self.send_head(head).await?;
        let found = self.receive_head().await?;
        if found.status != 200 && found.status != 206 {
            return Err(wrong(format!("status {}", found.status)));
        }
        if let Answer::Body { bytes } = answer
            && found.content_length != bytes
        {
            return Err(wrong(format!("Content-Length {} instead of {bytes}", found.content_length)));
        }
        self.buffer.drain(..found.head_bytes);
        let here = self.buffer.len() as u64;
        if here > found.content_length {
            return Err(wrong("more bytes than Content-Length says".to_owned()));
        }
        self.body_left = found.content_length - here;
        if matches!(answer, Answer::Body { .. }) {
            self.count_bytes(here);
            // The whole body may take longer than anybody wants to wait for the clock to start; its first bytes show
            // that the server has begun to read it, and not just its metadata.
            if here > 0 || self.body_left == 0 {
                self.mark_warm();
            }
        }
        Ok(())
    }

    pub(super) async fn send_head(&self, head: &[u8]) -> io::Result<()> {
        let (result, _) = self.stream.write_all(head.to_vec()).await;
        result
    }

    /// Receives a head, which stays in the buffer with the bytes that came behind it.
    async fn receive_head(&mut self) -> io::Result<Head> {
        self.buffer.clear();
        loop {
            self.receive_into_buffer().await?;
            if let Some(found) = parse(&self.buffer)? {
                return Ok(found);
            }
        }
    }

    /// Receives the whole answer to an upload, which must say that the body has its name now.
    pub(super) async fn receive_stored(&mut self) -> io::Result<()> {
        let found = self.receive_head().await?;
        if found.status != 201 && found.status != 204 {
            return Err(wrong(format!("status {}", found.status)));
        }
        let whole = found.head_bytes as u64 + found.content_length;
        while (self.buffer.len() as u64) < whole {
            self.receive_into_buffer().await?;
        }
        Ok(())
    }

    /// Whether the connection has had an answer, or the first bytes of a body.
    pub(super) fn is_warm(&self) -> bool {
        self.is_warm
    }

    pub(super) fn mark_warm(&mut self) {
        if !std::mem::replace(&mut self.is_warm, true) {
            self.client.warm.set(self.client.warm.get() + 1);
        }
    }

    /// Receives the rest of a body.
    async fn receive_body(&mut self) -> io::Result<()> {
        while self.body_left > 0 {
            self.read_some(u64::MAX).await?;
        }
        Ok(())
    }

    /// Receives up to `bytes_max` bytes of the body; false where it is whole.
    pub(super) async fn read_some(&mut self, bytes_max: u64) -> io::Result<bool> {
        if self.body_left == 0 {
            return Ok(false);
        }
        let wanted = self.body_left.min(bytes_max);
        let count = match self.client.load.mode {
            ClientMode::Discard => discard(&self.stream, &self.client.discard, wanted).await?,
            ClientMode::Read => self.read(wanted).await?,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.body_left -= count;
        self.mark_warm();
        self.count_bytes(count);
        Ok(true)
    }

    async fn read(&mut self, wanted: u64) -> io::Result<u64> {
        let length = usize::try_from(wanted).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve_exact(READ_BYTES);
        let (result, slice) = self.stream.read(tokio_uring::buf::BoundedBuf::slice(buffer, 0..length)).await;
        self.buffer = slice.into_inner();
        result.map(|count| count as u64)
    }

    /// Receives a control plane's answer, which must say that the whole stream was sent.
    async fn receive_stream_report(&mut self, bytes: u64) -> io::Result<()> {
        while self.body_left > 0 {
            let before = self.buffer.len();
            self.receive_into_buffer().await?;
            self.body_left = self.body_left.saturating_sub((self.buffer.len() - before) as u64);
        }
        let report: serde_json::Value = serde_json::from_slice(&self.buffer)?;
        if report["bytes_sent"] != bytes {
            return Err(wrong(format!("bytes_sent {} instead of {bytes}", report["bytes_sent"])));
        }
        self.count_bytes(bytes);
        Ok(())
    }

    /// Waits until the peer closes.
    pub(super) async fn wait_for_close(&mut self) -> io::Result<()> {
        match discard(&self.stream, &self.client.discard, 1).await? {
            0 if self.client.phase.is_stopping() => Ok(()),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(wrong("bytes that nobody asked for".to_owned())),
        }
    }

    /// Counts an answer, or a frame that was acknowledged.
    pub(super) fn answered(&mut self, begin: Instant) {
        self.mark_warm();
        if self.client.phase.is_counting() {
            self.client.tally.borrow_mut().answered(begin.elapsed());
        }
    }

    /// Counts an upload that began while the clock ran, as a whole.
    pub(super) fn stored(&self, begin: Instant, bytes: u64) {
        let mut tally = self.client.tally.borrow_mut();
        tally.answered(begin.elapsed());
        tally.bytes += bytes;
        tally.connection_bytes[self.index] += bytes;
    }

    /// Notes that bytes were sent, so that the connection doesn't count as stuck.
    pub(super) fn moved(&self, bytes: u64) {
        self.client.bytes_moved.set(self.client.bytes_moved.get() + bytes);
    }

    /// Counts payload bytes.
    pub(super) fn count_bytes(&self, bytes: u64) {
        if self.client.phase.is_counting() {
            let mut tally = self.client.tally.borrow_mut();
            tally.bytes += bytes;
            tally.connection_bytes[self.index] += bytes;
        }
    }

    async fn receive_into_buffer(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let filled = buffer.len();
        if filled >= BUFFER_BYTES {
            return Err(wrong("an answer head longer than 16 KiB".to_owned()));
        }
        buffer.reserve_exact(BUFFER_BYTES - filled);
        let (result, slice) =
            self.stream.read(tokio_uring::buf::BoundedBuf::slice(buffer, filled..BUFFER_BYTES)).await;
        self.buffer = slice.into_inner();
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Makes the error of a server that answers, but wrongly.
fn wrong(what: String) -> io::Error {
    io::Error::other(what)
}

/// Reads a response's head; None while it isn't whole.
fn parse(buffer: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(buffer).map_err(|error| wrong(format!("no HTTP answer: {error}")))?;
    let httparse::Status::Complete(head_bytes) = parsed else { return Ok(None) };
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    let status = response.code.unwrap_or(0);
    // 204 has no body (RFC 9110, 15.3.5).
    let length = if status == 204 { Some(0) } else { length };
    let content_length = length.ok_or_else(|| wrong("an answer without Content-Length".to_owned()))?;
    Ok(Some(Head { status, head_bytes, content_length }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn heads() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n").unwrap().is_none());
        let head = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap().unwrap();
        assert_eq!((head.status, head.content_length, head.head_bytes), (200, 5, 38));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        let stored = parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((stored.status, stored.content_length), (204, 0));
        assert!(parse(b"done").is_err() || parse(b"done").unwrap().is_none());
    }
}
