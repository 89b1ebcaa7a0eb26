use super::*;

const BLOCK: u64 = 4096;

fn limits(blocks: u64) -> SpoolLimits {
    SpoolLimits {
        bytes_max: blocks * BLOCK,
        files_max: u64::MAX,
        address_bytes_max: u64::MAX,
        address_files_max: u64::MAX,
        min_free_bytes: 0,
        min_free_inodes: 0,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Opens a spool in a directory on a file system of blocks of 4 KiB; None, with a line that says so, where its
/// blocks differ.
fn spool() -> Option<(tempfile::TempDir, Arc<Spool>)> {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path()).unwrap();
    if spool.ledger.cost(1) != BLOCK {
        println!("skipped: blocks of {} bytes", spool.ledger.cost(1));
        return None;
    }
    Some((directory, spool))
}

fn store(spool: &Arc<Spool>, content: &[u8], limits: &SpoolLimits) -> Result<String, SpoolError> {
    store_from(None, spool, content, limits)
}

fn store_from(
    from: Option<AddressGroup>,
    spool: &Arc<Spool>,
    content: &[u8],
    limits: &SpoolLimits,
) -> Result<String, SpoolError> {
    let mut file = spool.create(content.len() as u64, from, limits)?;
    file.write(content)?;
    file.publish()
}

/// Makes the last count look a minute old.
fn age_count(spool: &Spool) {
    let ended = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    *spool.last_count.lock().unwrap() = LastCount { ended, took: Duration::ZERO };
}

#[test]
fn a_published_frame_has_its_size_in_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path()).unwrap();
    let name = store(&spool, b"hello", &limits(100)).unwrap();
    assert!(name.starts_with("5_"));
    assert_eq!(name.len(), 2 + 32);
    assert_eq!(std::fs::read(directory.path().join(&name)).unwrap(), b"hello");
    assert_eq!(names(directory.path()), [name]);
}

#[test]
fn a_header_takes_nothing_of_the_spool() {
    let Some((directory, spool)) = spool() else { return };
    let limits = limits(10);
    // Each header announces all the room there is, and few or no bytes have come.
    let mut begun: Vec<_> =
        (0..4).map(|_| spool.create(10 * BLOCK, None, &limits)).filter_map(Result::ok).collect();
    assert_eq!(begun.len(), 1, "the next is told at once that it finds no room any more");
    begun[0].write(&[7; 100]).unwrap();
    assert_eq!(spool.usage().incoming_bytes, BLOCK);
    store(&spool, &[7; 9 * 4096], &limits).unwrap();
    // The spool is full by now: the frame that was begun learns it when it goes on.
    let error = begun[0].write(&[7; 4096]).unwrap_err();
    assert!(matches!(error, SpoolError::Full { .. }), "{error}");
    drop(begun);
    assert_eq!(names(directory.path()).len(), 1);
    assert_eq!(
        spool.usage(),
        SpoolUsage { bytes: 9 * BLOCK, files: 1, incoming_bytes: 0, incoming_files: 0 }
    );
}

#[test]
fn empty_frames_fill_a_spool_too() {
    let Some((directory, spool)) = spool() else { return };
    for _ in 0..5 {
        store(&spool, b"", &limits(5)).unwrap();
    }
    let error = store(&spool, b"", &limits(5)).unwrap_err();
    assert!(matches!(error, SpoolError::Full { bytes: BLOCK, used, limit } if used == limit), "{error}");
    let few = SpoolLimits { files_max: 5, ..limits(100) };
    let error = store(&spool, b"", &few).unwrap_err().to_string();
    assert!(error.contains("spool_files_max (5 of 5 are there)"), "{error}");
    // After a restart they are counted likewise.
    drop(spool);
    let spool = Spool::open(directory.path()).unwrap();
    assert_eq!((spool.usage().bytes, spool.usage().files), (5 * BLOCK, 5));
    store(&spool, b"", &limits(5)).unwrap_err();
}

#[test]
fn a_dropped_frame_leaves_nothing_and_gives_its_room_back() {
    let Some((directory, spool)) = spool() else { return };
    let mut file = spool.create(2 * BLOCK, None, &limits(2)).unwrap();
    file.write(&[7; 2 * 4096]).unwrap();
    store(&spool, b"", &limits(2)).unwrap_err();
    drop(file);
    assert!(names(directory.path()).is_empty());
    store(&spool, &[7; 2 * 4096], &limits(2)).unwrap();
}

