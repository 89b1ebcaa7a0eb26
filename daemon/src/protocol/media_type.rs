//! Media types by the names of files.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The media type of a name without a known extension: RFC 9110 8.3 leaves the guess to the client.
const UNKNOWN: &str = "application/octet-stream";

/// Extensions that `mime_guess` doesn't know, or knows by a type that clients don't take, with the types of nginx
/// and mime-db, in alphabetical order. Players ask for the type of a playlist and of its segments, browsers refuse
/// modules by the wrong one, and a disk image isn't a photograph.
const OURS: [(&str, &str); 54] = [
    ("3mf", "model/3mf"),
    ("appimage", "application/vnd.appimage"),
    ("arrow", "application/vnd.apache.arrow.file"),
    ("avifs", "image/avif"),
    ("cjs", "text/javascript"),
    ("cmfa", "audio/mp4"),
    ("cmfv", "video/mp4"),
    ("diff", "text/x-diff"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("eac3", "audio/eac3"),
    ("f4m", "application/f4m+xml"),
    ("flatpak", "application/vnd.flatpak"),
    ("jsonl", "application/jsonl"),
    ("lz", "application/x-lzip"),
    ("lz4", "application/x-lz4"),
    ("m2t", "video/mp2t"),
    ("m2ts", "video/mp2t"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("map", "application/json"),
    ("md5", "text/plain"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("mts", "video/mp2t"),
    ("nar", "application/x-nix-nar"),
    ("narinfo", "text/x-nix-narinfo"),
    ("ndjson", "application/x-ndjson"),
    ("obj", "model/obj"),
    ("otf", "font/otf"),
    ("patch", "text/x-diff"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("qcow2", UNKNOWN),
    ("raw", UNKNOWN),
    ("rpm", "application/x-redhat-package-manager"),
    ("sha1", "text/plain"),
    ("sha256", "text/plain"),
    ("sha512", "text/plain"),
    ("snap", "application/vnd.snap"),
    ("stl", "model/stl"),
    ("tgz", "application/gzip"),
    ("ts", "video/mp2t"),
    ("txz", "application/x-xz"),
    ("tzst", "application/zstd"),
    ("usdz", "model/vnd.usdz+zip"),
    ("vcf", "text/vcard"),
    ("vhdx", UNKNOWN),
    ("vmdk", UNKNOWN),
    ("wat", "text/plain"),
    ("woff", "font/woff"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("zst", "application/zstd"),
    ("zsync", "application/x-zsync"),
];

/// The longest extension of [`OURS`], in bytes.
const EXTENSION_BYTES_MAX: usize = 8;

/// Returns the `Content-Type` of a file by its extension, without regard to case. Text is announced as UTF-8,
/// since without a charset a browser falls back to a legacy encoding of its locale.
#[must_use]
pub fn content_type(name: &[u8]) -> Cow<'static, str> {
    let guess =
        ours(name).or_else(|| mime_guess::from_path(OsStr::from_bytes(name)).first_raw()).unwrap_or(UNKNOWN);
    if guess.starts_with("text/") {
        return Cow::Owned(format!("{guess}; charset=utf-8"));
    }
    Cow::Borrowed(guess)
}

fn ours(name: &[u8]) -> Option<&'static str> {
    let extension = Path::new(OsStr::from_bytes(name)).extension()?.as_encoded_bytes();
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    let at = OURS.binary_search_by(|(known, _)| known.as_bytes().cmp(&*lower)).ok()?;
    OURS.get(at).map(|(_, media_type)| *media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_give_the_type() {
        let table = [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b/INDEX.HTML", "text/html; charset=utf-8"),
            ("notes.txt", "text/plain; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("data.json", "application/json"),
            ("disk.tar.gz", "application/gzip"),
            ("film.mp4", "video/mp4"),
            ("noextension", "application/octet-stream"),
            ("strange.q9zx", "application/octet-stream"),
            (".html", "application/octet-stream"),
            (".ts", "application/octet-stream"),
            ("", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(content_type(name.as_bytes()), expected, "{name:?}");
        }
    }

    /// The types are those of nginx 1.28 and mime-db 1.54, and of the specification where the two differ.
    #[test]
    fn types_that_clients_depend_on() {
        let table = [
            ("live.m3u8", "application/vnd.apple.mpegurl"),
            ("seg0.ts", "video/mp2t"),
            ("SEG0.TS", "video/mp2t"),
            ("seg0.m4s", "video/iso.segment"),
            ("live.mpd", "application/dash+xml"),
            ("de.vtt", "text/vtt; charset=utf-8"),
            ("a.m4a", "audio/mp4"),
            ("a.opus", "audio/ogg"),
            ("a.flac", "audio/flac"),
            ("a.mkv", "video/x-matroska"),
            ("a.webm", "video/webm"),
            ("a.wasm", "application/wasm"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.jsonl", "application/jsonl"),
            ("a.ndjson", "application/x-ndjson"),
            ("app.js.map", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.avif", "image/avif"),
            ("a.jxl", "image/jxl"),
            ("a.webp", "image/webp"),
            ("a.svg", "image/svg+xml"),
            ("a.woff", "font/woff"),
            ("a.woff2", "font/woff2"),
            ("a.ttf", "font/ttf"),
            ("a.otf", "font/otf"),
            ("a.glb", "model/gltf-binary"),
            ("a.iso", "application/octet-stream"),
            ("a.img", "application/octet-stream"),
            ("a.raw", "application/octet-stream"),
            ("a.qcow2", "application/octet-stream"),
            ("a.vmdk", "application/octet-stream"),
            ("a.deb", "application/octet-stream"),
            ("a.rpm", "application/x-redhat-package-manager"),
            ("a.apk", "application/vnd.android.package-archive"),
            ("a.tar", "application/x-tar"),
            ("a.tgz", "application/gzip"),
            ("a.tar.zst", "application/zstd"),
            ("a.tar.xz", "application/x-xz"),
            ("a.7z", "application/x-7z-compressed"),
            ("a.zip", "application/zip"),
            ("a.pdf", "application/pdf"),
            ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            ("a.epub", "application/epub+zip"),
            ("a.patch", "text/x-diff; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.log", "text/plain; charset=utf-8"),
            ("a.conf", "text/plain; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.yaml", "text/x-yaml; charset=utf-8"),
            ("a.sh", "application/x-sh"),
            ("a.zsync", "application/x-zsync"),
            ("a.narinfo", "text/x-nix-narinfo; charset=utf-8"),
        ];
        for (name, expected) in table {
            assert_eq!(content_type(name.as_bytes()), expected, "{name:?}");
        }
    }

    #[test]
    fn our_table_is_in_order_and_lower_case() {
        assert!(OURS.is_sorted_by(|one, next| one.0 < next.0));
        for (extension, _) in OURS {
            assert!(extension.len() <= EXTENSION_BYTES_MAX && extension == extension.to_ascii_lowercase());
        }
    }
}
