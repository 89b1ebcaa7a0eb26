//! lighttpd: sendfile, no modules, keep-alive as long as it allows.

use std::path::PathBuf;

use super::place::Place;
use super::recipe::{Configuration, IDLE_TIMEOUT_S, Recipe};

/// The most requests of a connection: lighttpd keeps the setting in 16 bits, and closes the connection after so
/// many.
const KEEP_ALIVE_REQUESTS_MAX: u16 = u16::MAX;

pub(super) fn recipe(place: &Place<'_>, program: PathBuf) -> Recipe {
    let path = place.file("lighttpd.conf");
    Recipe {
        arguments: ["-D", "-f", &path].map(str::to_owned).to_vec(),
        configuration: Some(Configuration { path: PathBuf::from(path), text: configuration(place) }),
        version_arguments: &["-v"],
        connections_max: connections_max(place),
        ..Recipe::new(place, program)
    }
}

/// Returns the most connections, half the descriptors: lighttpd refuses more, since a connection may need a file
/// beside its socket.
fn connections_max(place: &Place<'_>) -> u64 {
    place.connections_max().min(place.open_files_max / 2)
}

fn configuration(place: &Place<'_>) -> String {
    // With 0 one process serves; with 1 there would be a second one that only watches it.
    let workers = if place.setup.workers > 1 { place.setup.workers } else { 0 };
    format!(
        r#"server.document-root = "{root}"
server.bind = "{host}"
server.port = {port}
server.modules = ()
server.max-worker = {workers}
server.max-fds = {open_files_max}
server.max-connections = {connections_max}
server.listen-backlog = 4096
server.event-handler = "linux-sysepoll"
server.network-backend = "sendfile"
server.max-keep-alive-requests = {KEEP_ALIVE_REQUESTS_MAX}
server.max-keep-alive-idle = {IDLE_TIMEOUT_S}
server.upload-dirs = ( "{directory}" )
mimetype.assign = ( "" => "application/octet-stream" )
"#,
        root = place.root,
        host = place.http.ip(),
        port = place.http.port(),
        open_files_max = place.open_files_max,
        connections_max = connections_max(place),
        directory = place.directory.display(),
    )
}
