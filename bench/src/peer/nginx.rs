//! nginx as its documentation and its makers' notes on tuning advise for files: sendfile with tcp_nopush, open files
//! cached, no access log.

use std::path::PathBuf;

use rustix::process::geteuid;

use super::error::StartError;
use super::place::Place;
use super::recipe::{Configuration, IDLE_TIMEOUT_S, Recipe, UploadSupport};
use super::setup::UploadSetup;
use super::{process, staging};

/// The memory for a body, from which nginx writes to its file.
const BODY_BUFFER: &str = "1m";

/// The threads that read files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// The worker, which waits for the disk.
    ByWorker,
    /// A thread pool of nginx's default size (`aio threads`), so that the worker doesn't wait.
    ByThreads,
}

pub(super) fn recipe(place: &Place<'_>, program: PathBuf, reads: Reads) -> Result<Recipe, StartError> {
    let uploads = match &place.setup.uploads {
        None => UploadSupport::Refused,
        Some(UploadSetup { durable: true, .. }) => {
            return Err(StartError::Unable("doesn't sync what it takes".to_owned()));
        }
        Some(_) => {
            let facts = process::output(&program, &["-V"], &place.directory)?;
            if !facts.contains("http_dav_module") {
                return Err(StartError::Unable("is built without its dav module".to_owned()));
            }
            UploadSupport::Taken
        }
    };
    let path = place.file("nginx.conf");
    let arguments = ["-p", &place.file(""), "-e", "stderr", "-c", &path].map(str::to_owned).to_vec();
    Ok(Recipe {
        arguments,
        configuration: Some(Configuration { path: PathBuf::from(path), text: configuration(place, reads) }),
        version_arguments: &["-v"],
        uploads,
        ..Recipe::new(place, program)
    })
}

fn configuration(place: &Place<'_>, reads: Reads) -> String {
    // Otherwise the workers of a root master become `nobody`, who may not read the root.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    let aio = if reads == Reads::ByThreads { "    aio threads;\n" } else { "" };
    // Several workers get a listener each, over which the kernel spreads connections evenly.
    let reuseport = if place.setup.workers > 1 { " reuseport" } else { "" };
    let temporary_paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path \"{}\";\n", place.file(&format!("{kind}_temp"))))
        .concat();
    let uploads =
        place.setup.uploads.as_ref().map(|uploads| upload_locations(place, uploads)).unwrap_or_default();
    format!(
        r#"{user}daemon off;
pid "{pid}";
error_log stderr warn;
worker_processes {workers};
worker_rlimit_nofile {open_files_max};
events {{
    worker_connections {connections_max};
}}
http {{
    default_type application/octet-stream;
    access_log off;
    sendfile on;
{aio}    tcp_nopush on;
    tcp_nodelay on;
    open_file_cache max=10000 inactive=60s;
    open_file_cache_valid 60s;
    open_file_cache_min_uses 1;
    keepalive_timeout {IDLE_TIMEOUT_S}s;
    keepalive_requests 1000000000;
{temporary_paths}    server {{
        listen {listen} backlog=4096{reuseport};
        root "{root}";
{uploads}    }}
}}
"#,
        pid = place.file("nginx.pid"),
        workers = place.setup.workers,
        open_files_max = place.open_files_max,
        connections_max = place.connections_max(),
        listen = place.http,
        root = place.root,
    )
}

/// Writes the locations of uploads. Bodies are received in the directory that they go to, so that its file system
/// renames them. Descriptors aren't kept there: a replaced file would be served for as long.
fn upload_locations(place: &Place<'_>, uploads: &UploadSetup) -> String {
    let name = place.directory.file_name().unwrap_or_default().to_string_lossy();
    let location = |directory: &String| {
        format!(
            r#"        location /{directory}/ {{
            dav_methods PUT DELETE;
            client_max_body_size 0;
            client_body_buffer_size {BODY_BUFFER};
            client_body_temp_path "{root}/{directory}/{own}";
            open_file_cache off;
        }}
"#,
            root = place.root,
            own = staging::directory_of(&name),
        )
    };
    uploads.directories.iter().map(location).collect()
}
