//! The rules that must hold between settings, and between them and the host.

use std::io::{Error, ErrorKind};

use socket2::{Domain, Protocol, Socket, Type};

use super::choices::{ProxyProtocolChoice, SinkChoice};
use super::faults::{Fault, Reach, remedy};
use super::settings::Settings;

/// Finds settings that contradict each other.
pub(super) fn combinations(settings: &Settings, faults: &mut Vec<Fault>) {
    if settings.sink == SinkChoice::Store && settings.spool.is_none() {
        faults.push(Fault::new("spool", "sink = \"store\" needs a directory for the frames: set spool"));
    }
    if !settings.control_is_local() && settings.token_file.is_none() {
        let reason = format!(
            "{} can be reached from other hosts: set token_file, or listen on 127.0.0.1",
            settings.control_listen
        );
        faults.push(Fault::new("control_listen", reason));
    }
    if settings.uploads && settings.root.is_none() {
        faults.push(Fault::new("uploads", "there is no directory to put files into: set root"));
    }
    if settings.uploads && settings.token_file.is_none() {
        check_unguarded_uploads(settings, faults);
    }
    if settings.data_listen == settings.control_listen && settings.data_listen.port() != 0 {
        faults.push(Fault::new("control_listen", "the same address and port as data_listen"));
    }
    if settings.proxy_protocol == ProxyProtocolChoice::Required && settings.trusted_proxies.is_empty() {
        let reason =
            "required of everybody and believed of nobody, so that nobody could connect: set trusted_proxies";
        faults.push(Fault::new("proxy_protocol", reason));
    }
}

/// Finds uploads that are open without a token. Whoever reaches the data plane may write then, so that must be
/// this host alone, and not by a proxy on it.
fn check_unguarded_uploads(settings: &Settings, faults: &mut Vec<Fault>) {
    if !settings.data_is_local() {
        let reason = format!(
            "data_listen {} can be reached from other hosts: set token_file, or listen on 127.0.0.1",
            settings.data_listen
        );
        faults.push(Fault::new("uploads", reason));
    } else if settings.opens_to_proxies() {
        let reason = "hosts_allowed has names of a proxy, whose clients all look like this host: set token_file, or \
                      leave uploads or hosts_allowed away";
        faults.push(Fault::new("uploads", reason));
    }
}

/// Finds directories that can't be read.
pub(super) fn directories(
    settings: &Settings,
    reach: Reach,
    is_no_fault: impl Fn(&Error) -> bool,
    faults: &mut Vec<Fault>,
) {
    for (setting, directory) in [("root", &settings.root), ("spool", &settings.spool)] {
        let Some(directory) = directory else { continue };
        let Err(error) = std::fs::read_dir(directory) else { continue };
        if is_no_fault(&error) {
            continue;
        }
        let remedy = match error.kind() {
            ErrorKind::NotADirectory => ": name a directory",
            _ => remedy(&error, reach),
        };
        faults.push(Fault::new(setting, format!("{}: {error}{remedy}", directory.display())));
    }
}

/// Finds a congestion control that the kernel doesn't have. The kernel may load it when it is asked for (tcp(7),
/// TCP_CONGESTION).
pub(super) fn congestion_control(settings: &Settings, faults: &mut Vec<Fault>) {
    let Some(name) = &settings.congestion_control else { return };
    let domain = Domain::for_address(settings.data_listen);
    // A failure to make any socket is told where one is bound.
    let Ok(socket) = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)) else { return };
    let Err(error) = socket.set_tcp_congestion(name.as_bytes()) else { return };
    let remedy = match error.kind() {
        ErrorKind::NotFound => {
            "there is none of this name: net.ipv4.tcp_available_congestion_control lists them"
        }
        ErrorKind::PermissionDenied => {
            "only those in net.ipv4.tcp_allowed_congestion_control go without CAP_NET_ADMIN"
        }
        _ => "name another",
    };
    faults.push(Fault::new("congestion_control", format!("{name:?}: {error}: {remedy}")));
}
