//! caddy: file_server alone, no compression, no access log, no admin port, no certificates.

use std::path::PathBuf;

use super::place::Place;
use super::recipe::{Configuration, IDLE_TIMEOUT_S, Recipe};

pub(super) fn recipe(place: &Place<'_>, program: PathBuf) -> Recipe {
    let path = place.file("Caddyfile");
    Recipe {
        arguments: ["run", "--adapter", "caddyfile", "--config", &path].map(str::to_owned).to_vec(),
        environment: vec![
            // The Go runtime's word for what the other servers call workers.
            ("GOMAXPROCS", place.setup.workers.to_string()),
            ("XDG_CONFIG_HOME", place.file("config")),
            ("XDG_DATA_HOME", place.file("data")),
        ],
        configuration: Some(Configuration { path: PathBuf::from(path), text: configuration(place) }),
        version_arguments: &["version"],
        ..Recipe::new(place, program)
    }
}

fn configuration(place: &Place<'_>) -> String {
    format!(
        r#"{{
	admin off
	auto_https off
	log {{
		level ERROR
	}}
	servers {{
		timeouts {{
			idle {IDLE_TIMEOUT_S}s
		}}
	}}
}}
http://:{port} {{
	bind {host}
	root * "{root}"
	file_server
}}
"#,
        port = place.http.port(),
        host = place.http.ip(),
        root = place.root,
    )
}
