//! The least work that can serve those bytes: blocking calls, a thread for each connection, no request parsed
//! beyond its path, no file looked at twice. The additional cost of a real server is the price of being one.
//!
//! An upload is a loop of recv(2) and write(2) and a rename(2); to show the speed of the disk, it makes and syncs
//! one by itself (POST), without a network.
//!
//! It is not a server for anything else: only its own uploads change files, ranges and other methods are ignored.

mod http;
mod push;
mod put;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::place::Place;
use super::process;
use super::recipe::{Recipe, UploadSupport};
use super::setup::UploadSetup;

/// The hidden subcommand by which the bench starts itself as the ceiling.
pub const SUBCOMMAND: &str = "ceiling-server";

/// The most threads at once; connections above it are closed at once.
const CONNECTIONS_MAX: usize = 16_384;

/// The stack of a connection's thread, in bytes: its largest frame holds a few hundred bytes, buffers are on the
/// heap.
const STACK_BYTES: usize = 128 << 10;

/// The most connections that wait to be accepted; std's listener has 128, too few for thousands that are opened at
/// once.
const BACKLOG: i32 = 4096;

/// The pause after an accept that failed, as for want of descriptors, so that it never spins.
const ACCEPT_REST: Duration = Duration::from_millis(10);

/// Serves the files below `root` on `http_listen` and discards frames on `push_listen`, until the process ends.
///
/// Errors: an address that can't be bound, a root that isn't there.
pub fn serve_ceiling(http_listen: SocketAddr, push_listen: SocketAddr, root: &Path) -> Result<()> {
    process::raise_open_files_limit();
    let root = root.canonicalize().with_context(|| format!("root {}", root.display()))?;
    let files = Arc::new(http::Files::new(root));
    let http_listener = listener(http_listen)?;
    let push_listener = listener(push_listen)?;
    thread::spawn(move || accept(&push_listener, |stream| push::serve(&stream)));
    accept(&http_listener, move |stream| http::serve(&stream, &files));
    Ok(())
}

/// Returns the arguments of [`SUBCOMMAND`].
fn arguments(place: &Place<'_>) -> Vec<String> {
    vec![
        SUBCOMMAND.to_owned(),
        format!("--listen={}", place.http),
        format!("--push-listen={}", place.second),
        format!("--root={}", place.root),
    ]
}

pub(super) fn recipe(place: &Place<'_>) -> Result<Recipe, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("can't find the bench's own program: {error}"))?;
    Ok(Recipe {
        arguments: arguments(place),
        frames: Some(place.second),
        uploads: match place.setup.uploads {
            None => UploadSupport::Refused,
            Some(UploadSetup { durable: false, .. }) => UploadSupport::Taken,
            Some(UploadSetup { durable: true, .. }) => UploadSupport::Made,
        },
        ..Recipe::new(place, program)
    })
}

fn listener(address: SocketAddr) -> Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let open = || -> rustix::io::Result<OwnedFd> {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    Ok(open().with_context(|| format!("listening on {address}"))?.into())
}

/// Gives each connection a thread.
fn accept(listener: &TcpListener, serve: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::park_timeout(ACCEPT_REST);
            continue;
        };
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (serve, counter) = (serve.clone(), Arc::clone(&open));
        let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // A peer that goes away ends its thread and nothing else.
            let _ = serve(stream);
            counter.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
