//! The names that uploads go to: made new on a server and removed again, and the files that servers leave behind.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::peer::{fetch, staging};

/// The beginning of the names in a directory of the bench.
const NAME: &str = "put";

/// The names that a plan uploads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadTo {
    /// The beginning of the names; `-0` and so on follow.
    pub path: String,
    /// The directory below the root in which they lie; empty where the root isn't the bench's.
    pub directory: String,
}

impl UploadTo {
    /// Makes names in `directory` below the root.
    pub fn directory(directory: &str) -> UploadTo {
        UploadTo { path: format!("/{directory}/{NAME}"), directory: directory.to_owned() }
    }

    /// Returns the path of connection `number`.
    pub fn path_of(&self, number: usize) -> String {
        format!("{}-{number}", self.path)
    }
}

/// New names on a server: made for uploads, and removed again.
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

    /// Asks the server to remove the names.
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

/// Makes an empty file of this name, which must be free. The name is asked for first, since a server that doesn't
/// know conditions would replace a file.
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

/// Removes the files that uploads to `to` have left below `root`: the next begin from the same state, and broken
/// uploads can't fill the disk.
pub fn tidy(root: &Path, to: &UploadTo) -> Result<()> {
    let directory = root.join(&to.directory);
    remove_files(&directory, |name| name.starts_with(&format!("{NAME}-")))?;
    for parent in [root, &directory] {
        remove_files(&parent.join(staging::STREAMD_DIRECTORY), |_| true)?;
    }
    Ok(())
}

/// Removes, besides those, the directories that `peers` made for uploads to `to`.
pub fn tidy_up(root: &Path, to: &UploadTo, peers: &[&str]) -> Result<()> {
    tidy(root, to)?;
    let directory = root.join(&to.directory);
    let own = peers.iter().map(|peer| directory.join(staging::directory_of(peer)));
    for directory in own.chain([root, &directory].map(|parent| parent.join(staging::STREAMD_DIRECTORY))) {
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
            // A server may remove its own files at the same time.
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
