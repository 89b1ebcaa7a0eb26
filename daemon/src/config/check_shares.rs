//! The rules that must hold between the settings of shares.

use std::path::{Path, PathBuf};

use super::check_listeners;
use super::choices::{PlaneChoice, SymlinkChoice};
use super::faults::Fault;
use super::origin::{Origin, Origins};
use super::settings::Settings;
use super::share_path::SharePath;
use super::share_settings::ShareSettings;

/// The name of directories of uploads, which lie in roots.
pub const UPLOADS_DIRECTORY: &str = ".streamd-uploads";

/// The shares of some settings, each with its place in the file.
struct Given<'s> {
    shares: Vec<(Place<'s>, ShareSettings)>,
}

/// The place of a share in the file.
#[derive(Clone, Copy)]
struct Place<'s> {
    origins: &'s Origins,
    /// The number of its table; None for the keys of the file's top.
    table: Option<usize>,
}

impl<'s> Place<'s> {
    /// Returns the origin of a key.
    fn of(self, key: &str) -> Option<&'s Origin> {
        let Some(table) = self.table else { return self.origins.of(key) };
        self.origins.of_share(table, key)
    }

    /// Makes a fault of a key, or of one within that.
    fn fault(self, key: &str, reason: impl Into<String>) -> Fault {
        let prefix = if self.table.is_some() { "share." } else { "" };
        let outer = key.split('.').next().unwrap_or(key);
        Fault::new(&format!("{prefix}{key}"), reason).from(self.of(outer))
    }

    /// Names the line of a key in a sentence; nothing where it has none.
    fn line_of(self, key: &str) -> String {
        self.of(key).map_or_else(String::new, |origin| format!(" ({origin})"))
    }
}

/// Finds shares that lack something, contradict themselves or get in the way of others.
pub(super) fn combinations(settings: &Settings, origins: &Origins, faults: &mut Vec<Fault>) {
    let root_share = settings.root_share().map(|share| (Place { origins, table: None }, share));
    let tables = settings.share.iter().enumerate();
    let tables = tables.map(|(table, share)| (Place { origins, table: Some(table) }, share.clone()));
    let given = Given { shares: root_share.into_iter().chain(tables).collect() };
    for (place, share) in &given.shares {
        check_presence(*place, share, faults);
        check_links(*place, share, faults);
        check_web(*place, share, faults);
    }
    given.check_paths(faults);
    given.check_staging(faults);
    if settings.token_file.is_none() {
        given.check_unguarded_uploads(settings, faults);
    }
}

fn check_presence(place: Place<'_>, share: &ShareSettings, faults: &mut Vec<Fault>) {
    let Some(path) = &share.path else {
        let reason = "is missing: a share is served below a path; name it, as path = \"/iso\"";
        faults.push(place.fault("path", reason));
        return;
    };
    if share.root.is_none() {
        let reason = format!("is missing for {path}: name its directory, as root = \"/srv/iso\"");
        faults.push(place.fault("root", reason));
    }
    if let Some(root) = share.root.as_ref().filter(|root| is_of_uploads(root)) {
        let reason = format!(
            "{} is or lies in a directory of uploads, which nobody is shown: name another directory",
            root.display()
        );
        faults.push(place.fault("root", reason));
    }
}

fn is_of_uploads(root: &Path) -> bool {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    root.iter().any(|part| part.eq_ignore_ascii_case(UPLOADS_DIRECTORY))
}

fn check_links(place: Place<'_>, share: &ShareSettings, faults: &mut Vec<Fault>) {
    match (share.symlinks, share.symlink_targets.is_empty()) {
        (SymlinkChoice::Anywhere, true) => {
            let reason = "\"anywhere\" needs the directories that links lead into: name them in symlink_targets, as \
                          symlink_targets = [\"/data\"]";
            faults.push(place.fault("symlinks", reason));
        }
        (SymlinkChoice::None | SymlinkChoice::Beneath, false) => {
            let reason =
                "no link is followed there: set symlinks = \"anywhere\", or take symlink_targets out";
            faults.push(place.fault("symlink_targets", reason));
        }
        _ => {}
    }
}

fn check_web(place: Place<'_>, share: &ShareSettings, faults: &mut Vec<Fault>) {
    if let Some(cors) = &share.cors {
        if cors.origins.is_empty() {
            let reason = "nobody is named: list the origins, as origins = [\"https://app.example.org\"], or \
                          take cors out";
            faults.push(place.fault("cors.origins", reason));
        }
        if cors.credentials && cors.origins.iter().any(|origin| origin == "*") {
            let reason = "browsers take no credentials for origins = [\"*\"]: name the origins";
            faults.push(place.fault("cors.credentials", reason));
        }
    }
    if share.headers.iter().any(|rule| rule.r#match.is_none() || rule.set.is_empty()) {
        let reason =
            "each rule needs names and fields: match = \"*.js\", set = { Cache-Control = \"no-cache\" }";
        faults.push(place.fault("headers", reason));
    }
}

