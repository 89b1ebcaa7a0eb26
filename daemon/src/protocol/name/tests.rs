use super::*;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

#[test]
fn paths_become_names() {
    let table = [
        ("/", "", true),
        ("", "", true),
        ("/a", "a", false),
        ("a", "a", false),
        ("/a/b.txt", "a/b.txt", false),
        ("/a/", "a/", true),
        ("/a/b/", "a/b/", true),
        ("//a///b", "a/b", false),
        ("///", "", true),
        ("/.", "", true),
        ("/..", "", true),
        ("/a/.", "a/", true),
        ("/a/b/..", "a/", true),
        ("/a/..", "", true),
        ("/./a", "a", false),
        ("/a/./b", "a/b", false),
        ("/a/b/../c", "a/c", false),
        ("/a/b/c/./../../g", "a/g", false),
        ("/../x", "x", false),
        ("/../../../etc/passwd", "etc/passwd", false),
        ("/a//../b", "b", false),
        ("/...", "...", false),
        ("/a..b", "a..b", false),
        ("/..a", "..a", false),
        ("/%61", "a", false),
        ("/a%20b", "a b", false),
        ("/%2e%2e/x", "x", false),
        ("/a/%2E%2e/x", "x", false),
        ("/..%2f..%2Fetc", "etc", false),
        ("/a%2fb", "a/b", false),
        ("/a%2f", "a/", true),
        ("/%252e%252e/x", "%2e%2e/x", false),
        ("/%25", "%", false),
        ("/%C3%A4", "ä", false),
        ("/ä", "ä", false),
        ("/a+b", "a+b", false),
        ("/~user/$x;y=1,2", "~user/$x;y=1,2", false),
    ];
    for (path, expected, directory) in table {
        let name = Name::parse(path.as_bytes()).unwrap();
        assert_eq!(name.as_bytes(), expected.as_bytes(), "{path}");
        assert_eq!(name.is_directory(), directory, "{path}");
    }
}

#[test]
fn every_byte_but_nul_may_stand_in_a_name_raw_and_escaped() {
    for path in [b"/a\0b".as_slice(), b"/a%00b", b"/%00", b"/a/%00/.."] {
        assert_eq!(Name::parse(path), Err(NameError::Nul), "{}", escape_for_log(path));
    }
    let table: [(&[u8], &[u8]); 10] = [
        (b"/a%0ab", b"a\nb"),
        (b"/a%0Db%0d", b"a\rb\r"),
        (b"/a\tb", b"a\tb"),
        (b"/a%7f%01", b"a\x7f\x01"),
        (b"/a\\b", b"a\\b"),
        (b"/..%5c..%5cx", b"..\\..\\x"),
        (b"/%c2%9b", b"\xc2\x9b"),
        (b"/%ff", b"\xff"),
        (b"/\xff/%c3/..", b"\xff/"),
        (b"/%c0%af%ed%a0%80", b"\xc0\xaf\xed\xa0\x80"),
    ];
    for (path, name) in table {
        assert_eq!(Name::parse(path).unwrap().as_bytes(), name, "{}", escape_for_log(path));
    }
}

#[test]
fn incomplete_escapes_are_refused() {
    for (path, escape) in [("/%", "%"), ("/%2", "%2"), ("/%zz/a", "%zz"), ("/%%41", "%%4"), ("/a%4", "%4")] {
        assert_eq!(Name::parse(path.as_bytes()), Err(NameError::Escape { escape: escape.into() }), "{path}");
    }
}

#[test]
fn logs_show_only_printable_ascii() {
    assert_eq!(escape_for_log(b"GET /a b~"), "GET /a b~");
    assert_eq!(escape_for_log(b"\"\\\r\n\0\x1b[m\x7f\xff"), "\\x22\\x5c\\x0d\\x0a\\x00\\x1b[m\\x7f\\xff");
    assert_eq!(escape_for_log("ä".as_bytes()), "\\xc3\\xa4");
    assert_eq!(sentence_up_to("no `\\xff`, \"\n\u{e4}", 100), "no `\\xff`, \\x22\\x0a\\xc3\\xa4");
    assert_eq!(sentence_up_to("a sentence", 2), "a ...");
}

