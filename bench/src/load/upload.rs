//! Uploads: each connection sends bodies to a name of its own, again and again.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::body::Body;
use super::exchange::Exchange;
use super::operation::pause;
use super::phase::{InFlight, Phase};
use super::work::{Counted, Source, Upload};

/// The interval at which a connection that is ready looks whether the clock runs.
const CLOCK_CHECK: Duration = Duration::from_millis(1);

/// The uploads of each connection before it waits for the clock, where whole ones are counted. While the second
/// arrives the first still exists: from then on no more memory is needed, which is slow to touch when a virtual
/// machine has it fresh from its host (here 2.5 s for 1 GiB instead of 0.4).
const UPLOADS_UNCOUNTED: u64 = 2;

/// Sends uploads until told to end.
pub(super) async fn send(exchange: &mut Exchange, upload: &Upload, number: usize) -> io::Result<()> {
    let client = Rc::clone(exchange.client());
    let head = upload.head(client.load.address, number);
    let mut in_flight = None;
    while !client.phase.is_stopping() {
        if exchange.is_warm() && upload.counted == Counted::Whole {
            in_flight = wait_for_clock(&client.phase).await?;
            if in_flight.is_none() {
                break;
            }
        }
        let begin = Instant::now();
        let count = client.tally.borrow_mut().begin_upload(number);
        exchange.send_head(&head).await?;
        if upload.source == Source::Client {
            send_body(exchange, Body::new(number, count, upload.bytes), upload.counted).await?;
        }
        exchange.receive_stored().await?;
        client.tally.borrow_mut().stored(number, count);
        match upload.counted {
            Counted::Whole if in_flight.is_some() => exchange.stored(begin, upload.bytes),
            Counted::Whole if count + 1 >= UPLOADS_UNCOUNTED => exchange.mark_warm(),
            Counted::Whole => {}
            Counted::Bytes => exchange.answered(begin),
        }
        in_flight = None;
    }
    Ok(())
}

/// Waits until the clock runs, and begins an upload then. None where the load ends before it runs again.
async fn wait_for_clock(phase: &Phase) -> io::Result<Option<InFlight<'_>>> {
    while !phase.is_stopping() {
        if let Some(in_flight) = phase.begin_whole() {
            return Ok(Some(in_flight));
        }
        pause(CLOCK_CHECK).await?;
    }
    Ok(None)
}

async fn send_body(exchange: &mut Exchange, mut body: Body, counted: Counted) -> io::Result<()> {
    while body.left() > 0 {
        let (result, _) = exchange.stream().write(body.next_bytes()).submit().await;
        match result {
            Ok(sent) => {
                body.advance(sent);
                exchange.moved(sent as u64);
                if counted == Counted::Bytes {
                    exchange.count_bytes(sent as u64);
                    // A slow device may take longer for a body than anybody wants to wait for the clock to start.
                    exchange.mark_warm();
                }
            }
            Err(error) => return Err(refusal(exchange).await.unwrap_or(error)),
        }
    }
    Ok(())
}

/// Receives the answer of a server that doesn't take a body to its end.
async fn refusal(exchange: &mut Exchange) -> Option<io::Error> {
    match exchange.receive_stored().await {
        Ok(()) => Some(io::Error::other("an answer before the end of the body")),
        // The error only shows that the connection is gone.
        Err(error) if error.kind() != io::ErrorKind::Other => None,
        Err(error) => Some(error),
    }
}
