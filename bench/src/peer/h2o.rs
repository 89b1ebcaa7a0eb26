//! h2o: threads by the number of workers, nothing compressed, no access log.

use std::path::PathBuf;

use rustix::process::geteuid;

use super::place::Place;
use super::recipe::{Configuration, IDLE_TIMEOUT_S, Recipe};

pub(super) fn recipe(place: &Place<'_>, program: PathBuf) -> Recipe {
    let path = place.file("h2o.yaml");
    Recipe {
        arguments: ["--mode", "worker", "--conf", &path].map(str::to_owned).to_vec(),
        configuration: Some(Configuration { path: PathBuf::from(path), text: configuration(place) }),
        ..Recipe::new(place, program)
    }
}

fn configuration(place: &Place<'_>) -> String {
    // Without this line h2o as root becomes `nobody`, who may not read the root.
    let user = if geteuid().is_root() { "user: root\n" } else { "" };
    format!(
        r#"{user}num-threads: {workers}
max-connections: {connections_max}
http1-request-timeout: {IDLE_TIMEOUT_S}
listen:
  host: {host}
  port: {port}
file.send-compressed: OFF
hosts:
  default:
    paths:
      "/":
        file.dir: "{root}"
"#,
        workers = place.setup.workers,
        connections_max = place.connections_max(),
        host = place.http.ip(),
        port = place.http.port(),
        root = place.root,
    )
}
