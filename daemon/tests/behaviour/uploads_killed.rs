//! Tests in which the daemon is killed in the middle of uploads, and started again on its remains.

use std::collections::HashMap;
use std::io::{Result, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::uploads::{
    connect, longest_partial, offset_of, partials, put, put_head, put_nothing_more, put_rest, read_response,
    try_put,
};
use crate::harness::{Fixture, Process, Random, Response, driver_names, get, sha256, wait_until};

/// The number of times that the daemon is killed.
const KILLS: usize = 20;

/// The length of the upload in whose middle that happens, in bytes.
const UPLOAD_BYTES: usize = 12 << 20;

/// The longest of the small uploads beside it, in bytes.
const SMALL_BYTES_MAX: usize = 200_000;

/// The most small uploads between two kills.
const SMALL_MAX: usize = 300;

/// The values of `--direct-bytes-min`: all through the page cache, or all but the small ones past it.
const CACHED: &str = "0";
const DIRECT: &str = "1MiB";

/// The most bytes that the daemon has received and not yet written.
const BUFFER_BYTES: usize = 256 << 10;

/// The longest time between the last byte's arrival and a kill, in microseconds: by then the upload is published.
const END_US_MAX: usize = 40_000;

/// The names, and the digests of their acknowledged contents.
type Acknowledged = HashMap<String, String>;

fn start(root: &Path, driver: &str, direct_bytes_min: &str) -> Process {
    Process::start(&[
        "--root",
        root.to_str().unwrap(),
        "--uploads",
        "--min-free-bytes",
        "0",
        "--driver",
        driver,
        "--direct-bytes-min",
        direct_bytes_min,
    ])
}

fn kill(process: &mut Process) {
    process.signal(Signal::KILL);
    process.wait();
}

fn digest_of(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|content| sha256(&content))
}

fn is_acknowledged(answer: &Result<Response>) -> bool {
    answer.as_ref().is_ok_and(|response| {
        assert!([201, 204].contains(&response.status), "{}", response.text());
        true
    })
}

/// Uploads one small file after the other until the daemon is gone or there are many; returns the acknowledged
/// ones.
fn upload_small(address: SocketAddr, round: usize, mut random: Random) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for number in 0..SMALL_MAX {
        let length = random.below(SMALL_BYTES_MAX);
        let (name, content) = (format!("small{round}-{number}"), random.bytes(length));
        if !is_acknowledged(&try_put(address, &format!("/{name}"), "", &content)) {
            break;
        }
        acknowledged.insert(name, sha256(&content));
    }
    acknowledged
}

/// Uploads `content` to `name`, in pieces of any size, and kills the daemon when `point` bytes are sent: at once,
/// or when they are written; if they are all, a while later, in which the upload may be published and answered.
fn upload_and_kill(
    (process, root): (&mut Process, &Path),
    (name, content): (&str, &[u8]),
    point: usize,
    random: &mut Random,
) -> Result<Response> {
    let mut stream = connect(process.data())?;
    let length = format!("Content-Length: {}\r\n", content.len());
    stream.write_all(put_head(&format!("/{name}"), &length).as_bytes())?;
    let mut rest = &content[..point];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(1 << 20)).min(rest.len()));
        stream.write_all(piece)?;
        rest = after;
    }
    if point == content.len() || random.below(2) == 0 {
        wait_until_written(root, point);
    }
    if point == content.len() {
        // This is no wait for something: the moment itself is random.
        std::thread::park_timeout(Duration::from_micros(random.below(END_US_MAX) as u64));
    }
    kill(process);
    read_response(&stream)
}

/// Waits until `bytes` of an upload are in its partial, except those that the daemon may hold in its buffer, or
/// until it is published, and only partials of others are left.
fn wait_until_written(root: &Path, bytes: usize) {
    wait_until("the bytes to be written", || {
        let written = longest_partial(root);
        written + BUFFER_BYTES >= bytes || bytes == UPLOAD_BYTES && written < SMALL_BYTES_MAX
    });
}

/// Continues an upload of which `arrived` bytes were on the disk after the kill, if they weren't another one's.
fn go_on(address: SocketAddr, name: &str, content: &[u8], arrived: usize) {
    let path = format!("/{name}");
    let offset = offset_of(address, &path, content.len());
    assert!(offset == arrived || arrived < SMALL_BYTES_MAX, "{arrived} had arrived, and {offset} are left");
    // Where all had arrived nothing is left to be sent.
    let response = if offset == content.len() {
        put_nothing_more(address, &path, content.len())
    } else {
        put_rest(address, &path, content, offset)
    };
    assert!([201, 204].contains(&response.status), "{}", response.text());
}

#[test]
fn a_kill_at_any_moment_leaves_old_or_new_and_what_is_left_is_continued() {
    kill_at_any_moment(CACHED, KILLS);
}

#[test]
fn so_does_one_while_bodies_go_past_the_page_cache() {
    kill_at_any_moment(DIRECT, KILLS / 2);
}

