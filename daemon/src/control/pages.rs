//! Bodies that wait for their readers: a list of streams is written page by page as it is read, and a body that is
//! written at once has its place in the budget for as long as any of it is left.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body, Frame};

use super::registry::StreamRegistry;
use crate::limits::Reserved;
use crate::protocol::http1::request::HEAD_BYTES_MAX;

/// The length from which a page is long enough, in bytes.
const PAGE_BYTES: usize = 4 << 10;

/// The memory of one list, in bytes: hyper asks for a page while it holds less than its buffer's size
/// (`HEAD_BYTES_MAX`, hyper 1.12), and a page ends with the stream that passes its length, whose name may be twice
/// as long where all of it is escaped.
pub(super) const PAGES_BYTES_MAX: usize = HEAD_BYTES_MAX + 2 * PAGE_BYTES;

/// A list of streams that is sent in pages.
pub(super) struct StreamPages {
    registry: Arc<StreamRegistry>,
    room: Arc<Reserved>,
    /// The first page, written before the head was.
    first: Option<Vec<u8>>,
    /// The number below which the list goes on; None once all is written.
    end: Option<u64>,
}

impl StreamPages {
    /// Writes all streams, as the one page that they fit, or as several.
    pub(super) fn of(registry: Arc<StreamRegistry>, room: Reserved) -> Either<Bytes, StreamPages> {
        let mut page = vec![b'['];
        let end = write(&registry, u64::MAX, &mut page);
        let room = Arc::new(room);
        if end.is_none() {
            return Either::Left(waiting(page, room));
        }
        Either::Right(StreamPages { registry, room, first: Some(page), end })
    }

    fn next_page(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut page = vec![b','];
        self.end = write(&self.registry, self.end?, &mut page);
        // The streams that were left have been forgotten meanwhile.
        if page == b",]\n" {
            page.remove(0);
        }
        Some(page)
    }
}

impl Body for StreamPages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let page = this.next_page();
        Poll::Ready(page.map(|page| Ok(Frame::data(waiting(page, Arc::clone(&this.room))))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.end.is_none()
    }
}

/// Appends streams whose numbers are below `end` to `page` until it is long enough, and the end of the list behind
/// the last. Returns the number below which the list goes on.
fn write(registry: &StreamRegistry, end: u64, page: &mut Vec<u8>) -> Option<u64> {
    let begun_bytes = page.len();
    let end = registry.show_below(end, |stream| {
        if page.len() > begun_bytes {
            page.push(b',');
        }
        // Structs of strings and numbers always have a JSON form, and writing to memory can't fail.
        let _ = serde_json::to_writer(&mut *page, stream);
        page.len() < PAGE_BYTES
    });
    if end.is_none() {
        page.extend_from_slice(b"]\n");
    }
    end
}

/// Makes bytes that hold their place in the budget until hyper has sent the last of them, even when the body is
/// long gone.
pub(super) fn waiting(text: impl AsRef<[u8]> + Send + 'static, room: Arc<Reserved>) -> Bytes {
    struct Waiting<T> {
        text: T,
        _room: Arc<Reserved>,
    }
    impl<T: AsRef<[u8]>> AsRef<[u8]> for Waiting<T> {
        fn as_ref(&self) -> &[u8] {
            self.text.as_ref()
        }
    }
    Bytes::from_owner(Waiting { text, _room: room })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::Either;

    use super::{PAGE_BYTES, PAGES_BYTES_MAX, StreamPages};
    use crate::control::registry::{ENDED_STREAMS_MAX, StreamRegistry};
    use crate::limits::{Budget, Plane, Shares};
    use crate::telemetry::{LogQueue, Telemetry};

    fn end_streams(registry: &Arc<StreamRegistry>, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let share = Arc::<Shares>::default().take(None, 1, 1).unwrap();
            let slot = registry.reserve(usize::MAX, share).unwrap();
            let target = "127.0.0.1:1".parse().unwrap();
            slot.start(number.to_string(), "synthetic", target, Arc::default()).end(&Ok("copy")).unwrap();
        }
    }

    fn several(pages: Either<Bytes, StreamPages>) -> StreamPages {
        match pages {
            Either::Left(_) => panic!("one page holds all"),
            Either::Right(pages) => pages,
        }
    }

    fn ids(pages: StreamPages, first: Vec<u8>) -> Vec<usize> {
        let mut pages = pages;
        let mut text = first;
        while let Some(page) = pages.next_page() {
            assert!(page.len() < 2 * PAGE_BYTES);
            text.extend(page);
        }
        let streams: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        streams.iter().map(|stream| stream["id"].as_str().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn a_list_goes_on_where_it_was_whatever_ends_meanwhile() {
        let budget = Arc::<Budget>::default();
        let room = || budget.reserve(Plane::Control, PAGES_BYTES_MAX as u64, u64::MAX).unwrap();
        let registry = StreamRegistry::new(Telemetry::new(0, "epoll", LogQueue::nowhere()));
        end_streams(&registry, 0..100);
        let mut one = several(StreamPages::of(Arc::clone(&registry), room()));
        let mut other = several(StreamPages::of(Arc::clone(&registry), room()));
        let (first_of_one, first_of_other) = (one.next_page().unwrap(), other.next_page().unwrap());
        // Younger streams don't get in between.
        end_streams(&registry, 100..110);
        assert_eq!(ids(one, first_of_one), (0..100).rev().collect::<Vec<_>>());
        // All streams that were left are forgotten.
        end_streams(&registry, 110..100 + ENDED_STREAMS_MAX);
        let shown = ids(other, first_of_other);
        assert!(!shown.is_empty() && shown.len() < 100, "{shown:?}");
        assert_eq!(shown, (100 - shown.len()..100).rev().collect::<Vec<_>>());
        assert_eq!(budget.taken_bytes(), 0);
    }
}
