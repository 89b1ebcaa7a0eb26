//! Uploads as the tests make them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use streamd::config::{Durability, Settings};

use super::client::{Connection, Response};
use super::daemon::{TestDaemon, drivers, settings};
use super::files::Fixture;

/// The least of a broken plain PUT that is kept, in bytes.
pub(crate) const MIB: usize = 1 << 20;

/// Returns settings under which `root` takes uploads. They avoid the disk's own time and its free space, which
/// most tests aren't about.
pub(crate) fn uploading(root: &Path) -> Settings {
    Settings {
        root: Some(root.to_owned()),
        uploads: true,
        durability: Durability::None,
        min_free_bytes: 0,
        min_free_inodes: 0,
        ..settings()
    }
}

/// Runs `test` on every driver at once, each with a root of its own, with the settings that `change` makes of those of
/// [`uploading`].
pub(crate) fn each_uploading(
    change: impl Fn(Settings) -> Settings + Sync,
    test: impl Fn(&TestDaemon, &Fixture) + Sync,
) {
    std::thread::scope(|scope| {
        for driver in drivers() {
            let (change, test) = (&change, &test);
            let run = move || {
                let fixture = Fixture::new();
                let settings = Settings { driver, ..change(uploading(fixture.path())) };
                test(&TestDaemon::start(settings), &fixture);
            };
            // The thread's name is what a failed assertion prints.
            std::thread::Builder::new().name(format!("{driver:?}")).spawn_scoped(scope, run).unwrap();
        }
    });
}

/// Makes a request with a body and its length, which keeps its connection; `fields` are further lines, each ended
/// by CRLF.
pub(crate) fn write_text(method: &str, path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

/// Makes a PUT as [`write_text`] does.
pub(crate) fn put_text(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    write_text("PUT", path, fields, body)
}

/// Sends one request with a body, on a connection of its own.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, fields: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    connection.send(write_text(method, path, fields, body));
    connection.response_to(method)
}

/// Sends a PUT as [`send`] does.
pub(crate) fn put(address: SocketAddr, path: &str, fields: &str, body: &[u8]) -> Response {
    send(address, "PUT", path, fields, body)
}

/// Splits a body into chunks of at most `chunk_bytes`, with its end.
pub(crate) fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut chunks = Vec::with_capacity(body.len() + body.len() / chunk_bytes * 16 + 64);
    for chunk in body.chunks(chunk_bytes) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

/// Returns the partials that lie in the staging directory below `root`, and their lengths.
pub(crate) fn partials(root: &Path) -> Vec<(PathBuf, u64)> {
    const ID_DIGITS: usize = 32;
    let Ok(entries) = std::fs::read_dir(root.join(".streamd-uploads")) else { return Vec::new() };
    let entries = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        // A partial that is published or removed at this moment has no length.
        let length = entry.metadata().ok()?.len();
        (entry.file_name().len() == ID_DIGITS).then(|| (entry.path(), length))
    });
    entries.collect()
}
