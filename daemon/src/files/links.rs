//! Symbolic links: where a share lets them lead, and the way that they make of a name.
//!
//! openat2(2) follows the usual ones by itself, those that are relative and stay beneath the root. The others are read
//! here, one by one, until a path without links is left, which is opened beneath its directory and must have none then:
//! so whatever is renamed meanwhile, nothing is opened elsewhere.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::mounts::{MountId, Mounts};
use crate::config::SymlinkChoice;

/// The most links that are followed, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The parts of a path, none of which is empty, `.` or `..`.
type Parts = Vec<Vec<u8>>;

/// Where the links of a share may lead.
#[derive(Debug)]
pub(super) struct Links {
    choice: SymlinkChoice,
    /// The root comes first, and then the directories that are named besides.
    places: Vec<Place>,
}

/// A directory into which links may lead.
#[derive(Debug)]
struct Place {
    /// None for the root, which is open anyway.
    directory: Option<OwnedFd>,
    /// The path that it had when it was opened.
    path: Vec<u8>,
    /// The same in parts, and the parts of the path by which it was named.
    names: [Parts; 2],
}

/// A way without links.
#[derive(Debug)]
pub(super) struct Way<'l> {
    /// The directory in which it begins; None for the root.
    pub(super) directory: Option<&'l OwnedFd>,
    /// The path there.
    pub(super) path: Vec<u8>,
}

/// A link that isn't followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Its path below the root, or an absolute one.
    pub(super) link: Vec<u8>,
    /// What it says.
    pub(super) target: Vec<u8>,
}

/// The result of following links.
#[derive(Debug)]
pub(super) enum Led<'l> {
    To(Way<'l>),
    /// To a mount that may not be asked yet.
    Elsewhere(MountId),
    Refused(Refused),
    /// To nothing, or in a circle.
    Nowhere,
}

impl Links {
    /// Lets links lead where they stay beneath the root, whose mounts these are and which was opened by `named`.
    pub(super) fn beneath(mounts: &Mounts, named: &Path) -> Links {
        let root = Place::new(None, mounts.path().to_vec(), named);
        Links { choice: SymlinkChoice::Beneath, places: vec![root] }
    }

    /// Lets links lead as `choice` says, where it says so into these directories, which are opened. Waits for the disk.
    pub(super) fn following(mut self, choice: SymlinkChoice, targets: &[String]) -> Result<Links, Errno> {
        self.choice = choice;
        self.places.truncate(1);
        let targets = targets.iter().filter(|_| choice == SymlinkChoice::Anywhere);
        for target in targets.map(Path::new) {
            let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
            let directory = openat(CWD, target, flags, Mode::empty())?;
            let path = Mounts::path_of(&directory);
            self.places.push(Place::new(Some(directory), path, target));
        }
        Ok(self)
    }

    pub(super) fn choice(&self) -> SymlinkChoice {
        self.choice
    }

    /// Whether links may lead to other directories than the root.
    pub(super) fn lead_outside(&self) -> bool {
        self.places.len() > 1
    }

    /// The directories besides the root into which they may lead.
    pub(super) fn targets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.places.iter().filter_map(|place| place.directory.as_ref())
    }

    /// Follows the links on the way of `path` below the root. Where `may_ask` names mounts no other but the root's own
    /// is asked for anything. Waits for the disk.
    pub(super) fn follow(
        &self,
        root: &OwnedFd,
        mounts: &Mounts,
        path: &[u8],
        may_ask: Option<&[MountId]>,
    ) -> Led<'_> {
        let walk = Walk {
            links: self,
            root,
            mounts,
            may_ask,
            place: Some(0),
            here: Vec::new(),
            parts: reversed(path).collect(),
            last: None,
        };
        walk.run().unwrap_or_else(|stopped| stopped)
    }

    /// Finds the place to which an absolute path leads, the deepest where one lies in another, and what is left of it.
    fn place_of<'p>(&self, path: &'p [Vec<u8>]) -> Option<(usize, &'p [Vec<u8>])> {
        let places = self.places.iter().enumerate();
        let found = places.flat_map(|(number, place)| {
            let names = place.names.iter();
            names.filter_map(move |name| Some((number, name.len(), path.strip_prefix(name.as_slice())?)))
        });
        found.max_by_key(|(_, length, _)| *length).map(|(number, _, rest)| (number, rest))
    }
}