#[test]
fn frames_that_were_consumed_make_room() {
    let Some((directory, spool)) = spool() else { return };
    let name = store(&spool, &[0; 80 * 4096], &limits(100)).unwrap();
    assert!(!spool.has_room(80 * BLOCK, None, &limits(100)));
    assert!(matches!(spool.create(80 * BLOCK, None, &limits(100)), Err(SpoolError::Full { .. })));
    std::fs::remove_file(directory.path().join(name)).unwrap();
    age_count(&spool);
    spool.create(80 * BLOCK, None, &limits(100)).unwrap();
    assert_eq!(spool.usage().bytes, 0);
}

#[test]
fn what_only_looks_counts_anew_too() {
    let Some((directory, spool)) = spool() else { return };
    let name = store(&spool, b"hello", &limits(100)).unwrap();
    std::fs::remove_file(directory.path().join(name)).unwrap();
    spool.refresh().unwrap();
    assert_eq!(spool.usage().files, 1, "the count is young");
    age_count(&spool);
    spool.refresh().unwrap();
    assert_eq!(spool.usage().files, 0);
}

#[test]
fn an_address_has_its_share_over_restarts_and_until_its_frames_are_consumed() {
    let Some((directory, mut spool)) = spool() else { return };
    let limits = SpoolLimits { address_bytes_max: 2 * BLOCK, ..limits(100) };
    let group = |address: &str| AddressGroup::of(address.parse().unwrap());
    let (one, other) = (group("192.0.2.1"), group("192.0.2.2"));
    let name = store_from(one, &spool, b"hello", &limits).unwrap();
    store_from(one, &spool, b"hello", &limits).unwrap();
    for _ in 0..2 {
        let error = store_from(one, &spool, b"hello", &limits).unwrap_err().to_string();
        assert!(error.contains("address_spool_bytes_max (this address has 8192 of 8192)"), "{error}");
        drop(spool);
        spool = Spool::open(directory.path()).unwrap();
    }
    store_from(other, &spool, b"hello", &limits).unwrap();
    store_from(None, &spool, &[7; 5 * 4096], &limits).unwrap();
    std::fs::remove_file(directory.path().join(name)).unwrap();
    age_count(&spool);
    store_from(one, &spool, b"hello", &limits).unwrap();
}

#[test]
fn the_reserves_of_the_file_system_stay_free() {
    let Some((directory, spool)) = spool() else { return };
    let bytes = SpoolLimits { min_free_bytes: u64::MAX, ..limits(100) };
    let error = store(&spool, b"hello", &bytes).unwrap_err();
    assert!(matches!(error, SpoolError::NoRoom(Shortage::ReservedBytes)), "{error}");
    let inodes = SpoolLimits { min_free_inodes: u64::MAX - 1, ..limits(100) };
    match store(&spool, b"hello", &inodes) {
        Err(SpoolError::NoRoom(Shortage::ReservedInodes)) => {}
        result => assert_eq!(fstatvfs(&spool.directory).unwrap().f_files, 0, "{result:?}"),
    }
    drop(spool);
    assert!(names(directory.path()).len() <= 1);
}

#[test]
fn a_second_daemon_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Spool::open(directory.path()).unwrap();
    let error = Spool::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("another streamd"), "{error}");
    drop(first);
    Spool::open(directory.path()).unwrap();
}

#[test]
fn what_lies_there_is_counted_by_blocks_whoever_made_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("40_old"), [7; 5000]).unwrap();
    std::fs::write(directory.path().join("empty"), []).unwrap();
    std::fs::write(directory.path().join(".incoming-left"), [7; 40]).unwrap();
    // The file is synced, since the file system decides only then how many blocks it takes.
    std::fs::File::open(directory.path().join("40_old")).unwrap().sync_all().unwrap();
    let spool = Spool::open(directory.path()).unwrap();
    let mut left = names(directory.path());
    left.sort();
    assert_eq!(left, ["40_old", "empty"]);
    let usage = spool.usage();
    assert!(usage.bytes >= 2 * spool.ledger.cost(1) && usage.files == 2, "{usage:?}");
}
