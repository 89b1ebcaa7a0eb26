//! Tests of a file system whose operations fail: an upload never succeeds over it, and the former file stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fuser::Errno;
use streamd::config::{Durability, Settings};

use crate::harness::uploads::{
    connect, exchange, longest_partial, offset_of, partials, put, put_head, put_rest, taking_uploads,
    try_put, try_put_chunked,
};
use crate::harness::{
    Caching, Connection, FaultyFs, Operation, Random, TestDaemon, chunked, get, request_text, sha256,
    wait_until, write_text,
};

/// The bytes of a body longer than a piece of write-back (8 MiB), and than the blocks allocated ahead.
const LONG_BYTES: usize = 9 << 20;

const SHORT_BYTES: usize = 10_000;

/// The errors of operations, and the statuses that are answered then.
const ERRORS: [(Errno, u16); 3] = [(Errno::EIO, 500), (Errno::EDQUOT, 507), (Errno::ENOSPC, 507)];

fn content_of(file_system: &FaultyFs, name: &str) -> Vec<u8> {
    std::fs::read(file_system.path().join(name)).unwrap()
}

/// Returns the length of all files below a directory that have a name. Those without one are gone once the last
/// descriptor is.
fn named_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    // A file that is removed at this moment is left out.
    let kinds = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    kinds.map(|(path, metadata)| if metadata.is_dir() { named_bytes(&path) } else { metadata.len() }).sum()
}

/// Starts a daemon on a file system with `/file`; None where FUSE can't be had.
fn start(caching: Caching, durability: Durability) -> Option<(FaultyFs, TestDaemon)> {
    start_with(caching, durability, 0)
}

fn start_with(
    caching: Caching,
    durability: Durability,
    direct_bytes_min: u64,
) -> Option<(FaultyFs, TestDaemon)> {
    let file_system = FaultyFs::mount(caching)?;
    std::fs::write(file_system.path().join("file"), b"before").unwrap();
    let settings = Settings { durability, direct_bytes_min, ..taking_uploads(file_system.path()) };
    // The order matters: bound in one pattern, the last is dropped first, and the daemon has files open.
    Some((file_system, TestDaemon::start(settings)))
}

/// Makes `operation` fail in the middle of uploads long and short, with their length and in chunks, and asserts
/// that each is refused with the right status and leaves nothing.
fn assert_fails(
    (daemon, file_system): (&TestDaemon, &FaultyFs),
    operation: Operation,
    after: usize,
    lengths: &[usize],
) {
    for (errno, status) in ERRORS {
        for length in lengths {
            for is_chunked in [false, true] {
                let context = format!("{operation:?} {errno:?} of {length}, chunked {is_chunked}");
                let content = vec![b'x'; *length];
                file_system.fail(operation, errno, after);
                let response = if is_chunked {
                    try_put_chunked(daemon.data(), "/file", &content).unwrap()
                } else {
                    put(daemon.data(), "/file", &content)
                };
                // An error of write-back that fsync(2) doesn't report becomes ENOSPC or else EIO
                // (filemap_check_errors in mm/filemap.c, 6.18).
                let is_hidden = file_system.caching() == Caching::Back && errno == Errno::EDQUOT;
                let is_right = response.status == status || is_hidden && response.status == 500;
                assert!(is_right, "{context}: {} {}", response.status, response.text());
                assert!(!response.problem().is_empty(), "{context}");
                file_system.heal();
                assert_eq!(content_of(file_system, "file"), b"before", "{context}");
                assert_eq!(get(daemon.data(), "/file", "").body, b"before", "{context}");
                assert_eq!(partials(file_system.path()), [] as [PathBuf; 0], "{context}");
                wait_until("the space to be given back", || {
                    file_system.used_bytes() == named_bytes(file_system.path())
                });
            }
        }
    }
    // The daemon holds nothing of it either.
    assert_eq!(
        put(daemon.data(), "/other", b"other").status,
        if operation == Operation::Create { 201 } else { 204 }
    );
}

