//! Tests of files that state a length of 0 and have content, and of files that can't be read.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};
use streamd::config::Settings;
use streamd::telemetry::{Outcome, Status};

use crate::harness::{
    Connection, Mountpoint, TestDaemon, drivers, get, mount_fuse, pattern, request, settings, wait_until,
};

const REMEMBERED: Duration = Duration::from_secs(60);

/// The content of `made`: several pieces, and a part of one.
const MADE_BYTES: usize = 200_000;

/// The names, whose numbers begin at 2; `told` alone says how long it is.
const NAMES: [&str; 4] = ["made", "empty", "broken", "told"];

/// A file system whose server makes content while it is read.
struct Made;

impl Made {
    fn attributes(node: INodeNo) -> FileAttr {
        let epoch = SystemTime::UNIX_EPOCH;
        let is_root = node == INodeNo::ROOT;
        FileAttr {
            ino: node,
            size: if node.0 == 5 { 10 } else { 0 },
            blocks: 0,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            crtime: epoch,
            kind: if is_root { FileType::Directory } else { FileType::RegularFile },
            perm: if is_root { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Made {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match NAMES.iter().position(|known| OsStr::new(known) == name) {
            Some(index) => {
                reply.entry(&REMEMBERED, &Made::attributes(INodeNo(index as u64 + 2)), Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&REMEMBERED, &Made::attributes(node));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = match node.0 {
            2 => pattern(MADE_BYTES),
            3 => Vec::new(),
            _ => return reply.error(Errno::EIO),
        };
        let start = content.len().min(usize::try_from(offset).unwrap());
        let end = content.len().min(start + size as usize);
        reply.data(&content[start..end]);
    }
}

/// The file system, mounted until the test ends.
struct Mounted {
    mountpoint: Mountpoint,
    session: Option<BackgroundSession>,
}

impl Mounted {
    fn new() -> Option<Mounted> {
        let mountpoint = Mountpoint::new();
        let session = mount_fuse(Made, &mountpoint, &Config::default())?;
        Some(Mounted { mountpoint, session: Some(session) })
    }

    fn path(&self) -> &Path {
        self.mountpoint.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.mountpoint.unmount();
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

/// Returns the content that curl, which knows framings, gets.
fn fetch(data: SocketAddr, path: &str, flags: &[&str]) -> Vec<u8> {
    let url = format!("http://{data}{path}");
    let output =
        Command::new("curl").args(["-sS", "--fail", "-m", "30"]).args(flags).arg(url).output().unwrap();
    assert!(output.status.success(), "{path} {flags:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn what_the_kernel_makes_while_it_is_read_is_served_to_its_end() {
    for driver in drivers() {
        let root = Some("/proc/sys/kernel".into());
        let daemon = TestDaemon::start(Settings { root, driver, ..settings() });
        let expected = std::fs::read("/proc/sys/kernel/ostype").unwrap();
        assert!(!expected.is_empty());
        for flags in [
            &[][..],
            &["--http1.0"],
            &["--range", "0-1"],
            &["-H", "If-Modified-Since: Sun, 29 Nov 2099 19:26:32 GMT"],
        ] {
            assert_eq!(fetch(daemon.data(), "/ostype", flags), expected, "{driver:?} {flags:?}");
        }
    }
}

#[test]
fn what_a_server_makes_while_it_is_read_is_served_in_pieces_and_without_what_nobody_knows() {
    let Some(mounted) = Mounted::new() else { return };
    for driver in drivers() {
        let root = Some(mounted.path().to_owned());
        let daemon = TestDaemon::start(Settings { root, driver, ..settings() });
        for flags in [&[][..], &["--http1.0"], &["--range", "5-"]] {
            assert!(fetch(daemon.data(), "/made", flags) == pattern(MADE_BYTES), "{driver:?} {flags:?}");
        }
        let mut client = Connection::open(daemon.data());
        for method in ["HEAD", "GET", "HEAD"] {
            client.send(format!("{method} /made HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let head = client.head();
            assert_eq!(head.status, 200);
            for name in ["Content-Length", "ETag", "Last-Modified", "Accept-Ranges", "Content-Range"] {
                assert_eq!(head.field(name), None, "{method}");
            }
            if method == "GET" {
                assert_eq!(head.field("Transfer-Encoding"), Some("chunked"));
                // The body is three pieces and a part, each between its length and a line's end, and the last
                // chunk.
                client.receive(MADE_BYTES + 3 * (5 + 2 + 2) + (3 + 2 + 2) + 5);
            }
        }
        let not_it = get(daemon.data(), "/made", "If-Match: \"this\"\r\n");
        assert_eq!(not_it.status, 412, "{driver:?}");
        // An empty file states its length.
        let empty = get(daemon.data(), "/empty", "");
        assert_eq!((empty.status, empty.content_length()), (200, 0), "{driver:?}");
        // A stream that may be incomplete isn't called whole.
        let stream = request(daemon.control(), "POST", "/stream?path=/made", "");
        assert_eq!(stream.status, 500, "{driver:?}");
        assert!(stream.problem().contains("doesn't say how long it is"), "{}", stream.problem());
    }
}

#[test]
fn a_file_that_can_not_be_read_has_an_answer_that_says_so() {
    let Some(mounted) = Mounted::new() else { return };
    for driver in drivers() {
        let root = Some(mounted.path().to_owned());
        let daemon = TestDaemon::start(Settings { root, driver, ..settings() });
        // One file has a length and the other none.
        let mut client = Connection::open(daemon.data());
        for path in ["/told", "/broken"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let answer = client.response_to("GET");
            assert_eq!(answer.status, 500, "{driver:?} {path}");
            assert_eq!(answer.problem(), "the file could not be read; the daemon's log says why");
        }
        // The connection can be used as before.
        client.send("GET /empty HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.response_to("GET").status, 200);
        wait_until("what failed to be counted", || {
            daemon.count(|worker| worker.transfers.get(Outcome::SourceFailed)) == 2
                && daemon.count(|worker| worker.requests.get(Status::S500)) == 2
        });
    }
}
