//! Access to the control plane: the bearer token, and the checks that keep web pages from driving a daemon on
//! localhost.

use hyper::Version;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;

use super::caller::Caller;
use super::error::ApiError;
use crate::config::{Token, names_address, names_this_host};
use crate::protocol::http1::authority::Authority;
use crate::protocol::name::escape_for_log;

/// The field in which a browser tells where a page's request comes from (Fetch Metadata 2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses foreign web pages, and callers without the token where there is one.
///
/// A token also settles DNS rebinding: the page of an attacker whose name was pointed at this address doesn't know
/// it, so any Host goes, as behind a proxy that hands on the name it was called by.
///
/// Without a token the plane listens on loopback alone, and Host tells a rebound page from a local caller. It is
/// the attacker's name, which has a dot, whether the browser reaches the plane itself or a proxy on this host that
/// hands the name on. An IP address can't be rebound, and `localhost` and names without a dot (a proxy's upstream
/// name, this host's own) aren't an attacker's to publish in the DNS.
///
/// A caller on this host needs no token then, but a proxy on it that asks for somebody elsewhere is refused.
pub(super) fn check(request: &Parts, caller: Caller, token: Option<&Token>) -> Result<(), ApiError> {
    let host = host(request)?;
    check_origin(&request.headers, host)?;
    match token {
        Some(token) => check_bearer(&request.headers, token),
        None if caller.is_elsewhere => Err(ApiError::Elsewhere(caller)),
        None => check_host(host),
    }
}

/// Returns the authority that the request is for (RFC 9112 3.2 and 3.3); None is possible before HTTP/1.1 only.
fn host(request: &Parts) -> Result<Option<Authority<'_>>, ApiError> {
    let mut values = request.headers.get_all(HOST).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::BadHost("is there more than once"));
    }
    if first.is_none() && request.version >= Version::HTTP_11 {
        return Err(ApiError::BadHost("is missing"));
    }
    // The authority of a target in absolute form outranks Host (RFC 9112 3.2.2).
    let of_target = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let Some(text) = of_target.or(first.map(HeaderValue::as_bytes)) else { return Ok(None) };
    let authority = Authority::parse(text).ok_or(ApiError::BadHost("is no HOST or HOST:PORT"))?;
    Ok(Some(authority))
}

/// Refuses requests of foreign web pages. Browsers send Origin (RFC 6454 7) with each POST and with each request
/// across origins, and Sec-Fetch-Site (Fetch Metadata) with all others; other clients send neither.
fn check_origin(headers: &HeaderMap, host: Option<Authority<'_>>) -> Result<(), ApiError> {
    for origin in headers.get_all(ORIGIN) {
        let is_own =
            origin.to_str().ok().zip(host).is_some_and(|(origin, host)| is_same_origin(origin, host));
        if !is_own {
            return Err(ApiError::ForeignOrigin {
                origin: escape_for_log(origin.as_bytes()),
                host: host.map(shown).unwrap_or_default(),
            });
        }
    }
    let is_cross_site = headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site");
    if is_cross_site { Err(ApiError::CrossSite) } else { Ok(()) }
}

/// Whether `origin` (`http://name:port`, or `null`) names the host that the request is for. The scheme only
/// gives the default port: a proxy may have ended TLS.
fn is_same_origin(origin: &str, host: Authority<'_>) -> bool {
    let (default_port, authority) = match origin.split_once("://") {
        Some(("http", authority)) => (80, authority),
        Some(("https", authority)) => (443, authority),
        _ => return false,
    };
    let Some(authority) = Authority::parse(authority.as_bytes()) else { return false };
    let port_of = |authority: Authority<'_>| authority.port.unwrap_or(default_port);
    authority.host.eq_ignore_ascii_case(host.host) && port_of(authority) == port_of(host)
}

fn check_host(host: Option<Authority<'_>>) -> Result<(), ApiError> {
    // No browser speaks HTTP/1.0 without Host.
    let Some(host) = host else { return Ok(()) };
    let is_dotless = || !host.host.iter().any(|byte| b".%".contains(byte));
    if names_this_host(host.host) || names_address(host.host) || is_dotless() {
        return Ok(());
    }
    Err(ApiError::ForeignHost(shown(host)))
}

/// Writes the authority as it came, for people.
fn shown(authority: Authority<'_>) -> String {
    let host = escape_for_log(authority.host);
    authority.port.map_or(host.clone(), |port| format!("{host}:{port}"))
}

/// Checks the bearer token (RFC 6750 2.1).
fn check_bearer(headers: &HeaderMap, token: &Token) -> Result<(), ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(ApiError::Unauthorized) };
    let presented = bearer(value.as_bytes()).ok_or(ApiError::Unauthorized)?;
    if token.is(presented) { Ok(()) } else { Err(ApiError::Unauthorized) }
}

