//! Listings of real directories.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Begun, Entry, Listing, Listings, Next, Subject, Terms};
use crate::files::{FileError, Generation, Root};
use crate::limits::Budget;
use crate::protocol::listing::{Order, SortKey};

const TERMS: Terms = Terms { waiting_bytes_max: 64 << 20, holder: None, generation: Generation::of(0, 0) };

fn begin(listings: &Listings, path: &Path, terms: Terms) -> Result<Listing, FileError> {
    begin_in(listings, path, Order::default(), terms)
}

fn begin_in(listings: &Listings, path: &Path, order: Order, terms: Terms) -> Result<Listing, FileError> {
    let (directory, root) = (File::open(path).unwrap().into(), Arc::new(Root::open(path).unwrap()));
    let mut beginning = listings.begin(Subject { directory, root, path: Vec::new(), order }, terms)?;
    loop {
        match listings.go_on(beginning, terms)? {
            Begun::Partly(partly) => beginning = partly,
            Begun::Listing(listing) => return Ok(listing),
        }
    }
}

fn next(listing: &mut Listing) -> Option<Entry> {
    match listing.next_entry().unwrap() {
        Next::Entry(entry) => Some(entry),
        Next::End => None,
        Next::Elsewhere(mount) => panic!("{mount:?} is asked for"),
    }
}

fn names(listing: &mut Listing) -> Vec<String> {
    std::iter::from_fn(|| next(listing)).map(|entry| String::from_utf8(entry.name).unwrap()).collect()
}

fn make(count: usize, name: impl Fn(usize) -> String) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    (0..count).for_each(|number| drop(File::create(directory.path().join(name(number))).unwrap()));
    directory
}

#[test]
fn those_that_list_one_directory_hold_its_names_together_and_give_them_back() {
    let directory = make(1_000, |number| format!("{number:04}"));
    let budget = Arc::<Budget>::default();
    let listings = Listings::new(Arc::clone(&budget));
    let mut first = begin(&listings, directory.path(), TERMS).unwrap();
    let taken = budget.taken_bytes();
    assert!((10_000..20_000).contains(&taken), "{taken}");
    let mut second = begin(&listings, directory.path(), TERMS).unwrap();
    assert_eq!(budget.taken_bytes(), taken);
    assert_eq!(names(&mut first), (0..1_000).map(|number| format!("{number:04}")).collect::<Vec<_>>());
    drop(first);
    assert_eq!(names(&mut second).len(), 1_000);
    drop(second);
    assert_eq!(budget.taken_bytes(), 0);
}

#[test]
fn whoever_comes_after_a_change_sees_it() {
    let directory = make(3, |number| format!("{number}"));
    let listings = Listings::new(Arc::default());
    let before = begin(&listings, directory.path(), TERMS).unwrap();
    // The test waits until the file system's clock has ticked.
    let changed =
        |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_ctime, stat.st_ctime_nsec)).unwrap();
    let was = changed(directory.path());
    while changed(directory.path()) == was {
        fs::write(directory.path().join("new"), "").unwrap();
        fs::rename(directory.path().join("new"), directory.path().join("newer")).unwrap();
    }
    let mut after = begin(&listings, directory.path(), TERMS).unwrap();
    assert_eq!(names(&mut after), ["0", "1", "2", "newer"]);
    // A change by an upload is seen even within a tick.
    fs::remove_file(directory.path().join("newer")).unwrap();
    let mut after_upload =
        begin(&listings, directory.path(), Terms { generation: Generation::of(0, 1), ..TERMS }).unwrap();
    assert_eq!(names(&mut after_upload), ["0", "1", "2"]);
    drop(before);
}

#[test]
fn what_goes_while_it_is_listed_is_left_out_and_nothing_else() {
    let directory = make(300, |number| format!("{number:03}"));
    let listings = Listings::new(Arc::default());
    let mut listing = begin(&listings, directory.path(), TERMS).unwrap();
    assert_eq!(next(&mut listing).unwrap().name, b"000");
    (1..300)
        .step_by(2)
        .for_each(|number| fs::remove_file(directory.path().join(format!("{number:03}"))).unwrap());
    assert_eq!(
        names(&mut listing),
        (2..300).step_by(2).map(|number| format!("{number:03}")).collect::<Vec<_>>()
    );
}

