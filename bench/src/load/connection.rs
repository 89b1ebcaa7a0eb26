//! A connection of a load: it connects, does the work again and again, counts, and ends when told to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio_uring::net::TcpStream;

use super::client::Client;
use super::exchange::Exchange;
use super::frames;
use super::operation::{self, pause};
use super::upload;
use super::work::{Answer, ConnectionWork};
use crate::fixture::push_out;

/// The pause after a failure, so that a dead server isn't hammered.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The number of failures in a row after which a connection gives up.
const FAILURES_MAX: usize = 20;

/// Does the load's work until told to end. `index` counts within the thread, `number` over all.
pub(super) async fn run(client: Rc<Client>, index: usize, number: usize) {
    let mut failures = 0;
    while !client.phase.is_stopping() && failures < FAILURES_MAX {
        match serve(&client, index, number).await {
            Ok(()) => failures = 0,
            Err(error) => {
                if client.phase.is_stopping() {
                    break;
                }
                failures += 1;
                client.tally.borrow_mut().failed(describe(&error));
                let _ = pause(RETRY_PAUSE).await;
            }
        }
    }
    client.streams.borrow_mut()[index] = None;
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed early".to_owned(),
        _ => error.to_string(),
    }
}

/// Serves one connection from connect to close.
async fn serve(client: &Rc<Client>, index: usize, number: usize) -> io::Result<()> {
    // The first request of a connection is its warm-up, which waits for no schedule: with a slow one most connections
    // would have had no answer when the clock is to start.
    let is_first = client.streams.borrow()[index].is_none();
    let start = match &client.load.work {
        _ if is_first => Some(Instant::now()),
        // The connect belongs to the request where each request has one of its own.
        ConnectionWork::Requests { keep_alive: false, .. } => Some(client.wait_for_start().await?),
        _ => None,
    };
    if client.phase.is_stopping() {
        return Ok(());
    }
    let stream = Rc::new(connect(client, number).await?);
    client.streams.borrow_mut()[index] = Some(Rc::clone(&stream));
    let mut exchange = Exchange::new(Rc::clone(client), stream, index);
    match &client.load.work {
        ConnectionWork::Requests { requests, keep_alive } => {
            let mut turn = number;
            let mut start = start;
            while !client.phase.is_stopping() {
                let begin = match start.take() {
                    Some(begin) => begin,
                    None => client.wait_for_start().await?,
                };
                if client.phase.is_stopping() {
                    break;
                }
                let (head, answer) = &requests[turn % requests.len()];
                exchange.request(head, *answer, begin).await?;
                turn += 1;
                if !keep_alive {
                    return Ok(());
                }
            }
            Ok(())
        }
        ConnectionWork::Cold { pulls } => {
            let mut turn = number;
            while !client.phase.is_stopping() {
                let pull = &pulls[turn % pulls.len()];
                exchange.request(&pull.head, pull.answer, Instant::now()).await?;
                match &pull.file {
                    Some(file) => {
                        if !push_out(file).map_err(io::Error::other)? {
                            client.tally.borrow_mut().pulls_warm += 1;
                        }
                    }
                    None => turn += 1,
                }
            }
            Ok(())
        }
        ConnectionWork::Frames { bytes } => frames::send(&mut exchange, *bytes).await,
        ConnectionWork::Upload(upload) => upload::send(&mut exchange, upload, number).await,
        ConnectionWork::Slow { request, bytes_per_s } => slow(&mut exchange, request, *bytes_per_s).await,
    }
}

/// Holds an idle or slowly reading connection.
async fn slow(exchange: &mut Exchange, request: &(Vec<u8>, Answer), bytes_per_s: u64) -> io::Result<()> {
    const STEP: Duration = Duration::from_millis(100);
    let (head, answer) = request;
    if bytes_per_s == 0 {
        exchange.request(head, *answer, Instant::now()).await?;
        // The connection is idle: nothing but the server's close, or our own at the end, ends this receive.
        return exchange.wait_for_close().await;
    }
    exchange.begin(head, *answer).await?;
    let step_bytes = (bytes_per_s / 10).max(1);
    while !exchange.client().phase.is_stopping() {
        if !exchange.read_some(step_bytes).await? {
            return Ok(());
        }
        pause(STEP).await?;
    }
    Ok(())
}

fn source(client: &Client, number: usize) -> Option<IpAddr> {
    let sources = &client.load.sources;
    (!sources.is_empty()).then(|| sources[number % sources.len()])
}

async fn connect(client: &Client, number: usize) -> io::Result<TcpStream> {
    let _permit = client.connects.acquire().await.map_err(io::Error::other)?;
    let address = client.load.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if !matches!(client.load.work, ConnectionWork::Requests { keep_alive: false, .. }) {
        // The close at the end of the load is a reset: a server would try for a minute to send the rest of a body to a
        // client that is gone, and keep its file in memory. Where each request has a connection, closing is work to
        // be measured.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if let Some(source) = source(client, number) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let stream = operation::connect(socket, address.into()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