#[test]
fn the_file_system_itself_takes_uploads() {
    for caching in [Caching::Through, Caching::Back] {
        let Some((file_system, daemon)) = start(caching, Durability::Fsync) else { return };
        let content = Random::seeded().bytes(LONG_BYTES);
        assert_eq!(put(daemon.data(), "/new", &content).status, 201);
        assert_eq!(put(daemon.data(), "/file", &content[..SHORT_BYTES]).status, 204);
        let create = "If-None-Match: *\r\n";
        assert_eq!(try_put(daemon.data(), "/file", create, b"late").unwrap().status, 412);
        assert_eq!(try_put(daemon.data(), "/third", create, b"third").unwrap().status, 201);
        assert!(content_of(&file_system, "new") == content, "{caching:?}");
        assert_eq!(content_of(&file_system, "file"), &content[..SHORT_BYTES], "{caching:?}");
        assert_eq!(sha256(&get(daemon.data(), "/new", "").body), sha256(&content), "{caching:?}");
        assert_eq!(file_system.used_bytes(), (LONG_BYTES + SHORT_BYTES + 5) as u64, "{caching:?}");
    }
}

#[test]
fn operations_that_fail_at_once_fail_the_upload() {
    for durability in [Durability::Fsync, Durability::None] {
        let Some((file_system, daemon)) = start(Caching::Through, durability) else { return };
        for operation in [Operation::Create, Operation::Write, Operation::SetAttributes, Operation::Rename] {
            assert_fails((&daemon, &file_system), operation, 0, &[SHORT_BYTES, LONG_BYTES]);
        }
    }
}

#[test]
fn writes_that_fail_in_the_middle_and_at_the_end_fail_the_upload() {
    let Some((file_system, daemon)) = start(Caching::Through, Durability::Fsync) else { return };
    put(daemon.data(), "/other", b"other");
    for after in [1, LONG_BYTES / 2, LONG_BYTES - 1] {
        assert_fails((&daemon, &file_system), Operation::Write, after, &[LONG_BYTES]);
    }
    assert_fails((&daemon, &file_system), Operation::Write, SHORT_BYTES - 1, &[SHORT_BYTES]);
}

/// Each write tells the error, whatever the file system caches otherwise.
#[test]
fn writes_past_the_page_cache_that_fail_fail_the_upload() {
    for caching in [Caching::Through, Caching::Back] {
        let Some((file_system, daemon)) = start_with(caching, Durability::Fsync, 1 << 20) else { return };
        assert_eq!(put(daemon.data(), "/other", &vec![b'o'; LONG_BYTES]).status, 201);
        if daemon.count(|worker| worker.bytes_uploaded_direct.get()) == 0 {
            eprintln!("skipped: no direct writes to FUSE");
            return;
        }
        put(daemon.data(), "/other", b"other");
        for after in [0, 1, LONG_BYTES / 2, LONG_BYTES - 1] {
            assert_fails((&daemon, &file_system), Operation::Write, after, &[LONG_BYTES]);
        }
        assert_fails((&daemon, &file_system), Operation::Sync, 0, &[LONG_BYTES]);
    }
}

#[test]
fn writing_back_that_fails_fails_the_upload() {
    let Some((file_system, daemon)) = start(Caching::Back, Durability::Fsync) else { return };
    put(daemon.data(), "/other", b"other");
    // Long uploads are told on the way, short ones by the sync.
    assert_fails((&daemon, &file_system), Operation::Write, 0, &[SHORT_BYTES, LONG_BYTES]);
    assert_fails((&daemon, &file_system), Operation::Write, LONG_BYTES / 2, &[LONG_BYTES]);
}

#[test]
fn a_sync_that_fails_fails_the_upload() {
    for caching in [Caching::Through, Caching::Back] {
        let Some((file_system, daemon)) = start(caching, Durability::Fsync) else { return };
        put(daemon.data(), "/other", b"other");
        assert_fails((&daemon, &file_system), Operation::Sync, 0, &[0, SHORT_BYTES, LONG_BYTES]);
    }
}

