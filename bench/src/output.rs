//! An output file, written at the end of a run: whether that is possible is known at its beginning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::usage::refuse;

/// A file that a run will write. Until then, a file that has the name stays as it is.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
    /// The path that the bytes are written to first, beside the file that they will replace; None for a pipe, a
    /// device, or a file in a directory that can't be written to.
    aside: Option<PathBuf>,
}

impl Output {
    /// Opens the file that will be written to `path`.
    pub fn prepare(path: &Path) -> Result<Output> {
        match open(path) {
            Ok(output) => Ok(output),
            Err(error) => refuse!("{} can't be written: {error}", path.display()),
        }
    }

    /// Writes the file, and gives it its name.
    pub fn write(mut self, bytes: &[u8]) -> Result<()> {
        self.write_and_name(bytes).with_context(|| self.path.display().to_string())
    }

    fn write_and_name(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.aside.is_none() && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(bytes)?;
        if let Some(aside) = &self.aside {
            fs::rename(aside, &self.path)?;
            self.aside = None;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(aside) = &self.aside {
            // A file that can't be removed is empty, or as much as a full disk took.
            let _ = fs::remove_file(aside);
        }
    }
}

fn open(path: &Path) -> io::Result<Output> {
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let in_place = |create| OpenOptions::new().write(true).create(create).truncate(false).open(path);
    let Some(found) = found else {
        // A link to nowhere is written through, as any program does.
        if path.is_symlink() {
            return Ok(Output { path: path.to_owned(), file: in_place(true)?, aside: None });
        }
        return open_aside(path);
    };
    let file = in_place(false)?;
    if !found.is_file() {
        return Ok(Output { path: path.to_owned(), file, aside: None });
    }
    // If the path is a link, its target is replaced.
    let path = fs::canonicalize(path)?;
    match open_aside(&path) {
        Ok(output) => {
            output.file.set_permissions(found.permissions())?;
            Ok(output)
        }
        Err(_) => Ok(Output { path, file, aside: None }),
    }
}

fn open_aside(path: &Path) -> io::Result<Output> {
    if path.file_name().is_none() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let name = format!(".stream-bench-{}.part", std::process::id());
    let aside = path.with_file_name(name);
    let file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    Ok(Output { path: path.to_owned(), file, aside: Some(aside) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Output;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_has_the_name_stays_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("run.json"), directory.path().join("link"));
        drop(Output::prepare(&path).unwrap());
        assert!(names(directory.path()).is_empty());
        Output::prepare(&path).unwrap().write(b"first, and long").unwrap();
        drop(Output::prepare(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first, and long");
        std::os::unix::fs::symlink("run.json", &link).unwrap();
        Output::prepare(&link).unwrap().write(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert!(link.is_symlink());
        assert_eq!(names(directory.path()), ["link", "run.json"]);
    }

    #[test]
    fn devices_are_written_to_and_not_replaced() {
        Output::prepare(Path::new("/dev/null")).unwrap().write(b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(Output::prepare(Path::new("/dev/full")).unwrap().write(b"x").is_err());
    }

    #[test]
    fn what_cannot_be_written_is_said_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for path in
            [directory.path().join("no/such"), directory.path().to_owned(), "/proc/x".into(), "".into()]
        {
            let error = Output::prepare(&path).unwrap_err();
            assert!(error.is::<crate::usage::UsageError>(), "{error}");
        }
    }
}
