//! What becomes of requests for one path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::line::line;
use crate::config::{Exposure, Live, Share};
use crate::files::{FileError, Found, Root};
use crate::protocol::media_type::content_type;
use crate::protocol::name::{Name, NameError};

/// Returns the lines of `--check --path`. `path` is one as URLs have it. Waits for the disk.
///
/// # Errors
/// [`NameError`] for a path that is no name.
pub fn of_path(live: &Live, path: &str) -> Result<String, NameError> {
    let name = Name::parse(path.as_bytes())?;
    let mut text = line("path", path);
    let Some((share, within)) = live.shares.find(name.as_bytes()) else {
        return Ok(text + &line("share", "none has it: 404"));
    };
    let within = name.ending(within.len()).into_owned();
    let asked = Asked { live, share, within, has_slash: name.is_directory() };
    let (kind, leads_to) = asked.look();
    text += &line("share", share.path.as_str());
    text += &line("leads to", &leads_to);
    text += &line("seen by", &asked.readers());
    match kind {
        Kind::Directory => text += &line("answered with", &asked.answer_of_directory()),
        Kind::File | Kind::Nothing => text += &asked.answer_of_file(),
    }
    text += &line("other origins", &asked.origins());
    Ok(text + &line("writes", &asked.writes()))
}

/// A path, and the share that decides about it.
struct Asked<'l> {
    live: &'l Live,
    share: &'l Share,
    /// What it is called within the share.
    within: Name,
    /// Whether the whole path ends in a slash.
    has_slash: bool,
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Nothing,
}