/// The file has its name by then: whether it keeps it in a crash isn't known, and so this is no success.
#[test]
fn a_sync_of_the_directory_that_fails_is_no_success() {
    let Some((file_system, daemon)) = start(Caching::Through, Durability::Fsync) else { return };
    for (errno, status) in ERRORS {
        std::fs::write(file_system.path().join("file"), b"before").unwrap();
        file_system.fail(Operation::SyncDirectory, errno, 0);
        assert_eq!(put(daemon.data(), "/file", b"after").status, status, "{errno:?}");
        file_system.heal();
        assert!(
            [&b"before"[..], b"after"].contains(&content_of(&file_system, "file").as_slice()),
            "{errno:?}"
        );
        assert_eq!(partials(file_system.path()), [] as [PathBuf; 0], "{errno:?}");
        assert_eq!(put(daemon.data(), "/file", b"again").status, 204, "{errno:?}");
        assert_eq!(get(daemon.data(), "/file", "").body, b"again", "{errno:?}");
    }
}

/// A synced file needs nothing of close(2), and any other was promised to be in memory alone.
#[test]
fn a_close_that_fails_takes_nothing_back() {
    for durability in [Durability::Fsync, Durability::None] {
        let Some((file_system, daemon)) = start(Caching::Through, durability) else { return };
        let content = Random::seeded().bytes(LONG_BYTES);
        file_system.fail(Operation::Flush, Errno::EIO, 0);
        assert_eq!(put(daemon.data(), "/file", &content).status, 204);
        file_system.heal();
        assert!(content_of(&file_system, "file") == content);
    }
}

#[test]
fn a_quota_is_told_before_the_body() {
    let Some((file_system, daemon)) = start(Caching::Through, Durability::Fsync) else { return };
    for (errno, status) in ERRORS {
        file_system.fail(Operation::Allocate, errno, 0);
        // No byte of the body is written.
        file_system.fail(Operation::Write, Errno::EBADF, 0);
        assert_eq!(put(daemon.data(), "/file", &vec![b'x'; LONG_BYTES]).status, status, "{errno:?}");
        file_system.heal();
        assert_eq!(content_of(&file_system, "file"), b"before", "{errno:?}");
        assert_eq!(partials(file_system.path()), [] as [PathBuf; 0], "{errno:?}");
    }
    // Where nothing can be allocated ahead, the writes tell.
    file_system.fail(Operation::Allocate, Errno::EOPNOTSUPP, 0);
    assert_eq!(put(daemon.data(), "/file", &vec![b'x'; LONG_BYTES]).status, 204);
}

/// The beginning has to be read again for the digest, and can't be.
#[test]
fn an_upload_whose_beginning_cannot_be_read_is_not_published() {
    let Some((file_system, daemon)) = start(Caching::Through, Durability::Fsync) else { return };
    let content = Random::seeded().bytes(LONG_BYTES);
    let half = LONG_BYTES / 2;
    let range = format!("Content-Range: bytes 0-{}/{LONG_BYTES}\r\n", half - 1);
    assert_eq!(try_put(daemon.data(), "/file", &range, &content[..half]).unwrap().status, 202);
    assert_eq!(longest_partial(file_system.path()), half);
    assert_eq!(offset_of(daemon.data(), "/file", LONG_BYTES), half);
    // Opened anew, the file isn't in the page cache: FUSE drops it then.
    let digest = format!("Repr-Digest: sha-256=:{}:\r\n", base64(&sha256(&content)));
    let range = format!("Content-Range: bytes {half}-{}/{LONG_BYTES}\r\n{digest}", LONG_BYTES - 1);
    file_system.fail(Operation::Read, Errno::EIO, 0);
    let response = try_put(daemon.data(), "/file", &range, &content[half..]).unwrap();
    file_system.heal();
    assert_eq!(response.status, 500, "{}", response.text());
    assert_eq!(content_of(&file_system, "file"), b"before");
    // A partial that can't be read is of no use to anybody.
    assert_eq!(put_rest(daemon.data(), "/file", &content, 0).status, 204);
    assert!(content_of(&file_system, "file") == content);
}

