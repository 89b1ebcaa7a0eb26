//! Uploads: measured, and compared with what the server gives back; and what they leave behind, removed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::{Client, Plan, Subject, Timing, load, sample};
use crate::load::{self, Body, Counted, Pace, Source, Tally, Upload, Work as LoadWork};
use crate::peer::{Uploads, fetch, own_cost, staging};
use crate::progress::Progress;
use crate::result::{Sample, Work};

/// Where a plan uploads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadTo {
    /// What the names begin with; `-0` and so on follow.
    pub path: String,
    /// The directory below the root in which they lie; empty where the root isn't the bench's.
    pub directory: String,
}

impl UploadTo {
    /// To `directory` below the root.
    pub fn directory(directory: &str) -> UploadTo {
        UploadTo { path: format!("/{directory}/{NAME}"), directory: directory.to_owned() }
    }

    /// The path of connection `number`.
    pub fn path_of(&self, number: usize) -> String {
        format!("{}-{number}", self.path)
    }
}

/// What the bench's uploads are called.
const NAME: &str = "put";

/// Bytes of the upload that shows whether a server takes any.
const PROBE_BYTES: u64 = 4096;

pub(super) fn measure(
    plan: &Plan,
    subject: &Subject<'_>,
    client: &Client,
    timing: Timing,
    progress: &Progress,
) -> Result<Sample> {
    let Work::Put { body_bytes, connections, .. } = plan.work else { bail!("{} uploads nothing", plan.id) };
    let upload = upload(plan, subject, body_bytes, Counted::Whole)?;
    let load = load(subject.http, LoadWork::Upload(upload.clone()), connections, client, Pace::Closed);
    let costs = || ((subject.cost)(), own_cost());
    let (tally, elapsed, before, after) = load::run(&load, timing.warm_up, timing.duration, progress, costs)?;
    let measured = sample(&tally, elapsed, (before.0, after.0), (before.1, after.1));
    Ok(match compare(subject.http, &upload, &tally) {
        Ok(digests_checked) => Sample { digests_checked, ..measured },
        // What was measured is shown beside it.
        Err(error) => {
            Sample { errors: [measured.errors, vec![(format!("{error:#}"), 1)]].concat(), ..measured }
        }
    })
}

/// What each connection of `plan` uploads.
pub(super) fn upload(plan: &Plan, subject: &Subject<'_>, bytes: u64, counted: Counted) -> Result<Upload> {
    let to = plan.uploads.as_ref().with_context(|| format!("{} has nowhere to upload to", plan.id))?;
    let source = if subject.uploads == Uploads::Made { Source::Server } else { Source::Client };
    Ok(Upload { path: to.path.clone(), bytes, source, counted })
}

/// Whether `subject` takes uploads where `plan` wants them, or why not: a short one shows it.
pub(super) fn can(plan: &Plan, subject: &Subject<'_>) -> Result<(), String> {
    let path = match (&plan.uploads, subject.uploads) {
        (Some(to), Uploads::Taken) => format!("{}-probe", to.path),
        (_, Uploads::Made) => return Ok(()),
        _ => return Err("takes no uploads".to_owned()),
    };
    let body = Body::new(0, 0, PROBE_BYTES);
    let line = fetch::put(subject.http, &path, body.next_bytes()).map_err(|error| format!("{error:#}"))?;
    match fetch::status(&line) {
        201 | 204 => Ok(()),
        _ => Err(format!("answers PUT with {}", line.trim_start_matches("HTTP/1.1 "))),
    }
}

/// Compares what a GET of each name gives back with what was uploaded last; returns how many names.
fn compare(address: SocketAddr, upload: &Upload, tally: &Tally) -> Result<u64> {
    let mut compared = 0;
    for (number, count) in tally.known_uploads() {
        let path = upload.path_of(number);
        let mut expected = match upload.source {
            Source::Client => Body::new(number, count, upload.bytes),
            Source::Server => Body::new(0, 0, upload.bytes),
        };
        let mut is_right = true;
        let (_, bytes) = fetch::get(address, &path, |bytes| {
            is_right = is_right && expected.goes_on_with(bytes);
            Ok(())
        })?;
        if bytes != upload.bytes {
            bail!("GET {path} gives back {bytes} bytes of {} that were uploaded", upload.bytes);
        }
        if !is_right {
            bail!("GET {path} gives back as many bytes as were uploaded, but others");
        }
        compared += 1;
    }
    Ok(compared)
}

/// Names on a server that nothing had before: made for uploads, and removed again.
pub struct NewNames {
    address: SocketAddr,
    made: Vec<String>,
}

