//! The rules that must hold between settings, and between them and the host.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use socket2::{Domain, Protocol, Socket, Type};

use super::check_listeners;
use super::choices::{PlaneChoice, SinkChoice};
use super::faults::{Fault, Reach, remedy};
use super::origin::{Origin, Origins};
use super::settings::Settings;

/// Finds settings that contradict each other.
pub(super) fn combinations(settings: &Settings, faults: &mut Vec<Fault>) {
    if settings.sink == SinkChoice::Store && settings.spool.is_none() {
        faults.push(Fault::new("spool", "sink = \"store\" needs a directory for the frames: set spool"));
    }
    check_listeners::combinations(settings, faults);
    if settings.uploads && settings.root.is_none() {
        faults.push(Fault::new("uploads", "there is no directory to put files into: set root"));
    }
}

/// Finds directories that can't be read.
pub(super) fn directories(
    settings: &Settings,
    origins: &Origins,
    reach: Reach,
    is_no_fault: impl Fn(&Error) -> bool,
    faults: &mut Vec<Fault>,
) {
    for Named { setting, origin, directory } in named_directories(settings, origins) {
        let Err(error) = std::fs::read_dir(&directory) else { continue };
        if is_no_fault(&error) {
            continue;
        }
        let remedy = match error.kind() {
            ErrorKind::NotADirectory => ": name a directory",
            _ => remedy(&error, reach),
        };
        let reason = format!("{}: {error}{remedy}", directory.display());
        faults.push(Fault::new(setting, reason).from(origin));
    }
}

/// A directory that a setting names.
struct Named<'s> {
    setting: &'static str,
    origin: Option<&'s Origin>,
    directory: PathBuf,
}

fn named_directories<'s>(settings: &Settings, origins: &'s Origins) -> Vec<Named<'s>> {
    let own = |setting, directory| Named { setting, origin: origins.of(setting), directory };
    let mut all: Vec<Named<'s>> = settings.root.iter().map(|root| own("root", root.clone())).collect();
    all.extend(settings.spool.iter().map(|spool| own("spool", spool.clone())));
    all.extend(settings.roots_allowed.iter().map(|allowed| own("roots_allowed", allowed.into())));
    all.extend(settings.symlink_targets.iter().map(|target| own("symlink_targets", target.into())));
    for (place, share) in settings.share.iter().enumerate() {
        let of_share = |setting, key, directory| {
            let origin = origins.of_share(place, key);
            Named { setting, origin, directory }
        };
        all.extend(share.root.iter().map(|root| of_share("share.root", "root", root.clone())));
        let targets = share.symlink_targets.iter();
        all.extend(targets.map(|target| of_share("share.symlink_targets", "symlink_targets", target.into())));
    }
    all
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
