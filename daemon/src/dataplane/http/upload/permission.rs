//! Decides who may write: the holder of the token where there is one, else this host alone, and no web page.

use std::net::IpAddr;

use super::super::super::connection::Connection;
use super::super::super::context::Worker;
use super::answer::Answer;
use crate::protocol::cors;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::request::{Request, Signs, WriteFields};
use crate::protocol::name::{Name, escape_for_log};

/// Refuses writes without the token where one is set, wherever the daemon listens: a proxy on this host makes everybody
/// look like a local user. A page that holds the token is its owner's, whatever name it knows this daemon by.
///
/// Without a token the daemon listens on a loopback address, and what tells a local program from a web page is Origin,
/// which a browser sends with each write (RFC 6454 7) and other clients don't, and Host, which says the name of a page
/// that was rebound (DNS) to this address. What says that it came by a proxy may be anybody's, even where the proxy is
/// trusted: it may pass on a field that it doesn't write. A PROXY header is the proxy's alone, so that whom it names on
/// this host is on this host.
///
/// A page of an origin that is allowed by its name (`cors`) is as a program on this host. One that is allowed with all
/// others isn't: who lets everybody read doesn't mean everybody to write.
pub(super) fn check(
    worker: &Worker,
    connection: &Connection,
    name: &Name,
    fields: &WriteFields,
) -> Result<(), Answer> {
    let (live, listener) = (worker.live(), connection.via.listener);
    if let Some(token) = &live.token {
        let presented = fields.authorization.as_ref().and_then(|credentials| credentials.bearer());
        return if presented.is_some_and(|presented| token.is(presented)) {
            Ok(())
        } else {
            Err(unauthorized())
        };
    }
    // Such settings are refused at the start and at a reload; this holds whatever happens there.
    if live.settings.uploads_need_token() {
        return Err(unauthorized());
    }
    if let Some(host) = fields.host.as_deref().filter(|host| !live.listeners.admit(listener, host)) {
        let error = RequestError::HostNotAllowed { host: escape_for_log(host) };
        return Err(Answer::problem(error.status(), &error.to_string()));
    }
    let is_named = is_named_origin(worker, name, fields.origin.as_deref());
    check_local(fields.signs(), is_named, client_elsewhere(connection))
}

/// Whether whoever makes this request, which reads, may write to what it reads: the holder of the token, and without
/// one whoever may upload. Hidden names are for them.
pub(in super::super) fn may_write(worker: &Worker, connection: &Connection, request: &Request) -> bool {
    let live = worker.live();
    if let Some(token) = &live.token {
        let authorization = request.read.as_ref().and_then(|fields| fields.authorization.as_ref());
        return authorization.and_then(|given| given.bearer()).is_some_and(|presented| token.is(presented));
    }
    if !worker.takes_upload_of(&request.name) || live.settings.uploads_need_token() {
        return false;
    }
    let origin = request.read.as_ref().and_then(|fields| fields.origin.as_deref());
    let is_named = is_named_origin(worker, &request.name, origin);
    check_local(request.signs, is_named, client_elsewhere(connection)).is_ok()
}

/// The client that a proxy stands for, and that isn't on this host.
fn client_elsewhere(connection: &Connection) -> Option<IpAddr> {
    connection.who.is_elsewhere().then(|| connection.client().ip())
}

/// Whether the share of a name allows pages of this origin by its name.
fn is_named_origin(worker: &Worker, name: &Name, origin: Option<&[u8]>) -> bool {
    let Some(origin) = origin else { return false };
    let served = worker.served();
    let cors = served.find(name).and_then(|(served, _)| served.share.cors());
    cors.is_some_and(|cors| cors::is_named(&cors.origins, origin))
}

/// Refuses whoever isn't a program on this host, nor a page of an origin that `is_named`. `elsewhere`: the client that
/// a proxy stands for, which isn't.
fn check_local(signs: Signs, is_named: bool, elsewhere: Option<IpAddr>) -> Result<(), Answer> {
    if signs.is_forwarded {
        let detail =
            "this came by a proxy, whose clients all look like this host: uploads by one need a token_file";
        return Err(Answer::problem(403, detail));
    }
    if let Some(client) = elsewhere {
        let detail = format!(
            "this came by a proxy, for a client that is not on this host (as far as is known, {client}): uploads by \
             one need a token_file"
        );
        return Err(Answer::problem(403, &detail));
    }
    match (signs.has_origin || signs.is_cross_site, is_named) {
        (false, _) | (true, true) => Ok(()),
        (true, false) => {
            Err(Answer::problem(403, "web pages may not write without the token of this daemon"))
        }
    }
}

fn unauthorized() -> Answer {
    let detail = "uploads need the token of this daemon: Authorization: Bearer TOKEN";
    Answer::problem(401, detail).field("WWW-Authenticate", "Bearer")
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Signs, check_local};
    use crate::protocol::http1::request::{Progress, parse};

    fn status(fields: &str, elsewhere: Option<IpAddr>) -> Option<u16> {
        let head = format!("PUT /file HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: 0\r\n\r\n");
        let Ok(Progress::Complete { request, .. }) = parse(head.as_bytes()) else { panic!("{head}") };
        let signs = request.write.unwrap().signs();
        assert_eq!(request.signs, signs, "{head}");
        check_local(signs, false, elsewhere).err().map(|answer| answer.status())
    }

    #[test]
    fn without_a_token_only_programs_of_this_host_may_write() {
        assert_eq!(status("", None), None);
        assert_eq!(status("", Some(Ipv4Addr::new(192, 0, 2, 7).into())), Some(403));
        for fields in [
            "Origin: http://localhost:8080\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Forwarded: for=127.0.0.1\r\n",
            "Via: 1.1 proxy\r\n",
        ] {
            assert_eq!(status(fields, None), Some(403), "{fields}");
        }
        let page = Signs { has_origin: true, is_cross_site: true, is_forwarded: false };
        assert!(check_local(page, true, None).is_ok(), "a page that is allowed by its name");
        let forwarded = Signs { is_forwarded: true, ..page };
        assert!(check_local(forwarded, true, None).is_err());
    }
}
