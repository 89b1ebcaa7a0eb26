use std::net::SocketAddr;

use proptest::prelude::*;

use super::{
    HeaderProgress, LOCAL_HEADER, Origin, ProxyHeaderError, V1_BYTES_MAX, V2_BYTES_MAX, begins, parse,
};
use crate::protocol::frame::{FRAME_BYTES_LIMIT, encode_header};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Makes a header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

/// Makes the addresses and ports of a header of version 2.
fn block(source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let bytes = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), target.port().to_be_bytes()].concat();
    [bytes(source), bytes(target), ports].concat()
}

fn client(text: &str) -> Origin {
    Origin::Client(text.parse().unwrap())
}

/// Reads `header`, with bytes behind it that aren't its own, whole and cut in two at every place.
#[track_caller]
fn assert_reads(header: &[u8], origin: Origin) {
    let sent = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
    let expected = HeaderProgress::Complete { origin, header_bytes: header.len() };
    assert_eq!(parse(&sent), Ok(expected), "{}", sent.escape_ascii());
    for cut in 0..header.len() {
        assert_eq!(
            parse(&header[..cut]),
            Ok(HeaderProgress::Incomplete),
            "{cut} bytes of {}",
            header.escape_ascii()
        );
    }
}

#[test]
fn lines_name_clients() {
    for (line, origin) in [
        ("PROXY TCP4 192.0.2.7 203.0.113.1 56324 443", client("192.0.2.7:56324")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", client("255.255.255.255:65535")),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 0 0", client("192.0.2.7:0")),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443", client("[2001:db8::7]:56324")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2", client("192.0.2.7:1")),
        ("PROXY UNKNOWN", Origin::Unnamed),
        ("PROXY UNKNOWN ffff:f... whatever \0 stands here", Origin::Unnamed),
    ] {
        assert_reads(format!("{line}\r\n").as_bytes(), origin);
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
    assert_reads(longest.as_bytes(), Origin::Unnamed);
}

#[test]
fn lines_that_are_no_headers_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\n",
        "PROXY TCP4  192.0.2.7 203.0.113.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 56324 443 \r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 56324 443 5\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 56324\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 56324 65536\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 +5 443\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 05 443\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1  443\r\n",
        "PROXY TCP4 192.0.2.07 203.0.113.1 5 443\r\n",
        "PROXY TCP4 192.0.2 203.0.113.1 5 443\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 5 443\r\n",
        "PROXY TCP6 192.0.2.7 203.0.113.1 5 443\r\n",
        "PROXY TCP6 [2001:db8::7] 2001:db8::1 5 443\r\n",
        "PROXY TCP6 2001:db8::7%1 2001:db8::1 5 443\r\n",
        "PROXY TCP5 192.0.2.7 203.0.113.1 5 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNIX /a /b\r\n",
    ] {
        let result = parse(line.as_bytes());
        let is_header = begins(line.as_bytes()) == Some(true);
        let expected = if is_header { matches!(result, Err(ProxyHeaderError::Line { .. })) } else { true };
        assert!(expected && !matches!(result, Ok(HeaderProgress::Complete { .. })), "{line:?}: {result:?}");
    }
    let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
    assert_eq!(endless.len(), V1_BYTES_MAX + 1);
    assert_eq!(parse(endless.as_bytes()), Err(ProxyHeaderError::LineTooLong));
    assert_eq!(parse(&endless.as_bytes()[..V1_BYTES_MAX - 1]), Ok(HeaderProgress::Incomplete));
}

