//! The rules that must hold between settings, and between them and the host.

use std::io::{Error, ErrorKind};

use socket2::{Domain, Protocol, Socket, Type};

use super::check_listeners;
use super::choices::{PlaneChoice, SinkChoice, SymlinkChoice};
use super::faults::{Fault, Reach, remedy};
use super::settings::Settings;
use super::share_path::SharePath;
use super::share_settings::ShareSettings;

/// Finds settings that contradict each other.
pub(super) fn combinations(settings: &Settings, faults: &mut Vec<Fault>) {
    if settings.sink == SinkChoice::Store && settings.spool.is_none() {
        faults.push(Fault::new("spool", "sink = \"store\" needs a directory for the frames: set spool"));
    }
    check_listeners::combinations(settings, faults);
    shares(settings, faults);
    if settings.uploads && settings.root.is_none() {
        faults.push(Fault::new("uploads", "there is no directory to put files into: set root"));
    }
    if settings.takes_uploads() && settings.token_file.is_none() {
        check_unguarded_uploads(settings, faults);
    }
}

/// Finds shares that lack something, or share a path.
fn shares(settings: &Settings, faults: &mut Vec<Fault>) {
    let mut add = |key: &str, reason: String| faults.push(Fault::new(key, reason));
    let mut paths: Vec<&str> = settings.root.iter().map(|_| "/").collect();
    for share in &settings.share {
        let Some(path) = share.path.as_ref().map(SharePath::as_str) else {
            add("share.path", "is missing: a share is served below a path, as path = \"/iso\"".to_owned());
            continue;
        };
        if share.root.is_none() {
            add("share.root", format!("is missing for {path}: name its directory, as root = \"/srv/iso\""));
        }
        if paths.contains(&path) {
            let remedy =
                if path == "/" { ": the keys of the file's top are this one, root among them" } else { "" };
            add("share.path", format!("{path} is taken by another share{remedy}"));
        }
        paths.push(path);
    }
    let all = settings.root_share().into_iter().chain(settings.share.iter().cloned());
    all.for_each(|share| check_share(&share, faults));
}

/// Finds settings of one share that contradict each other.
fn check_share(share: &ShareSettings, faults: &mut Vec<Fault>) {
    let path = share.path.as_ref().map_or("/", SharePath::as_str);
    let prefix = if path == "/" { "" } else { "share." };
    let mut add = |key: &str, reason: &str| faults.push(Fault::new(&format!("{prefix}{key}"), reason));
    if share.symlinks == SymlinkChoice::Anywhere && share.symlink_targets.is_empty() {
        add(
            "symlink_targets",
            "symlinks = \"anywhere\" needs the directories that links lead into: name them here",
        );
    }
    if share
        .cors
        .as_ref()
        .is_some_and(|cors| cors.credentials && cors.origins.iter().any(|origin| origin == "*"))
    {
        add("cors.credentials", "browsers take no credentials for origins = [\"*\"]: name the origins");
    }
    if share.headers.iter().any(|rule| rule.r#match.is_none() || rule.set.is_empty()) {
        add(
            "headers",
            "each rule needs names and fields: match = \"*.js\", set = { Cache-Control = \"no-cache\" }",
        );
    }
}

/// Finds uploads that are open without a token. Whoever reaches the data plane may write then, so that must be
/// this host alone, and not by a proxy on it.
fn check_unguarded_uploads(settings: &Settings, faults: &mut Vec<Fault>) {
    if let Some(listen) = settings.reached_from_elsewhere(PlaneChoice::Data) {
        let reason = format!("{} {}", listen.key(), check_listeners::open_to_others(&listen));
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
    let own = [("root", &settings.root), ("spool", &settings.spool)];
    let of_shares = settings.share.iter().map(|share| ("share.root", &share.root));
    for (setting, directory) in own.into_iter().chain(of_shares) {
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
    let address = settings.listeners_of(PlaneChoice::Data).find_map(|listen| listen.address?.inet());
    let Some(domain) = address.map(Domain::for_address) else { return };
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