#[test]
fn logs_are_cut_after_512_bytes() {
    assert_eq!(escape_for_log(&[b'a'; 512]), "a".repeat(512));
    assert_eq!(escape_for_log(&[b'a'; 513]), format!("{}...", "a".repeat(512)));
}

#[test]
fn the_segment_of_uploads_is_reserved_wherever_it_stands() {
    let table = [
        ("/.streamd-uploads", true),
        ("/.streamd-uploads/", true),
        ("/.streamd-uploads/0123456789abcdef0123456789abcdef", true),
        ("/a/.streamd-uploads/b", true),
        ("/a/.streamd-uploads", true),
        ("/%2estreamd-upload%73/x", true),
        ("/a%2f.streamd-uploads", true),
        ("/.STREAMD-Uploads/x", true),
        ("/a/../.streamd-uploads", true),
        ("/.streamd-uploads/..", false),
        ("/.streamd-uploads/../a", false),
        ("/streamd-uploads", false),
        ("/.streamd-upload", false),
        ("/.streamd-uploads2", false),
        ("/a.streamd-uploads", false),
        ("/.streamd-uploads.txt", false),
        ("/.streamd-uploads%20", false),
        ("/", false),
    ];
    for (path, expected) in table {
        assert_eq!(Name::parse(path.as_bytes()).unwrap().is_reserved(), expected, "{path}");
    }
}

#[test]
fn a_text_that_no_name_has_is_no_name() {
    for text in ["/", "/a", "a//b", ".", "a/./b", "a/..", "../a", "\0", "/%00", "/%FF/..", "/%ff", "/%zz"] {
        assert_eq!(Name::of_text(text), None, "{text:?}");
    }
    assert_eq!(Name::of_text("a%2fb").unwrap().as_bytes(), b"a%2fb", "nothing is decoded");
}

#[test]
fn the_text_of_a_name_is_one_line_and_reads_as_it_is_where_it_can() {
    for (path, text) in [
        ("/a/b%20%C3%A4", "a/b \u{e4}"),
        ("/%25ff", "%ff"),
        ("/a%5Cb", "a\\b"),
        ("/%ff/b", "/%FF/b"),
        ("/a%0ab", "/a%0Ab"),
        ("/a%0d", "/a%0D"),
    ] {
        let name = Name::parse(path.as_bytes()).unwrap();
        assert_eq!(name.text(), text, "{path}");
        assert_eq!(Name::of_text(text), Some(name), "{path}");
    }
}

#[test]
fn uploads_have_names_below_their_staging_directory() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let resource = |path: &str| Name::parse(path.as_bytes()).unwrap().upload_resource();
    let staging_directories = [
        (format!("/.streamd-uploads/{ID}"), ".streamd-uploads"),
        (format!("//.streamd-uploads//{ID}"), ".streamd-uploads"),
        (format!("/a/b%20c/.streamd-uploads/{ID}"), "a/b c/.streamd-uploads"),
        (format!("/a/../b/%2estreamd-uploads%2f{ID}"), "b/.streamd-uploads"),
    ];
    for (path, staging) in staging_directories {
        let found = resource(&path).unwrap();
        assert_eq!((found.staging.text().as_ref(), found.id.to_string().as_str()), (staging, ID), "{path}");
    }
    let none = [
        "/".to_owned(),
        format!("/{ID}"),
        "/.streamd-uploads".to_owned(),
        "/.streamd-uploads/".to_owned(),
        format!("/.streamd-uploads/{ID}/"),
        format!("/.streamd-uploads/{ID}/x"),
        format!("/.streamd-uploads/x/{ID}"),
        format!("/x.streamd-uploads/{ID}"),
        format!("/.streamd-uploads{ID}"),
        format!("/.Streamd-Uploads/{ID}"),
        format!("/.streamd-uploads/a/.streamd-uploads/{ID}"),
        format!("/.STREAMD-UPLOADS/.streamd-uploads/{ID}"),
        format!("/.streamd-uploads/{}", &ID[1..]),
        format!("/.streamd-uploads/0{ID}"),
        format!("/.streamd-uploads/{}", ID.to_uppercase()),
        format!("/.streamd-uploads/+{}", &ID[1..]),
        format!("/.streamd-uploads/{}g", &ID[1..]),
    ];
    for path in none {
        assert_eq!(resource(&path), None, "{path}");
    }
}

