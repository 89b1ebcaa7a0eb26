//! Listings of real directories.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::{Begun, Listing, Listings, Terms};
use crate::files::{FileError, Generation};
use crate::limits::{Budget, Full};

const TERMS: Terms = Terms { waiting_bytes_max: 64 << 20, holder: None, generation: Generation::of(0, 0) };

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn begin(listings: &Listings, path: &Path, terms: Terms) -> Result<Listing, FileError> {
    let mut beginning = listings.begin(open(path), terms)?;
    loop {
        match listings.go_on(beginning, terms)? {
            Begun::Partly(partly) => beginning = partly,
            Begun::Listing(listing) => return Ok(listing),
        }
    }
}

fn names(listing: &mut Listing) -> Vec<String> {
    std::iter::from_fn(|| listing.next_entry().unwrap().map(|entry| entry.name)).collect()
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
    assert_eq!(listing.next_entry().unwrap().unwrap().name, "000");
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
    let directory = make(10_000, |number| format!("{long}{number:05}"));
    let budget = Arc::<Budget>::default();
    let listings = Listings::new(Arc::clone(&budget));
    let mut listing = begin(&listings, directory.path(), TERMS).unwrap();
    assert!(!listing.is_sorted());
    assert_eq!(budget.taken_bytes(), 0);
    let mut listed = names(&mut listing);
    listed.sort_unstable();
    assert_eq!(listed.len(), 10_000);
    listed.dedup();
    assert_eq!(listed.len(), 10_000);
}

#[test]
fn without_room_there_is_no_listing() {
    let directory = make(1_000, |number| format!("{number:04}"));
    let budget = Arc::<Budget>::default();
    let listings = Listings::new(Arc::clone(&budget));
    let terms = Terms { waiting_bytes_max: 1_000, ..TERMS };
    assert_eq!(begin(&listings, directory.path(), terms).unwrap_err(), FileError::NoRoom(Full::Node));
    assert_eq!((budget.taken_bytes(), budget.refusals()), (0, 1));
}