fn kill_at_any_moment(direct_bytes_min: &str, kills: usize) {
    let mut random = Random::seeded();
    let fixture = Fixture::new();
    let root = fixture.path();
    let drivers = driver_names();
    let mut acknowledged = Acknowledged::new();
    let mut process = start(root, drivers[0], direct_bytes_min);
    for round in 0..kills {
        // Every other upload replaces a file; every fourth is killed about its end.
        let name = if round % 2 == 0 { format!("new{round}") } else { "replaced".to_owned() };
        let point = if round % 4 == 3 { UPLOAD_BYTES } else { random.below(UPLOAD_BYTES) };
        let context = format!("{name}, killed at {point}");
        let content = random.bytes(UPLOAD_BYTES);
        let (former, new) = (digest_of(&root.join(&name)), sha256(&content));
        let (address, of_small) = (process.data(), Random::from_seed(random.next()));
        std::thread::scope(|scope| {
            let small = scope.spawn(move || upload_small(address, round, of_small));
            if is_acknowledged(&upload_and_kill((&mut process, root), (&name, &content), point, &mut random))
            {
                acknowledged.insert(name.clone(), new.clone());
            }
            acknowledged.extend(small.join().unwrap());
        });
        let (found, arrived) = (digest_of(&root.join(&name)), longest_partial(root));
        assert!(found == former || found.as_ref() == Some(&new), "{context}: neither old nor new");
        if found.as_ref() == Some(&new) {
            // The upload is published, though nobody was told so.
            acknowledged.insert(name.clone(), new.clone());
        }
        process = start(root, drivers[round % drivers.len()], direct_bytes_min);
        for (name, digest) in &acknowledged {
            assert!(digest_of(&root.join(name)).as_ref() == Some(digest), "{context}: {name}");
        }
        if found.as_ref() != Some(&new) {
            go_on(process.data(), &name, &content, arrived);
        }
        assert_eq!(sha256(&get(process.data(), &format!("/{name}"), "").body), new, "{context}");
        acknowledged.insert(name, new);
    }
    assert!(acknowledged.len() > kills, "nothing was uploaded beside them");
}

#[test]
fn one_that_is_killed_again_and_again_ends_right() {
    for direct_bytes_min in [CACHED, DIRECT] {
        kill_again_and_again(direct_bytes_min);
    }
}

fn kill_again_and_again(direct_bytes_min: &str) {
    const LENGTH_MAX: usize = 3 << 20;
    let mut random = Random::seeded();
    let fixture = Fixture::new();
    let root = fixture.path();
    let content = random.bytes(UPLOAD_BYTES);
    let driver = driver_names()[0];
    let mut process = start(root, driver, direct_bytes_min);
    assert_eq!(put(process.data(), "/file", b"before").status, 201);
    let mut offset = 0;
    for _ in 0..4 {
        let length = 1 + random.below(LENGTH_MAX);
        let range = format!("bytes {offset}-{}/{}", content.len() - 1, content.len());
        let fields = format!("Content-Range: {range}\r\nContent-Length: {}\r\n", content.len() - offset);
        let mut stream = connect(process.data()).unwrap();
        stream.write_all(put_head("/file", &fields).as_bytes()).unwrap();
        stream.write_all(&content[offset..offset + length]).unwrap();
        wait_until("the bytes to be written", || longest_partial(root) == offset + length);
        kill(&mut process);
        let arrived = longest_partial(root);
        process = start(root, driver, direct_bytes_min);
        assert_eq!(std::fs::read(root.join("file")).unwrap(), b"before");
        assert_eq!(offset_of(process.data(), "/file", content.len()), arrived);
        offset = arrived;
    }
    assert_eq!(put_rest(process.data(), "/file", &content, offset).status, 204);
    assert_eq!(digest_of(&root.join("file")), Some(sha256(&content)));
    assert_eq!(partials(root), [] as [PathBuf; 0]);
}

/// A plain PUT of which less than a MiB has come is kept too: it can't be known whether its client comes back.
#[test]
fn the_first_bytes_of_a_long_one_are_continued() {
    const WRITTEN_BYTES: usize = 300_000;
    for direct_bytes_min in [CACHED, DIRECT] {
        let fixture = Fixture::new();
        let root = fixture.path();
        let content = Random::seeded().bytes(UPLOAD_BYTES);
        let driver = driver_names()[0];
        let mut process = start(root, driver, direct_bytes_min);
        let mut stream = connect(process.data()).unwrap();
        let length = format!("Content-Length: {UPLOAD_BYTES}\r\n");
        stream.write_all(put_head("/file", &length).as_bytes()).unwrap();
        stream.write_all(&content[..WRITTEN_BYTES]).unwrap();
        wait_until("the bytes to be written", || longest_partial(root) == WRITTEN_BYTES);
        kill(&mut process);
        process = start(root, driver, direct_bytes_min);
        assert_eq!(offset_of(process.data(), "/file", UPLOAD_BYTES), WRITTEN_BYTES);
        assert_eq!(put_rest(process.data(), "/file", &content, WRITTEN_BYTES).status, 201);
        assert_eq!(digest_of(&root.join("file")), Some(sha256(&content)));
    }
}