/// The upload has its name, but isn't safe yet: a client that asks is told when it is.
#[test]
fn an_upload_is_known_while_its_name_is_synced() {
    let Some((file_system, daemon)) = start(Caching::Through, Durability::Fsync) else { return };
    let mut creator = Connection::open(daemon.data());
    creator.send(write_text("POST", "/new", "Upload-Complete: ?0\r\n", b"hello"));
    let name = creator.response_to("POST").field("Location").unwrap().to_owned();
    file_system.stall(Operation::SyncDirectory);
    let fields = "Content-Type: application/partial-upload\r\nUpload-Offset: 5\r\nUpload-Complete: ?1\r\n";
    creator.send(write_text("PATCH", &name, fields, b""));
    wait_until("the sync of the directory", || file_system.is_stalled());
    let mut client = Connection::open(daemon.data());
    client.send(request_text("HEAD", &name, ""));
    assert!(client.is_silent_for(Duration::from_millis(300)));
    file_system.heal();
    let described = client.response_to("HEAD");
    assert_eq!((described.status, described.field("Upload-Complete")), (204, Some("?1")));
    assert_eq!(creator.response_to("PATCH").status, 201);
}

/// Chunks of a few bytes are written in as few writes as long ones.
#[test]
fn short_chunks_are_written_together() {
    const CHUNK_BYTES: usize = 3;
    // The chunks have eight bytes with their framing.
    const CHUNKS: usize = 100_000;
    let Some((file_system, daemon)) = start(Caching::Through, Durability::Fsync) else { return };
    let content = Random::seeded().bytes(CHUNKS * CHUNK_BYTES);
    let stream = connect(daemon.data()).unwrap();
    let head = put_head("/file", "Transfer-Encoding: chunked\r\n");
    let before = file_system.writes();
    let response = exchange(&stream, head.as_bytes(), &chunked(&content, CHUNK_BYTES)).unwrap();
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(content_of(&file_system, "file") == content);
    // There is one write for each turn of a disk thread, of which there may be many for a body that trickles in.
    let writes = file_system.writes() - before;
    assert!(writes < CHUNKS / 50, "{writes} writes for {CHUNKS} chunks");
}

/// The chunks have every length around the one up to which they are gathered.
#[test]
fn chunks_long_and_short_keep_their_order() {
    const GATHERED_BYTES: usize = 16 << 10;
    let Some((file_system, daemon)) = start(Caching::Through, Durability::None) else { return };
    let mut random = Random::seeded();
    let content = random.bytes(3 << 20);
    let (mut body, mut rest) = (Vec::new(), &content[..]);
    while !rest.is_empty() {
        let longest = [3, 1000, 2 * GATHERED_BYTES, 20 * GATHERED_BYTES][random.below(4)];
        let length = match random.below(4) {
            0 => GATHERED_BYTES - 1 + random.below(3),
            _ => 1 + random.below(longest),
        };
        let (chunk, after) = rest.split_at(length.min(rest.len()));
        body.extend_from_slice(&chunked(chunk, chunk.len())[..]);
        body.truncate(body.len() - "0\r\n\r\n".len());
        rest = after;
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let stream = connect(daemon.data()).unwrap();
    let head = put_head("/file", "Transfer-Encoding: chunked\r\n");
    assert_eq!(exchange(&stream, head.as_bytes(), &body).unwrap().status, 204);
    assert!(content_of(&file_system, "file") == content);
}

/// Encodes a digest that is given in lower-case hex.
fn base64(hex: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap();
            text.push(if digit > three.len() { '=' } else { char::from(DIGITS[index]) });
        }
    }
    text
}