impl Asked<'_> {
    /// Looks where the path leads, and says so.
    fn look(&self) -> (Kind, String) {
        if self.within.is_reserved() {
            return (Kind::Nothing, "nothing: a directory of uploads is shown to nobody, 404".to_owned());
        }
        let place = self.place().display().to_string();
        let settings = &self.share.settings;
        let root = Root::open(&self.share.root)
            .and_then(|root| root.following(settings.symlinks, &settings.symlink_targets));
        let root = match root {
            Ok(root) => root,
            Err(error) => return (Kind::Nothing, format!("nothing: {}: {error}", self.share.root.display())),
        };
        match root.find(&self.within) {
            Ok(Found::File(file)) => (Kind::File, format!("{place}, a file of {} bytes", file.size())),
            Ok(Found::Directory(_)) => (Kind::Directory, format!("{place}, a directory")),
            Err(FileError::NotFound) => (Kind::Nothing, self.nothing(&root, &place)),
            Err(error) => (Kind::Nothing, format!("{place}: {error}")),
        }
    }

    fn place(&self) -> PathBuf {
        match self.within.as_bytes() {
            b"" => self.share.root.clone(),
            name => self.share.root.join(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name))),
        }
    }

    fn nothing(&self, root: &Root, place: &str) -> String {
        match root.link_refused(&self.within) {
            Some((link, target)) => format!(
                "nothing: the link {link} leads to {target}, and symlinks = \"{}\" doesn't follow it, 404",
                self.share.settings.symlinks.name()
            ),
            None => format!("{place}, which isn't there or is no file: 404"),
        }
    }

    fn readers(&self) -> String {
        let name = self.within.as_bytes();
        if !self.share.hidden.cover(name.strip_suffix(b"/").unwrap_or(name)) {
            return Exposure::of(self.live).reading;
        }
        let writers = match (&self.live.token, self.share.settings.uploads) {
            (Some(_), _) => "who holds the token",
            (None, true) => "this host, but no web page",
            (None, false) => return "nobody: it is hidden, and nobody may write: 404".to_owned(),
        };
        format!("{writers}: it is hidden, and all others get 404")
    }

    fn answer_of_directory(&self) -> String {
        let settings = &self.share.settings;
        let rest = if settings.listing { "a listing" } else { "404: listing is off" };
        let answer = match settings.index.as_slice() {
            [] => rest.to_owned(),
            names => format!("{} where there is one, else {rest}", names.join(" or ")),
        };
        if self.has_slash || settings.index.is_empty() && !settings.listing {
            return answer;
        }
        format!("301 to the path with a slash at its end, and there {answer}")
    }

    fn answer_of_file(&self) -> String {
        let name = self.within.as_bytes();
        let given = self.share.media_type(name).map(str::to_owned);
        let mut text = line("media type", &given.unwrap_or_else(|| content_type(name).into_owned()));
        let fields = self.share.fields(name).into_iter().map(|(name, value)| format!("{name}: {value}"));
        let fields: Vec<String> = fields.collect();
        for (row, field) in fields.iter().enumerate() {
            text += &line(if row == 0 { "headers" } else { "" }, field);
        }
        let own = self.place();
        let own = own.file_name().unwrap_or_default().to_string_lossy();
        let siblings = self.share.settings.precompressed.iter().map(|suffix| format!("{own}.{suffix}"));
        let siblings: Vec<String> = siblings.collect();
        if !siblings.is_empty() {
            let siblings = siblings.join(" or ");
            text += &line("answered with", &format!("{siblings} where there is one and the client takes it"));
        }
        text
    }

    fn origins(&self) -> String {
        match self.share.cors() {
            None => "pages of none may read it: cors is not set".to_owned(),
            Some(cors) if cors.origins.iter().any(|origin| origin == "*") => {
                "pages of any may read it".to_owned()
            }
            Some(cors) => format!("pages of {} may read it", cors.origins.join(", ")),
        }
    }

    fn writes(&self) -> String {
        if !self.share.settings.uploads {
            return "refused with 405: uploads is off for this share".to_owned();
        }
        let writers =
            if self.live.token.is_some() { "who holds the token" } else { "this host, but no web page" };
        format!("taken of {writers}")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::of_path;
    use crate::config::{CorsSettings, HeaderSettings, Live, Settings, SharePath, ShareSettings};

    fn fixture() -> (tempfile::TempDir, Settings) {
        let around = tempfile::tempdir().unwrap();
        let at = |name: &str| around.path().join(name);
        std::fs::create_dir_all(at("mirror/sub")).unwrap();
        std::fs::create_dir(at("files")).unwrap();
        std::fs::write(at("mirror/a.txt"), "abc").unwrap();
        symlink("/etc/passwd", at("mirror/out")).unwrap();
        let rule = HeaderSettings {
            r#match: Some("*.txt".to_owned()),
            set: [("X-A".to_owned(), "1".to_owned())].into(),
        };
        let share = ShareSettings {
            path: Some(SharePath::parse("/iso").unwrap()),
            root: Some(at("mirror")),
            uploads: true,
            cache_control: Some("no-cache".to_owned()),
            headers: vec![rule],
            precompressed: vec!["zst".to_owned(), "gz".to_owned()],
            cors: Some(CorsSettings {
                origins: vec!["https://a.example".to_owned()],
                ..CorsSettings::default()
            }),
            ..ShareSettings::default()
        };
        let data_listen = "127.0.0.1:8080".parse().unwrap();
        let settings = Settings {
            root: Some(at("files")),
            index: Vec::new(),
            share: vec![share],
            data_listen,
            ..Settings::default()
        };
        (around, settings)
    }

    #[test]
    fn a_path_is_told_where_it_leads_and_what_is_in_force_there() {
        let (around, settings) = fixture();
        let live = Live::new(settings).unwrap();
        let mirror = around.path().join("mirror").display().to_string();
        let expected = format!(
            "path           /iso/a.txt\n\
             share          /iso\n\
             leads to       {mirror}/a.txt, a file of 3 bytes\n\
             seen by        this host, by its own names\n\
             media type     text/plain; charset=utf-8\n\
             headers        Cache-Control: no-cache\n               X-A: 1\n\
             answered with  a.txt.zst or a.txt.gz where there is one and the client takes it\n\
             other origins  pages of https://a.example may read it\n\
             writes         taken of this host, but no web page\n"
        );
        assert_eq!(of_path(&live, "/iso/a.txt").unwrap(), expected);
    }

    #[test]
    fn each_kind_of_path_has_its_own_lines() {
        let (_around, settings) = fixture();
        let live = Live::new(settings.clone()).unwrap();
        for (path, expected) in [
            ("/isolated", "share          /\n"),
            ("/isolated", "/files/isolated, which isn't there or is no file: 404\n"),
            ("/isolated", "other origins  pages of none may read it: cors is not set\n"),
            ("/isolated", "writes         refused with 405: uploads is off for this share\n"),
            ("/.x", "seen by        nobody: it is hidden, and nobody may write: 404\n"),
            (
                "/iso/.git/config",
                "seen by        this host, but no web page: it is hidden, and all others get 404\n",
            ),
            (
                "/iso/.streamd-uploads/a",
                "leads to       nothing: a directory of uploads is shown to nobody, 404\n",
            ),
            ("/iso/sub/", "answered with  index.html where there is one, else 404: listing is off\n"),
            (
                "/iso",
                "answered with  301 to the path with a slash at its end, and there index.html where there is one",
            ),
            ("/", "answered with  404: listing is off\n"),
            (
                "/iso/out",
                "leads to       nothing: the link out leads to /etc/passwd, and symlinks = \"beneath\" doesn't follow \
                 it, 404\n",
            ),
        ] {
            let told = of_path(&live, path).unwrap();
            assert!(told.contains(expected), "{path}:\n{told}");
        }
        assert!(of_path(&live, "/%").is_err());
        let none = Live::new(Settings { root: None, ..settings }).unwrap();
        assert_eq!(of_path(&none, "/x").unwrap(), "path           /x\nshare          none has it: 404\n");
    }
}
