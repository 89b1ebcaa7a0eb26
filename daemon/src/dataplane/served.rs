//! What is served: the shares, each with its root and what belongs to that. A reload puts others in their place as a
//! whole, and what runs goes on with those that it began with.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use crate::config::Share;
use crate::files::upload::Uploads;
use crate::files::{Digester, MountId, Root};
use crate::protocol::name::Name;

/// A share with its root.
#[derive(Clone)]
pub struct ServedShare {
    /// Its settings.
    pub share: Arc<Share>,
    /// Its directory.
    pub root: Arc<Root>,
    /// Who makes digests of its files, where entity tags follow from them.
    pub digester: Option<Digester>,
    /// What is uploaded below it, where that is allowed.
    pub uploads: Option<Arc<Uploads>>,
}

/// All shares.
#[derive(Clone, Default)]
pub struct Served {
    /// The longest path comes first.
    shares: Vec<Arc<ServedShare>>,
    /// Those of the shares that take uploads.
    uploads: Vec<Arc<Uploads>>,
    /// The number of reloads before the one that put them in force, which no others have.
    number: u64,
}

impl Served {
    /// Serves these shares from reload number `number` on.
    pub fn new(mut shares: Vec<Arc<ServedShare>>, number: u64) -> Served {
        shares.sort_by_key(|served| Reverse(served.share.path.as_str().len()));
        let uploads = shares.iter().filter_map(|served| served.uploads.clone()).collect();
        Served { shares, uploads, number }
    }

    /// Returns the share that a name belongs to, and the name within it.
    pub fn find<'n>(&self, name: &'n Name) -> Option<(&Arc<ServedShare>, Cow<'n, Name>)> {
        self.shares.iter().find_map(|served| Some((served, served.name_within(name)?)))
    }

    /// Returns the share of this path.
    pub fn at(&self, path: &str) -> Option<&Arc<ServedShare>> {
        self.shares.iter().find(|served| served.share.path.as_str() == path)
    }

    /// Returns all shares, the longest path first.
    pub fn shares(&self) -> &[Arc<ServedShare>] {
        &self.shares
    }

    /// Returns the uploads of all shares that take some.
    pub fn uploads(&self) -> &[Arc<Uploads>] {
        &self.uploads
    }

    /// Returns the number of reloads before the one that put these shares in force.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the count of publications and deletions in all shares.
    pub fn publications(&self) -> u64 {
        self.uploads.iter().map(|uploads| uploads.generation()).sum()
    }

    /// Returns the mount whose short uploads are published together. Files on another mount must not wait for it.
    pub fn mount_of_trips(&self) -> MountId {
        self.uploads.first().map_or(MountId::UNKNOWN, |uploads| uploads.root().mounts().root())
    }
}

impl ServedShare {
    /// Returns what a name is called within the share; None where it belongs to another.
    pub fn name_within<'n>(&self, name: &'n Name) -> Option<Cow<'n, Name>> {
        let within = self.share.path.within(name.as_bytes())?;
        Some(name.ending(within.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Name, Root, Served, ServedShare};
    use crate::config::{Live, Settings, SharePath, ShareSettings};

    #[test]
    fn a_name_is_found_in_the_share_of_the_longest_path_and_called_by_its_rest() {
        let directory = tempfile::tempdir().unwrap();
        let share = |path: &str| ShareSettings {
            path: Some(SharePath::parse(path).unwrap()),
            root: Some(directory.path().to_owned()),
            ..ShareSettings::default()
        };
        let settings = Settings { share: vec![share("/iso"), share("/iso/old")], ..Settings::default() };
        let root = Arc::new(Root::open(directory.path()).unwrap());
        let live = Live::new(settings).unwrap();
        let served = live.shares.iter().map(|share| {
            let (share, root) = (Arc::clone(share), Arc::clone(&root));
            Arc::new(ServedShare { share, root, digester: None, uploads: None })
        });
        // The order in which they are given doesn't matter.
        let served = Served::new(served.collect::<Vec<_>>().into_iter().rev().collect(), 0);
        for (path, expected) in [
            ("/iso/old/a", Some(("/iso/old", "a"))),
            ("/iso/old", Some(("/iso/old", ""))),
            ("/iso/old/", Some(("/iso/old", ""))),
            ("/iso/older/b/", Some(("/iso", "older/b/"))),
            ("/isolated", None),
            ("/", None),
        ] {
            let name = Name::parse(path.as_bytes()).unwrap();
            let found = served.find(&name);
            let found = found.as_ref().map(|(share, name)| (share.share.path.as_str(), name.text()));
            let expected = expected.map(|(share, name)| (share, name.into()));
            assert_eq!(found, expected, "{path}");
        }
        assert!(served.at("/iso").is_some() && served.at("/").is_none());
    }
}
