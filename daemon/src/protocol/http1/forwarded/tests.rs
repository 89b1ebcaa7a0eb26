use std::net::IpAddr;

use proptest::prelude::*;

use super::{ForwardedError, Sender, of_fields, of_head};

/// Trusts loopback and 10.0.0.0/8.
fn is_trusted(address: IpAddr) -> bool {
    address.is_loopback() || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
}

fn said(forwarded: &[&str], x_forwarded_for: &[&str]) -> Result<Option<Sender>, ForwardedError> {
    let (standard, custom) = (forwarded.iter(), x_forwarded_for.iter());
    of_fields(standard.map(|value| value.as_bytes()), custom.map(|value| value.as_bytes()), is_trusted)
}

/// Returns the client as text; `-` for one that isn't named.
fn shown(said: Result<Option<Sender>, ForwardedError>) -> String {
    match said {
        Ok(Some(Sender::Client(address))) => address.to_string(),
        Ok(Some(Sender::Unnamed)) => "-".to_owned(),
        Ok(None) => "nothing".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn the_last_that_is_not_trusted_is_the_client() {
    for (values, expected) in [
        (&["192.0.2.7"][..], "192.0.2.7:0"),
        (&["198.51.100.1, 192.0.2.7"], "192.0.2.7:0"),
        (&["198.51.100.1, 192.0.2.7, 10.0.0.1"], "192.0.2.7:0"),
        (&["198.51.100.1,192.0.2.7 ,\t10.0.0.1,127.0.0.1"], "192.0.2.7:0"),
        (&["198.51.100.1", "192.0.2.7", "10.0.0.1"], "192.0.2.7:0"),
        (&["10.0.0.2, 10.0.0.1"], "10.0.0.2:0"),
        (&["127.0.0.1"], "127.0.0.1:0"),
        (&["garbage, 192.0.2.7"], "192.0.2.7:0"),
        (&["192.0.2.7:5432"], "192.0.2.7:5432"),
        (&["2001:db8::7"], "[2001:db8::7]:0"),
        (&["[2001:db8::7]"], "[2001:db8::7]:0"),
        (&["[2001:db8::7]:443"], "[2001:db8::7]:443"),
        (&["\"[2001:db8::7]:443\""], "[2001:db8::7]:443"),
        (&["::ffff:192.0.2.7"], "192.0.2.7:0"),
        (&["::ffff:10.0.0.1"], "10.0.0.1:0"),
        (&["192.0.2.7, unknown"], "-"),
        (&["192.0.2.7, unknown, 10.0.0.1"], "-"),
        (&["Unknown"], "-"),
        (&["192.0.2.7,,"], "192.0.2.7:0"),
        (&["", " , "], "nothing"),
        (&[], "nothing"),
    ] {
        assert_eq!(shown(said(&[], values)), expected, "{values:?}");
    }
}

#[test]
fn forwarded_is_read_as_its_rfc_has_it() {
    for (values, expected) in [
        (&["for=192.0.2.7"][..], "192.0.2.7:0"),
        (&["For=192.0.2.7;proto=http;by=203.0.113.43"], "192.0.2.7:0"),
        (&["proto=http; for=192.0.2.7 ;by=\"_x\""], "192.0.2.7:0"),
        (&["for=198.51.100.1, for=192.0.2.7"], "192.0.2.7:0"),
        (&["for=198.51.100.1", "for=192.0.2.7, for=10.0.0.1"], "192.0.2.7:0"),
        (&["for=\"[2001:db8:cafe::17]:4711\""], "[2001:db8:cafe::17]:4711"),
        (&["for=\"[2001:db8:cafe::17]\""], "[2001:db8:cafe::17]:0"),
        (&["for=\"192.0.2.7:8000\""], "192.0.2.7:8000"),
        (&["for=192.0.2.7:8000"], "192.0.2.7:8000"),
        (&["for=\"192.0.2.7:_x\""], "192.0.2.7:0"),
        (&["for=\"192.0.2.\\7\""], "192.0.2.7:0"),
        (&["for=\"_gazonk\""], "-"),
        (&["for=_SEVKISEK"], "-"),
        (&["for=_a:_b"], "-"),
        (&["for=unknown:80"], "-"),
        (&["for=192.0.2.7, for=unknown, for=10.0.0.1"], "-"),
        (&["for=192.0.2.7, proto=https"], "-"),
        (&["for=10.0.0.2, for=10.0.0.1"], "10.0.0.2:0"),
        (&["for=\"a\\\"b\", for=192.0.2.7"], "error: the Forwarded field"),
        (&["for=\"unterminated, for=192.0.2.7"], "error: the Forwarded field"),
        (&["for=\"x, for=\"[2001:db8::1]\""], "error: the Forwarded field"),
        (&["for=\"192.0.2.7\"x"], "error: the Forwarded field"),
        (&["for=192.0.2.7;for=192.0.2.8"], "error: the Forwarded field"),
        (&["for="], "error: the Forwarded field"),
        (&["for"], "error: the Forwarded field"),
        (&["=192.0.2.7"], "error: the Forwarded field"),
        (&["for=garbage"], "error: the Forwarded field"),
        (&["for=192.0.2.7:99999"], "error: the Forwarded field"),
        (&["for=_"], "error: the Forwarded field"),
    ] {
        let shown = shown(said(values, &[]));
        assert!(shown.starts_with(expected), "{values:?}: {shown}");
    }
}

#[test]
fn entries_that_decide_must_be_addresses() {
    for value in ["garbage", "192.0.2.7, garbage", "192.0.2.7.1", "[::1", "1", "192.0.2.7:http", "\"\""] {
        let error = said(&[], &[value]).unwrap_err();
        assert!(matches!(error, ForwardedError::Node { .. }), "{value}: {error}");
    }
    let error = said(&[], &["\u{1b}[31m"]).unwrap_err().to_string();
    assert!(error.contains("\\x1b"), "{error}");
}

#[test]
fn the_two_fields_must_agree() {
    for (forwarded, x_forwarded_for, expected) in [
        ("for=192.0.2.7", "192.0.2.7", "192.0.2.7:0"),
        ("for=\"192.0.2.7:5\"", "198.51.100.1, 192.0.2.7", "192.0.2.7:5"),
        ("for=192.0.2.7", "192.0.2.7:5, 10.0.0.1", "192.0.2.7:5"),
        ("for=unknown", "unknown", "-"),
        ("for=192.0.2.7", "", "192.0.2.7:0"),
        ("for=127.0.0.1", "192.0.2.7", "error: Forwarded and X-Forwarded-For"),
        ("for=192.0.2.7", "127.0.0.1", "error: Forwarded and X-Forwarded-For"),
        ("for=unknown", "192.0.2.7", "error: Forwarded and X-Forwarded-For"),
        ("for=192.0.2.7", "unknown", "error: Forwarded and X-Forwarded-For"),
    ] {
        let shown = shown(said(&[forwarded], &[x_forwarded_for]));
        assert!(shown.starts_with(expected), "{forwarded} {x_forwarded_for}: {shown}");
    }
}

#[test]
fn a_head_is_looked_through_once_its_fields_are_there() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-FORWARDED-FOR: 192.0.2.7\r\nx-forwarded-for: 10.0.0.1\r\n\r\n";
    assert_eq!(shown(of_head(head.as_bytes(), is_trusted)), "192.0.2.7:0");
    for cut in 0..head.len() {
        assert_eq!(shown(of_head(&head.as_bytes()[..cut], is_trusted)), "nothing", "{cut}");
    }
    assert_eq!(shown(of_head(b"GET / HTTP/1.1\r\nFor warded: a\r\n\r\n", is_trusted)), "nothing");
}

proptest! {
    #[test]
    fn whatever_a_client_wrote_the_proxys_word_counts(
        before in "[ -~]{0,60}",
        last in any::<std::net::Ipv4Addr>(),
    ) {
        prop_assume!(!is_trusted(IpAddr::V4(last)));
        let expected = Ok(Some(Sender::Client((last, 0).into())));
        let (appended, own_line) = (format!("{before}, {last}"), format!("for={last}"));
        prop_assert_eq!(said(&[], &[&appended]), expected.clone());
        prop_assert_eq!(said(&[&before, &own_line], &[]), expected.clone());
        // On one line the text before may make all of it unreadable, but never name another client.
        for node in [format!("for={last}"), format!("for=\"{last}\"")] {
            let result = said(&[&format!("{before}, {node}")], &[]);
            prop_assert!(result == expected || result.is_err(), "{:?}", result);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let once = || std::iter::once(&value[..]);
        let _ = of_fields(once(), std::iter::empty(), is_trusted);
        let _ = of_fields(std::iter::empty(), once(), is_trusted);
    }
}