#[test]
fn more_names_than_are_sorted_are_listed_all_the_same_and_hold_next_to_nothing() {
    let long = "n".repeat(240);
    let directory = make(36_000, |number| format!("{long}{number:05}"));
    let budget = Arc::<Budget>::default();
    let listings = Listings::new(Arc::clone(&budget));
    let mut listing = begin(&listings, directory.path(), TERMS).unwrap();
    assert!(!listing.is_sorted());
    assert_eq!(budget.taken_bytes(), 0);
    let mut listed = names(&mut listing);
    listed.sort_unstable();
    assert_eq!(listed.len(), 36_000);
    listed.dedup();
    assert_eq!(listed.len(), 36_000);
}

#[test]
fn a_hundred_thousand_usual_names_find_room_to_be_sorted() {
    let mut names = super::Names::with_keys();
    (0..100_000).for_each(|number| names.add(format!("{number:060}").as_bytes(), false, [0; 8]));
    assert!(names.used_bytes() < super::SORTED_BYTES_MAX, "{}", names.used_bytes());
}

#[test]
fn entries_come_in_the_order_that_is_asked_for() {
    let directory = make(0, |_| String::new());
    for (name, size, age) in [("b10", 1, 30), ("b9", 3, 20), ("a", 2, 10), ("c", 1, 40)] {
        let file = File::create(directory.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(100 - age)).unwrap();
    }
    fs::create_dir(directory.path().join("z")).unwrap();
    let listings = Listings::new(Arc::default());
    for (key, is_descending, expected) in [
        (SortKey::Name, false, ["z", "a", "b9", "b10", "c"]),
        (SortKey::Name, true, ["z", "c", "b10", "b9", "a"]),
        (SortKey::Size, false, ["z", "b10", "c", "a", "b9"]),
        (SortKey::Size, true, ["z", "b9", "a", "c", "b10"]),
        (SortKey::Time, false, ["z", "c", "b10", "b9", "a"]),
        (SortKey::Time, true, ["z", "a", "b9", "b10", "c"]),
    ] {
        let order = Order::Sorted { key, is_descending };
        let mut listing = begin_in(&listings, directory.path(), order, TERMS).unwrap();
        assert!(listing.is_sorted());
        assert_eq!(names(&mut listing), expected, "{order:?}");
    }
    let mut listing = begin_in(&listings, directory.path(), Order::Directory, TERMS).unwrap();
    assert!(!listing.is_sorted());
    assert_eq!(names(&mut listing).len(), 5);
}

#[test]
fn links_are_listed_as_what_they_lead_to_where_that_is_served() {
    let directory = make(1, |_| "file".to_owned());
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::create_dir(at("sub")).unwrap();
    for (target, link) in [
        ("file", "to-file"),
        ("sub", "to-sub"),
        ("to-file", "to-link"),
        (".", "to-itself"),
        ("absent", "dangling"),
        ("/etc/passwd", "absolute"),
        ("..", "outside"),
        ("loop", "loop"),
        ("/proc/self/root", "magic"),
    ] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
    let listings = Listings::new(Arc::default());
    for order in [Order::default(), Order::Sorted { key: SortKey::Size, is_descending: false }] {
        let mut listing = begin_in(&listings, directory.path(), order, TERMS).unwrap();
        let listed: Vec<_> = std::iter::from_fn(|| next(&mut listing))
            .map(|entry| (String::from_utf8(entry.name).unwrap(), entry.is_directory, entry.size))
            .collect();
        let expected = [
            ("sub", true, 0),
            ("to-itself", true, 0),
            ("to-sub", true, 0),
            ("file", false, 7),
            ("to-file", false, 7),
            ("to-link", false, 7),
        ];
        assert_eq!(listed, expected.map(|(name, is_directory, size)| (name.to_owned(), is_directory, size)));
    }
}

#[test]
fn names_that_are_no_text_are_listed() {
    let directory = make(0, |_| String::new());
    let name = b"\xff\n\\";
    File::create(directory.path().join(OsStr::from_bytes(name))).unwrap();
    let mut listing = begin(&Listings::new(Arc::default()), directory.path(), TERMS).unwrap();
    assert_eq!(next(&mut listing).unwrap().name, name);
}

#[test]
fn names_that_find_no_room_are_listed_as_the_directory_has_them() {
    let directory = make(1_000, |number| format!("{number:04}"));
    let budget = Arc::<Budget>::default();
    let listings = Listings::new(Arc::clone(&budget));
    let terms = Terms { waiting_bytes_max: 1_000, ..TERMS };
    let mut listing = begin(&listings, directory.path(), terms).unwrap();
    assert!(!listing.is_sorted());
    assert_eq!(names(&mut listing).len(), 1_000);
    assert_eq!((budget.taken_bytes(), budget.refusals()), (0, 1));
}