#[test]
fn an_upload_knows_its_path() {
    let id = UploadId(1);
    assert_eq!(
        UploadResource::of_root(id).path_below("/"),
        "/.streamd-uploads/00000000000000000000000000000001"
    );
    let table = [
        (".", "/.streamd-uploads/"),
        ("a", "/a/.streamd-uploads/"),
        ("a b/100%/ä?", "/a%20b/100%25/%C3%A4%3F/.streamd-uploads/"),
    ];
    for (directory, staging) in table {
        assert_eq!(
            UploadResource::beside(directory.as_bytes(), id).path_below("/"),
            format!("{staging}{id}"),
            "{directory}"
        );
    }
    let name = Name::parse(b"/a/b/c").unwrap();
    assert!(["a", "a/b"].iter().all(|directory| name.lies_in(directory.as_bytes())));
    assert!(!["a/b/c", "a/", "b", "", "."].iter().any(|directory| name.lies_in(directory.as_bytes())));
}

/// Generates paths of the pieces that matter, so that escapes and dot segments meet often.
fn path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "%2f",
        "%5c",
        "%25",
        "%00",
        "%0a",
        "%",
        "a",
        "b.txt",
        "ä",
        "%c3%a4",
        "%ff",
        "\\",
        " ",
        ".streamd-uploads",
        "?",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_name_leaves_the_root(path in path()) {
        if let Ok(name) = Name::parse(path.as_bytes()) {
            let name = name.as_bytes();
            prop_assert!(!name.starts_with(b"/") && !name.contains(&0));
            let mut segments = name.strip_suffix(b"/").unwrap_or(name).split(|byte| *byte == b'/');
            prop_assert!(name.is_empty() || segments.all(|segment| !matches!(segment, b"" | b"." | b"..")));
        }
    }

    #[test]
    fn a_name_encoded_again_is_the_same_name(path in path()) {
        if let Ok(name) = Name::parse(path.as_bytes()) {
            let encoded = percent_encode(name.as_bytes(), NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(Name::of_text(&name.text()), Some(name.clone()));
            prop_assert!(!name.text().contains(char::is_control));
            prop_assert_eq!(Name::parse(encoded.as_bytes()), Ok(name));
        }
    }

    #[test]
    fn the_path_of_an_upload_means_that_upload(path in path(), id: u128) {
        if let Ok(directory) = Name::parse(path.as_bytes())
            && !directory.is_reserved()
            && !directory.is_directory()
        {
            let resource = UploadResource::beside(directory.as_bytes(), UploadId(id));
            let name = Name::parse(resource.path_below("/").as_bytes()).unwrap();
            prop_assert!(name.is_reserved());
            prop_assert_eq!(name.upload_resource(), Some(resource));
        }
    }

    #[test]
    fn parsing_never_panics(path: Vec<u8>) {
        let _ = Name::parse(&path);
    }

    #[test]
    fn logged_text_is_bounded_and_printable(bytes: Vec<u8>) {
        let text = escape_for_log(&bytes);
        if let Ok(bytes) = std::str::from_utf8(&bytes) {
            prop_assert_eq!(&*escaped_for_log(bytes), &text);
        }
        prop_assert!(text.len() <= 4 * LOGGED_BYTES_MAX + 3);
        prop_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'));
    }
}