impl NewNames {
    /// Makes the names that `connections` connections upload to. Where one exists already, none is left behind.
    pub fn make(address: SocketAddr, to: &UploadTo, connections: usize) -> Result<NewNames> {
        let mut names = NewNames { address, made: Vec::new() };
        for number in 0..connections {
            let path = to.path_of(number);
            match make_name(address, &path) {
                Ok(()) => names.made.push(path),
                Err(error) => {
                    return Err(match names.remove() {
                        Ok(()) => error,
                        Err(also) => anyhow!("{error:#}; {also:#}"),
                    });
                }
            }
        }
        Ok(names)
    }

    /// Asks the server to remove them.
    pub fn remove(self) -> Result<()> {
        let mut stays = None;
        for path in &self.made {
            let line = fetch::delete(self.address, path);
            let is_gone = line.as_ref().is_ok_and(|line| matches!(fetch::status(line), 200 | 204 | 404));
            if !is_gone && stays.is_none() {
                let why = line.map_or_else(|error| format!("{error:#}"), |line| format!("DELETE: {line:?}"));
                stays = Some(format!("{path} stays on the server: {why}"));
            }
        }
        stays.map_or(Ok(()), |what| Err(anyhow!(what)))
    }
}

/// Makes an empty file of this name, which nothing may have. A server that doesn't know conditions would replace a
/// file, so it is asked for it first.
fn make_name(address: SocketAddr, path: &str) -> Result<()> {
    let found = fetch::head(address, path)?;
    if !matches!(fetch::status(&found), 404 | 405 | 410) {
        bail!("{path} may exist already, and was left as it is: HEAD is answered with {found:?}");
    }
    let line = fetch::create(address, path)?;
    match fetch::status(&line) {
        201 => Ok(()),
        412 => bail!("{path} exists already, and was left as it is"),
        status => bail!("{path} can't be made: PUT is answered with status {status}, {line:?}"),
    }
}

/// Removes what uploads to `to` have left below `root`: the next begin from the same state, and what was broken off
/// can't fill the disk.
pub fn tidy(root: &Path, to: &UploadTo) -> Result<()> {
    let directory = root.join(&to.directory);
    remove_files(&directory, |name| name.starts_with(&format!("{NAME}-")))?;
    for home in [root, &directory] {
        remove_files(&home.join(staging::STREAMD_DIRECTORY), |_| true)?;
    }
    Ok(())
}

/// Removes the directories that `peers` made for uploads to `to`, too.
pub fn tidy_up(root: &Path, to: &UploadTo, peers: &[&str]) -> Result<()> {
    tidy(root, to)?;
    let directory = root.join(&to.directory);
    let own = peers.iter().map(|peer| directory.join(staging::directory_of(peer)));
    for directory in own.chain([root, &directory].map(|home| home.join(staging::STREAMD_DIRECTORY))) {
        remove_files(&directory, |_| true)?;
        ignore_absence(fs::remove_dir(&directory)).with_context(|| directory.display().to_string())?;
    }
    Ok(())
}

fn remove_files(directory: &Path, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| directory.display().to_string())?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().to_str().is_some_and(&is_ours) {
            // A server may remove its own at the same time.
            ignore_absence(fs::remove_file(entry.path()))
                .with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

fn ignore_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{UploadTo, tidy, tidy_up};
    use crate::peer::staging;

    #[test]
    fn only_what_uploads_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for directory in ["d/.streamd-uploads", "d/.nginx-body/1", ".streamd-uploads"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for file in ["hot", "d/cold", "d/put-0", "d/put-probe", "d/.streamd-uploads/1", ".streamd-uploads/2"]
        {
            fs::write(at(file), b"x").unwrap();
        }
        let to = UploadTo::directory("d");
        tidy(root.path(), &to).unwrap();
        for (name, is_there) in [
            ("hot", true),
            ("d/cold", true),
            ("d/put-0", false),
            ("d/put-probe", false),
            ("d/.streamd-uploads", true),
            ("d/.streamd-uploads/1", false),
            (".streamd-uploads/2", false),
        ] {
            assert_eq!(at(name).exists(), is_there, "{name}");
        }
        assert!(tidy_up(root.path(), &to, &["nginx"]).is_err(), "a directory that nobody here made");
        fs::remove_dir(at("d").join(staging::directory_of("nginx")).join("1")).unwrap();
        tidy_up(root.path(), &to, &["nginx", "streamd"]).unwrap();
        assert!(at("d/cold").exists() && !at("d/.nginx-body").exists() && !at(".streamd-uploads").exists());
        tidy_up(root.path(), &to, &["nginx"]).unwrap();
    }
}