/// Returns the text behind the scheme, whose name has no case (RFC 9110 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hyper::Request;
    use hyper::http::request::Parts;

    use super::super::caller::Caller;
    use super::super::error::ApiError;
    use super::check;
    use crate::config::Token;

    fn request(headers: &[(&str, &str)]) -> Parts {
        let builder = Request::post("/stream?size=1");
        headers
            .iter()
            .fold(builder, |b, (name, value)| b.header(*name, *value))
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn here() -> Caller {
        Caller::of_peer("127.0.0.1:5".parse::<SocketAddr>().unwrap().into())
    }

    #[test]
    fn callers_elsewhere_need_a_token() {
        let token = Token::new(b"secret").unwrap();
        let elsewhere =
            Caller { address: "192.0.2.7:0".parse::<SocketAddr>().unwrap().into(), is_elsewhere: true };
        let anonymous = request(&[("host", "a")]);
        let refused = check(&anonymous, elsewhere, None).unwrap_err();
        assert_eq!(refused.status(), 403);
        assert!(refused.to_string().contains("192.0.2.7"), "{refused}");
        assert_eq!(check(&anonymous, elsewhere, Some(&token)).unwrap_err().status(), 401);
        let holder = request(&[("host", "a"), ("authorization", "Bearer secret")]);
        assert!(check(&holder, elsewhere, Some(&token)).is_ok());
    }

    fn status(headers: &[(&str, &str)], token: Option<&str>) -> u16 {
        let token = token.map(|token| Token::new(token.as_bytes()).unwrap());
        check(&request(headers), here(), token.as_ref())
            .map_or_else(|error| error.status().as_u16(), |()| 200)
    }

    #[test]
    fn tokens() {
        for (value, expected) in [
            ("Bearer secret", 200),
            ("bearer secret", 200),
            ("BEARER   secret ", 200),
            ("Bearer secre", 401),
            ("Bearer secrets", 401),
            ("Bearer secretsecret", 401),
            ("Bearer ", 401),
            ("Bearer", 401),
            ("Bearersecret", 401),
            ("Basic secret", 401),
            ("secret", 401),
        ] {
            assert_eq!(
                status(&[("host", "a"), ("authorization", value)], Some("secret")),
                expected,
                "{value}"
            );
        }
        assert_eq!(status(&[("host", "a")], Some("secret")), 401);
        let twice = [("host", "a"), ("authorization", "Bearer secret"), ("authorization", "Bearer secret")];
        assert_eq!(status(&twice, Some("secret")), 401);
    }

    #[test]
    fn origins() {
        for (origin, host, expected) in [
            ("http://localhost:8081", "localhost:8081", 200),
            ("http://LOCALHOST:8081", "localhost:8081", 200),
            ("http://localhost", "localhost", 200),
            ("http://localhost", "localhost:80", 200),
            ("https://localhost", "localhost", 200),
            ("https://localhost", "localhost:443", 200),
            ("http://[::1]:8081", "[::1]:8081", 200),
            ("http://localhost:3000", "localhost:8081", 403),
            ("http://localhost", "localhost:8081", 403),
            ("http://127.0.0.1:8081", "localhost:8081", 403),
            ("http://evil.example", "localhost:8081", 403),
            ("http://evil@localhost:8081", "localhost:8081", 403),
            ("null", "localhost:8081", 403),
            ("", "localhost:8081", 403),
            ("file://", "localhost:8081", 403),
            ("localhost:8081", "localhost:8081", 403),
        ] {
            assert_eq!(status(&[("host", host), ("origin", origin)], None), expected, "{origin} to {host}");
        }
        let two = [("host", "a"), ("origin", "http://a"), ("origin", "http://b")];
        assert_eq!(status(&two, None), 403);
        assert_eq!(status(&[("host", "a"), ("sec-fetch-site", "cross-site")], None), 403);
        assert_eq!(status(&[("host", "a"), ("sec-fetch-site", "same-origin")], None), 200);
    }

    #[test]
    fn a_foreign_page_is_refused_before_its_token_is_looked_at() {
        let headers = [("host", "a"), ("origin", "http://evil.example"), ("authorization", "Bearer secret")];
        assert_eq!(status(&headers, Some("secret")), 403);
    }

    #[test]
    fn hosts_that_dns_can_rebind_need_a_token() {
        for (host, expected) in [
            ("127.0.0.1:8081", 200),
            ("[::1]:8081", 200),
            ("localhost", 200),
            ("files.localhost:8081", 200),
            ("streamd_control", 200),
            ("evil.example", 403),
            ("evil.example:8081", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("evil.", 403),
            ("evil%2eexample", 403),
            ("%41", 403),
            ("", 400),
            (":80", 400),
            ("[zzz]", 400),
            ("a%zz", 400),
            ("localhost.", 200),
            ("LOCALHOST", 200),
            ("a b", 400),
            ("user@localhost", 400),
        ] {
            assert_eq!(status(&[("host", host)], None), expected, "{host}");
        }
        let with_token = [("host", "files.example"), ("authorization", "Bearer secret")];
        assert_eq!(status(&with_token, Some("secret")), 200);
    }

    #[test]
    fn one_host_is_needed() {
        assert_eq!(status(&[], None), 400);
        assert_eq!(status(&[("host", "a"), ("host", "a")], None), 400);
    }

    #[test]
    fn the_authority_of_an_absolute_target_outranks_host() {
        let request =
            Request::post("http://evil.example/stream").header("host", "localhost").body(()).unwrap();
        let refused = check(&request.into_parts().0, here(), None).unwrap_err();
        assert!(matches!(refused, ApiError::ForeignHost(host) if host == "evil.example"));
    }
}