impl Place {
    fn new(directory: Option<OwnedFd>, path: Vec<u8>, named: &Path) -> Place {
        let own: Parts = split(&path).collect();
        let named = std::path::absolute(named).map(|path| path.into_os_string().into_vec());
        let named: Parts = named.iter().flat_map(|named| split(named)).collect();
        // What `..` leads to depends on links.
        let is_plain = !named.iter().any(|part| part == b"..");
        let named = if is_plain { named } else { own.clone() };
        Place { directory, path, names: [own, named] }
    }
}

/// A walk along links.
struct Walk<'l, 'w> {
    links: &'l Links,
    root: &'w OwnedFd,
    mounts: &'w Mounts,
    may_ask: Option<&'w [MountId]>,
    /// The place that the walk is in; None outside of all.
    place: Option<usize>,
    /// The path so far, without links, from the place on; outside of all from `/` on.
    here: Vec<u8>,
    /// The rest of the way, the next part last.
    parts: Parts,
    /// How many links were followed, and the last of them.
    last: Option<(usize, Refused)>,
}

impl<'l> Walk<'l, '_> {
    /// Err: the walk ends early.
    fn run(mut self) -> Result<Led<'l>, Led<'l>> {
        while let Some(part) = self.parts.pop() {
            if part == b".." {
                self.step_up()?;
                continue;
            }
            let parent = self.here.len();
            if parent > 0 {
                self.here.push(b'/');
            }
            self.here.extend_from_slice(&part);
            if self.enter_place() {
                continue;
            }
            self.check_mount()?;
            match self.read_link() {
                Ok(target) => self.take_link(parent, target)?,
                // This part is no link.
                Err(Errno::INVAL) => {}
                Err(_) => return Err(Led::Nowhere),
            }
        }
        self.check_mount()?;
        let Some(place) = self.place else { return Err(self.refused()) };
        Ok(Led::To(Way { directory: self.links.places[place].directory.as_ref(), path: self.here }))
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        let read = match self.place {
            Some(place) => {
                let directory = self.links.places[place].directory.as_ref().unwrap_or(self.root);
                readlinkat(directory, self.here.as_slice(), Vec::new())
            }
            None => readlinkat(CWD, absolute(b"", &self.here), Vec::new()),
        };
        read.map(std::ffi::CString::into_bytes)
    }

    /// Goes on with what a link says, whose directory has a path of `parent` bytes.
    fn take_link(&mut self, parent: usize, target: Vec<u8>) -> Result<(), Led<'l>> {
        let link = if self.place == Some(0) { self.here.clone() } else { self.absolute() };
        let count = self.last.as_ref().map_or(0, |(count, _)| *count) + 1;
        self.here.truncate(parent);
        let parts: Parts = reversed(&target).collect();
        let is_absolute = target.starts_with(b"/");
        self.last = Some((count, Refused { link, target }));
        if self.links.choice == SymlinkChoice::None {
            return Err(self.refused());
        }
        if count > LINKS_MAX {
            return Err(Led::Nowhere);
        }
        if is_absolute {
            return self.go_to(parts);
        }
        self.parts.extend(parts);
        Ok(())
    }

    /// Goes on at the root of the file system.
    fn go_to(&mut self, mut parts: Parts) -> Result<(), Led<'l>> {
        parts.reverse();
        self.here.clear();
        let (place, rest) = match self.links.place_of(&parts) {
            Some((place, rest)) => (Some(place), rest),
            None if self.links.lead_outside() => (None, &*parts),
            None => return Err(self.refused()),
        };
        self.place = place;
        self.parts.extend(rest.iter().rev().cloned());
        Ok(())
    }

    fn step_up(&mut self) -> Result<(), Led<'l>> {
        if self.here.is_empty() {
            let Some(place) = self.place else { return Ok(()) };
            if !self.links.lead_outside() {
                return Err(self.refused());
            }
            self.here = self.links.places[place].path.strip_prefix(b"/").unwrap_or_default().to_vec();
            self.place = None;
        }
        let end = memchr::memrchr(b'/', &self.here).unwrap_or(0);
        self.here.truncate(end);
        self.enter_place();
        Ok(())
    }

    /// Enters the place that a walk outside of all has come to. Says whether it is at its top now.
    fn enter_place(&mut self) -> bool {
        if self.place.is_some() {
            return false;
        }
        let here: Parts = split(&self.here).collect();
        let Some((place, rest)) = self.links.place_of(&here) else { return false };
        self.place = Some(place);
        self.here = rest.join(&b'/');
        rest.is_empty()
    }

    fn check_mount(&self) -> Result<(), Led<'l>> {
        let Some(may_ask) = self.may_ask else { return Ok(()) };
        let mount = match self.place {
            Some(0) => self.mounts.of_path(&self.here),
            _ => self.mounts.of_absolute(&self.absolute()),
        };
        let is_known = mount == self.mounts.root() || may_ask.contains(&mount);
        if is_known { Ok(()) } else { Err(Led::Elsewhere(mount)) }
    }

    /// The path so far from the root of the file system on.
    fn absolute(&self) -> Vec<u8> {
        match self.place {
            Some(place) => absolute(&self.links.places[place].path, &self.here),
            None => absolute(b"", &self.here),
        }
    }

    fn refused(&mut self) -> Led<'l> {
        self.last.take().map_or(Led::Nowhere, |(_, link)| Led::Refused(link))
    }
}

