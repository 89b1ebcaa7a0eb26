//! The pure pieces of a request that show in a profile, one by one: `cargo bench -p streamd`. For comparing two builds
//! on a quiet machine; never a test.

use std::hint::black_box;
use std::time::SystemTime;

use divan::{Bencher, counter::ItemsCount};
use streamd::config::{Live, Settings};
use streamd::files::{Description, FileCache, Found, Generation, Root, Term};
use streamd::limits::Tick;
use streamd::protocol::http1::request::{Version, parse};
use streamd::protocol::http1::response::{FieldBlock, ResponseHead};
use streamd::protocol::name::Name;
use streamd::protocol::range::select;

const SHORT: &[u8] = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LONG: &[u8] = b"GET /a/b/c/some%20file.tar.gz?download=1 HTTP/1.1\r\nHost: files.example.com:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    If-None-Match: \"400-65a1b2c3.1dcd6500\"\r\nRange: bytes=0-1023\r\n\r\n";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn main() {
    divan::main();
}

#[divan::bench(args = [("short", SHORT), ("long", LONG)])]
fn request_head(bencher: Bencher<'_, '_>, (_, head): (&str, &[u8])) {
    bencher.counter(ItemsCount::new(1_u32)).bench(|| parse(black_box(head)));
}

#[divan::bench]
fn response_head(bencher: Bencher<'_, '_>) {
    let beginning = FieldBlock::of_date(DATE);
    bencher.bench(|| {
        let mut out = Vec::with_capacity(512);
        let mut head = ResponseHead::new(&mut out, 200, black_box(&beginning));
        head.field("Content-Type", "application/octet-stream")
            .field_number("Content-Length", black_box(1024));
        head.field("Last-Modified", DATE).field("ETag", "\"400-65a1b2c3.1dcd6500\"");
        head.field("Accept-Ranges", "bytes").finish(true, Version::Http11);
        out
    });
}

#[divan::bench(args = ["bytes=0-1023", "bytes=-500", "bytes=0-9,20-29,40-49,60-69,80-89"])]
fn range_selection(bencher: Bencher<'_, '_>, field: &str) {
    bencher.bench(|| select(black_box(field.as_bytes()), black_box(1 << 40)));
}

#[divan::bench]
fn cache_look_up(bencher: Bencher<'_, '_>) {
    let Some((cache, name, _directory)) = cache_of_one() else { return };
    bencher.bench_local(|| {
        cache.get(black_box(&name), black_box(Tick::FIRST), black_box(Generation::default()))
    });
}

fn cache_of_one() -> Option<(FileCache, Name, tempfile::TempDir)> {
    let directory = tempfile::tempdir().ok()?;
    std::fs::write(directory.path().join("file"), [7; 1024]).ok()?;
    let (root, name) = (Root::open(directory.path()).ok()?, Name::parse(b"/file").ok()?);
    let settings = Settings { root: Some(directory.path().to_owned()), ..Settings::default() };
    let live = Live::new(settings).ok()?;
    let (share, _) = live.shares.find(name.as_bytes())?;
    let cache = FileCache::default();
    if let Ok(Found::File(file)) = root.find(&name) {
        cache.add(
            &name,
            Description::of(share, &name),
            file,
            &Term {
                now: Tick::FIRST,
                end: Tick::NEVER,
                generation: Generation::default(),
                date: SystemTime::now(),
            },
        );
    }
    Some((cache, name, directory))
}