impl Given<'_> {
    /// Finds paths that two shares have: only one of them could ever be found.
    fn check_paths(&self, faults: &mut Vec<Fault>) {
        for (number, (place, share)) in self.shares.iter().enumerate() {
            let Some(path) = &share.path else { continue };
            let mut before = self.shares[..number].iter();
            let Some((first, _)) = before.find(|(_, before)| before.path.as_ref() == Some(path)) else {
                continue;
            };
            let reason = if first.table.is_none() {
                format!(
                    "/ is the share of the keys at the file's top, whose root is set{}: give this one another path, or \
                     take that root out",
                    first.line_of("root")
                )
            } else {
                let line = first.line_of("path");
                format!("{path} is the path of another share too{line}: give one of them another")
            };
            faults.push(place.fault("path", reason));
        }
    }

    /// Finds shares that take uploads into one directory and disagree on how long these are kept there.
    fn check_staging(&self, faults: &mut Vec<Fault>) {
        let root = |share: &ShareSettings| -> Option<PathBuf> {
            let root = share.root.clone().filter(|_| share.uploads)?;
            Some(root.canonicalize().unwrap_or(root))
        };
        for (number, (place, share)) in self.shares.iter().enumerate() {
            let Some(own) = root(share) else { continue };
            let disagrees = |(_, before): &&(Place<'_>, ShareSettings)| {
                before.partial_ttl != share.partial_ttl && root(before).as_ref() == Some(&own)
            };
            let Some((_, other)) = self.shares[..number].iter().find(disagrees) else { continue };
            let path = other.path.as_ref().map_or("/", SharePath::as_str);
            let reason = format!(
                "uploads of {path} lie in the same directory, and what the one keeps the other removes: give both the \
                 same"
            );
            faults.push(place.fault("partial_ttl", reason));
        }
    }

    /// Finds uploads that are open without a token. Whoever reaches the data plane may write then, so that must be
    /// this host alone, and not by a proxy on it.
    fn check_unguarded_uploads(&self, settings: &Settings, faults: &mut Vec<Fault>) {
        let reason = if let Some(listen) = settings.reached_from_elsewhere(PlaneChoice::Data) {
            format!("{} {}", listen.key(), check_listeners::open_to_others(&listen))
        } else if settings.opens_to_proxies() {
            "hosts_allowed has names of a proxy, whose clients all look like this host: set token_file, or leave \
             uploads or hosts_allowed away"
                .to_owned()
        } else {
            return;
        };
        if settings.uploads && settings.root.is_none() {
            faults.push(Fault::new("uploads", reason.clone()));
        }
        let open = self.shares.iter().filter(|(_, share)| share.uploads);
        faults.extend(open.map(|(place, _)| place.fault("uploads", reason.clone())));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::arguments::Arguments;
    use super::super::load::load;

    /// Returns what is wrong with a file, each fault with its line alone of its place.
    fn faults(text: &str) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let arguments = Arguments::read(["streamd", "--config", &path], []).unwrap();
        match load(&arguments) {
            Ok(_) => Vec::new(),
            Err(error) => {
                error.to_string().replace(&format!("{path}:"), "line ").lines().map(str::to_owned).collect()
            }
        }
    }

    fn assert_fault(text: &str, expected: &str) {
        assert_eq!(faults(text), [expected], "{text}");
    }

    const LOCAL: &str = "data_listen = \"127.0.0.1:8080\"\n";

    #[test]
    fn a_share_has_a_path_of_its_own() {
        let two = "[[share]]\npath = \"/iso\"\nroot = \"/\"\n\n[[share]]\nroot = \"/\"\npath = \"/iso\"\n";
        assert_fault(
            two,
            "share.path: /iso is the path of another share too (line 2): give one of them another (line 7)",
        );
        let slash = "root = \"/\"\n[[share]]\nroot = \"/\"\npath = \"/\"\n";
        let expected = "share.path: / is the share of the keys at the file's top, whose root is set (line 1): give \
                        this one another path, or take that root out (line 4)";
        assert_fault(slash, expected);
        assert!(faults(&slash.replacen("root = \"/\"\n", "\n", 1)).is_empty());
    }

    #[test]
    fn a_share_has_a_path_and_a_root_that_is_there() {
        let expected =
            "share.path: is missing: a share is served below a path; name it, as path = \"/iso\" (line 2)";
        assert_fault("\n[[share]]\nroot = \"/\"\n", expected);
        let expected = "share.root: is missing for /iso: name its directory, as root = \"/srv/iso\" (line 1)";
        assert_fault("[[share]]\n\npath = \"/iso\"\n", expected);
        let text =
            "[[share]]\npath = \"/\"\nroot = \"/\"\n[[share]]\npath = \"/iso\"\nroot = \"/nonexistent\"\n";
        let expected = "share.root: /nonexistent: No such file or directory (os error 2): create it, or name another \
                        (line 6)";
        assert_fault(text, expected);
        let expected = "share.root: /dev/null: Not a directory (os error 20): name a directory (line 6)";
        assert_fault(&text.replace("/nonexistent", "/dev/null"), expected);
        let expected = "roots_allowed: /nonexistent: No such file or directory (os error 2): create it, or name \
                        another (line 1)";
        assert_fault("roots_allowed = [\"/\", \"/nonexistent\"]\n", expected);
    }

    #[test]
    fn no_share_serves_a_directory_of_uploads() {
        let directory = tempfile::tempdir().unwrap();
        let staging = directory.path().join(super::UPLOADS_DIRECTORY);
        std::fs::create_dir(&staging).unwrap();
        std::os::unix::fs::symlink(&staging, directory.path().join("link")).unwrap();
        for root in [staging, directory.path().join("link")] {
            let expected = format!(
                "share.root: {} is or lies in a directory of uploads, which nobody is shown: name another directory \
                 (line 3)",
                root.display()
            );
            assert_fault(&format!("[[share]]\npath = \"/iso\"\nroot = {root:?}\n"), &expected);
        }
    }

    #[test]
    fn links_and_where_they_lead_belong_together() {
        let share = "[[share]]\npath = \"/iso\"\nroot = \"/\"\n";
        let expected = "share.symlinks: \"anywhere\" needs the directories that links lead into: name them in \
                        symlink_targets, as symlink_targets = [\"/data\"] (line 4)";
        assert_fault(&format!("{share}symlinks = \"anywhere\"\n"), expected);
        let expected = "share.symlink_targets: no link is followed there: set symlinks = \"anywhere\", or take \
                        symlink_targets out (line 4)";
        for symlinks in ["none", "beneath"] {
            let text = format!("{share}symlink_targets = [\"/\"]\nsymlinks = \"{symlinks}\"\n");
            assert_fault(&text, expected);
        }
        let text = format!("{share}symlink_targets = [\"/nonexistent\"]\nsymlinks = \"anywhere\"\n");
        let expected = "share.symlink_targets: /nonexistent: No such file or directory (os error 2): create it, or \
                        name another (line 4)";
        assert_fault(&text, expected);
        assert!(faults(&text.replace("/nonexistent", "/")).is_empty());
        let expected = expected.replace("share.", "").replace("line 4", "line 2");
        let top = "root = \"/\"\nsymlink_targets = [\"/nonexistent\"]\nsymlinks = \"anywhere\"\n";
        assert_fault(top, &expected);
    }

    #[test]
    fn rules_for_the_web_are_whole() {
        let share = "[[share]]\npath = \"/iso\"\nroot = \"/\"\n";
        for (text, expected) in [
            (
                "cors = {}",
                "share.cors.origins: nobody is named: list the origins, as origins = [\"https://app.example.org\"], or \
                 take cors out (line 4)",
            ),
            (
                "cors = { origins = [\"*\"], credentials = true }",
                "share.cors.credentials: browsers take no credentials for origins = [\"*\"]: name the origins (line 4)",
            ),
            (
                "headers = [{ match = \"*.js\" }]",
                "share.headers: each rule needs names and fields: match = \"*.js\", set = { Cache-Control = \
                 \"no-cache\" } (line 4)",
            ),
        ] {
            assert_fault(&format!("{share}{text}\n"), expected);
        }
    }

    #[test]
    fn uploads_of_any_share_need_a_guard() {
        let share = "[[share]]\npath = \"/iso\"\nroot = \"/\"\nuploads = true\n";
        let expected = "share.uploads: data_listen 0.0.0.0:8080 can be reached from other hosts: set token_file, or \
                        listen on 127.0.0.1 (line 4)";
        assert_fault(share, expected);
        assert!(faults(&format!("{LOCAL}{share}")).is_empty());
    }

    #[test]
    fn uploads_in_one_directory_are_kept_equally_long() {
        let share = |path: &str, root: &str, ttl: &str| {
            format!(
                "[[share]]\npath = \"{path}\"\nroot = \"{root}\"\nuploads = true\npartial_ttl = \"{ttl}\"\n"
            )
        };
        let text =
            |root: &str, ttl: &str| format!("{LOCAL}{}{}", share("/a", "/", "24h"), share("/b", root, ttl));
        let expected = "share.partial_ttl: uploads of /a lie in the same directory, and what the one keeps the other \
                        removes: give both the same (line 11)";
        assert_fault(&text("/tmp/..", "7days"), expected);
        assert!(faults(&text("/tmp", "7days")).is_empty() && faults(&text("/", "24h")).is_empty());
    }
}