fn absolute(place: &[u8], path: &[u8]) -> Vec<u8> {
    let place = place.strip_suffix(b"/").unwrap_or(place);
    if path.is_empty() && !place.is_empty() { place.to_vec() } else { [place, b"/", path].concat() }
}

/// Returns the parts of a path, without those that lead nowhere.
fn split(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/');
    parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec)
}

/// Returns the same, the last first.
fn reversed(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    split(path).collect::<Vec<_>>().into_iter().rev()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Led, Links, MountId, Mounts, OwnedFd, SymlinkChoice};

    /// A root with links, beside another directory.
    struct Fixture {
        outer: tempfile::TempDir,
        root: OwnedFd,
        mounts: Mounts,
    }

    impl Fixture {
        fn new() -> Fixture {
            let outer = tempfile::tempdir().unwrap();
            for directory in ["root/own/deep", "other/sub", "root/own/nested"] {
                std::fs::create_dir_all(outer.path().join(directory)).unwrap();
            }
            for file in ["root/own/file", "other/file"] {
                std::fs::write(outer.path().join(file), "").unwrap();
            }
            symlink("root", outer.path().join("named")).unwrap();
            let root: OwnedFd = File::open(outer.path().join("root")).unwrap().into();
            Fixture { mounts: Mounts::below(&root), root, outer }
        }

        fn at(&self, path: &str) -> String {
            self.outer.path().join(path).to_str().unwrap().to_owned()
        }

        fn link(&self, link: &str, target: &str) {
            symlink(target, self.outer.path().join("root").join(link)).unwrap();
        }

        fn links(&self, choice: SymlinkChoice, targets: &[&str]) -> Links {
            let targets: Vec<_> = targets.iter().map(|target| self.at(target)).collect();
            let named = self.at("named");
            Links::beneath(&self.mounts, Path::new(&named)).following(choice, &targets).unwrap()
        }

        /// Returns where a path leads, as text.
        fn follow(&self, links: &Links, path: &str) -> String {
            match links.follow(&self.root, &self.mounts, path.as_bytes(), None) {
                Led::To(way) => {
                    let place = if way.directory.is_some() { "target:" } else { "root:" };
                    place.to_owned() + std::str::from_utf8(&way.path).unwrap()
                }
                Led::Refused(link) => format!("refused:{}", String::from_utf8(link.link).unwrap()),
                Led::Elsewhere(_) => unreachable!("all mounts may be asked"),
                Led::Nowhere => "nowhere".to_owned(),
            }
        }
    }

    #[test]
    fn links_lead_as_far_as_they_may() {
        let fixture = Fixture::new();
        let (real, other) = (fixture.at("root"), fixture.at("other"));
        for (link, target) in [
            ("relative", "own/file"),
            ("absolute", &*format!("{real}/own/file")),
            ("named", &format!("/{}//./own", fixture.at("named"))),
            ("top", &real),
            ("twice", "named/../named/file"),
            ("up-again", &format!("{real}/own/../own/file")),
            ("above", &format!("{real}/../other/file")),
            ("own/up", "../../other/file"),
            ("out", &format!("{other}/file")),
            ("out-directory", &other),
            ("beyond", "/etc/passwd"),
            ("root-of-all", "/"),
            ("prefix", &format!("{real}-of-somebody-else/own")),
            ("loop", "loop"),
            ("broken", "own/none"),
        ] {
            fixture.link(link, target);
        }
        symlink("../../root/own", fixture.outer.path().join("other/sub/back")).unwrap();
        symlink("../own/file", fixture.outer.path().join("root/own/nested/up")).unwrap();
        let none = fixture.links(SymlinkChoice::None, &[]);
        let beneath = fixture.links(SymlinkChoice::Beneath, &[]);
        let anywhere = fixture.links(SymlinkChoice::Anywhere, &["other"]);
        for (path, by_beneath, by_anywhere) in [
            ("own/file", "root:own/file", "root:own/file"),
            ("", "root:", "root:"),
            ("relative", "root:own/file", "root:own/file"),
            ("absolute", "root:own/file", "root:own/file"),
            ("named/file", "root:own/file", "root:own/file"),
            ("top/relative", "root:own/file", "root:own/file"),
            ("top", "root:", "root:"),
            ("twice", "root:own/file", "root:own/file"),
            ("up-again", "root:own/file", "root:own/file"),
            ("above", "refused:above", "target:file"),
            ("own/up", "refused:own/up", "target:file"),
            ("out", "refused:out", "target:file"),
            ("out-directory/sub/../file", "refused:out-directory", "target:file"),
            ("out-directory/sub/back/file", "refused:out-directory", "root:own/file"),
            ("beyond", "refused:beyond", "refused:beyond"),
            ("root-of-all", "refused:root-of-all", "refused:root-of-all"),
            ("root-of-all/etc/passwd", "refused:root-of-all", "refused:root-of-all"),
            ("prefix", "refused:prefix", "nowhere"),
            ("loop", "nowhere", "nowhere"),
            ("broken", "nowhere", "nowhere"),
            ("none", "nowhere", "nowhere"),
        ] {
            assert_eq!(fixture.follow(&beneath, path), by_beneath, "beneath, {path}");
            assert_eq!(fixture.follow(&anywhere, path), by_anywhere, "anywhere, {path}");
            let by_none = fixture.follow(&none, path);
            match path {
                "own/file" | "" => assert_eq!(by_none, by_beneath, "none, {path}"),
                "none" => assert_eq!(by_none, "nowhere"),
                _ => assert!(by_none.starts_with("refused:"), "none, {path}: {by_none}"),
            }
        }
        // A directory that is named besides and lies in the root leads back there.
        let nested = fixture.links(SymlinkChoice::Anywhere, &["root/own/nested"]);
        fixture.link("to-nested", &fixture.at("root/own/nested"));
        assert_eq!(fixture.follow(&nested, "to-nested/up"), "nowhere");
        symlink("../file", fixture.outer.path().join("root/own/nested/right")).unwrap();
        assert_eq!(fixture.follow(&nested, "to-nested/right"), "root:own/file");
    }

    #[test]
    fn links_lead_to_the_first_other_mount_on_their_way() {
        let fixture = Fixture::new();
        for (link, target) in [
            ("to-data", "data"),
            ("own/up", "../data/x"),
            ("own/deep/two", "../../own/up/../y"),
            ("chain", "own/deep/../up"),
            ("to-other", "data/../other"),
            ("absolute", "/data"),
            ("of-root", &*fixture.at("root/data/x")),
            ("outside", "../data"),
            ("loop", "loop"),
            ("inside", "own/./file"),
        ] {
            fixture.link(link, target);
        }
        let root_mount = MountId::numbered(1);
        let [data, other] = [2, 3].map(MountId::numbered);
        let mounts = Mounts::of_points(root_mount, &[("data", data), ("other", other)]);
        let links = fixture.links(SymlinkChoice::Beneath, &[]);
        for (path, known, leads) in [
            ("data/x", &[][..], Some(data)),
            ("to-data", &[], Some(data)),
            ("to-data/x", &[root_mount], Some(data)),
            ("own/up", &[], Some(data)),
            ("own/deep/two", &[], Some(data)),
            ("chain/x", &[], Some(data)),
            ("of-root", &[], Some(data)),
            // The way leads through the mount that is known, which has to be asked then.
            ("to-other", &[], Some(data)),
            ("other/x", &[data], Some(other)),
            ("own/file", &[], None),
            ("inside", &[], None),
            ("absent", &[], None),
            ("absolute", &[], None),
            ("outside", &[], None),
            ("loop", &[], None),
        ] {
            let found = match links.follow(&fixture.root, &mounts, path.as_bytes(), Some(known)) {
                Led::Elsewhere(mount) => Some(mount),
                _ => None,
            };
            assert_eq!(found, leads, "{path}");
        }
    }
}