#[test]
fn binary_headers_name_clients() {
    let (v4, v6) = ("192.0.2.7:56324".parse().unwrap(), "[2001:db8::7]:56324".parse().unwrap());
    let (v4_target, v6_target) = ("203.0.113.1:443".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
    let mapped = "[::ffff:192.0.2.7]:5".parse().unwrap();
    let with_more = [block(v4, v4_target), vec![0x04, 0, 3, 1, 2, 3]].concat();
    for (header, origin) in [
        (v2(0x21, 0x11, &block(v4, v4_target)), client("192.0.2.7:56324")),
        (v2(0x21, 0x21, &block(v6, v6_target)), client("[2001:db8::7]:56324")),
        (v2(0x21, 0x21, &block(mapped, v6_target)), client("192.0.2.7:5")),
        (v2(0x21, 0x11, &with_more), client("192.0.2.7:56324")),
        (v2(0x21, 0x12, &block(v4, v4_target)), Origin::Unnamed),
        (v2(0x21, 0x00, &[]), Origin::Unnamed),
        (v2(0x21, 0x00, &[0; 40]), Origin::Unnamed),
        (v2(0x21, 0x31, &[b'/'; 216]), Origin::Unnamed),
        (v2(0x20, 0x00, &[]), Origin::Itself),
        (v2(0x20, 0x11, &block(v4, v4_target)), Origin::Itself),
        (v2(0x20, 0xff, &[0; 3]), Origin::Itself),
        (v2(0x21, 0x00, &vec![0; V2_BYTES_MAX - 16]), Origin::Unnamed),
        (LOCAL_HEADER.to_vec(), Origin::Itself),
    ] {
        assert_reads(&header, origin);
    }
}

#[test]
fn binary_headers_that_cannot_be_are_refused() {
    let too_short = |family, bytes| ProxyHeaderError::TooShort { family, bytes };
    let signature = [&SIGNATURE[..11], b"X\x21\x11\0\0"].concat();
    for (header, expected) in [
        (signature, ProxyHeaderError::Signature),
        (v2(0x22, 0x11, &[0; 12]), ProxyHeaderError::Command(0x22)),
        (v2(0x11, 0x11, &[0; 12]), ProxyHeaderError::Command(0x11)),
        (v2(0x31, 0x11, &[0; 12]), ProxyHeaderError::Command(0x31)),
        (v2(0x21, 0x41, &[0; 36]), ProxyHeaderError::Family(0x41)),
        (v2(0x21, 0x13, &[0; 36]), ProxyHeaderError::Family(0x13)),
        (v2(0x21, 0x11, &[0; 11]), too_short(0x11, 11)),
        (v2(0x21, 0x21, &[0; 35]), too_short(0x21, 35)),
        (v2(0x21, 0x31, &[0; 215]), too_short(0x31, 215)),
        (v2(0x21, 0x00, &vec![0; V2_BYTES_MAX - 15]), ProxyHeaderError::TooLong(V2_BYTES_MAX + 1)),
    ] {
        assert_eq!(parse(&header), Err(expected), "{}", header.escape_ascii());
    }
    // No address byte need come: the announced length is enough.
    assert_eq!(parse(&v2(0x21, 0, &[0; 65_535])[..16]), Err(ProxyHeaderError::TooLong(65_551)));
}

#[test]
fn what_is_no_header_is_told_from_one_by_eight_bytes() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\r\n\r\nGET / HTTP/1.1",
        b"PROXY / HTTP/1.1\r\n\r\n",
        b"PROXY T\0",
        b"PROXY \0\0",
        b"PROX\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        &[0; 8],
    ] {
        assert_eq!(parse(bytes), Ok(HeaderProgress::Absent), "{}", bytes.escape_ascii());
    }
    assert_eq!(parse(b""), Ok(HeaderProgress::Incomplete));
    assert_eq!(parse(b"\r\n\r\n"), Ok(HeaderProgress::Incomplete));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic_and_as_in_pieces(bytes in any_bytes()) {
        let whole = parse(&bytes);
        if let Ok(HeaderProgress::Complete { header_bytes, .. }) = whole {
            prop_assert!(header_bytes <= bytes.len() && header_bytes <= V2_BYTES_MAX);
            prop_assert_eq!(parse(&bytes[..header_bytes]), whole.clone());
        }
        // A verdict once given stays, however many bytes follow.
        for cut in 0..bytes.len().min(64) {
            let early = parse(&bytes[..cut]);
            if early != Ok(HeaderProgress::Incomplete) {
                prop_assert!(early == whole || matches!((&early, &whole), (Err(_), Err(_))), "{:?} {:?}", early, whole);
            }
        }
    }

    #[test]
    fn every_client_comes_through(
        source in any::<SocketAddr>(),
        target in any::<SocketAddr>(),
        more in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assume!(source.is_ipv4() == target.is_ipv4());
        let plain = SocketAddr::new(source.ip(), source.port());
        let expected = Origin::Client(SocketAddr::new(source.ip().to_canonical(), source.port()));
        let family = if source.is_ipv4() { 0x11 } else { 0x21 };
        let header = v2(0x21, family, &[block(plain, target), more].concat());
        prop_assert_eq!(parse(&header), Ok(HeaderProgress::Complete { origin: expected, header_bytes: header.len() }));
        let name = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), target.ip());
        let line = format!("PROXY {name} {from} {to} {} {}\r\n", source.port(), target.port());
        prop_assert!(line.len() <= V1_BYTES_MAX);
        prop_assert_eq!(
            parse(line.as_bytes()),
            Ok(HeaderProgress::Complete { origin: expected, header_bytes: line.len() })
        );
    }

    #[test]
    fn no_frame_begins_like_a_header(size in 0..=FRAME_BYTES_LIMIT) {
        prop_assert_eq!(begins(&encode_header(size)), Some(false));
    }
}

/// Generates random bytes, some of which begin like headers.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let beginnings = prop_oneof![
        Just(Vec::new()),
        Just(b"PROXY ".to_vec()),
        Just(b"PROXY TCP4 ".to_vec()),
        Just(b"PROXY TCP6 ::1 ".to_vec()),
        Just(b"PROXY UNKNOWN".to_vec()),
        Just(SIGNATURE.to_vec()),
        Just([SIGNATURE, &[0x21, 0x11, 0, 12]].concat()),
        Just([SIGNATURE, &[0x21, 0x21, 0, 36]].concat()),
        Just([SIGNATURE, &[0x20]].concat()),
    ];
    let rest = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..160),
        "[0-9a-f:. \r\n]{0,120}".prop_map(String::into_bytes),
    ];
    (beginnings, rest).prop_map(|(beginning, rest)| [beginning, rest].concat())
}
