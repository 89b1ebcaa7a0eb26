//! Races of many uploads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::protocol::conditional::Validators;

/// Runs `count` threads that begin at the same moment, and gathers what they return.
fn at_once<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let barrier = Barrier::new(count);
    std::thread::scope(|scope| {
        let run = |number| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(number)
            })
        };
        let threads: Vec<_> = (0..count).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn one_of_many_creates_the_file() {
    let fixture = Fixture::new();
    for round in 0..5 {
        let path = format!("/file{round}");
        let publication = || Publication { is_new: true, ..Publication::default() };
        let results =
            at_once(50, |number| fixture.put_if(&path, format!("{number}").as_bytes(), &publication()));
        let winners: Vec<_> = (0..50).filter(|number| results[*number].is_ok()).collect();
        assert_eq!(winners.len(), 1);
        assert!(results[winners[0]].as_ref().unwrap().created);
        let losers = results.iter().filter(|result| **result == Err(UploadError::PreconditionFailed));
        assert_eq!(losers.count(), 49);
        assert_eq!(fixture.read(&path[1..]).unwrap(), format!("{}", winners[0]).as_bytes());
    }
    fixture.assert_clean();
}

#[test]
fn one_of_many_replaces_what_all_have_seen() {
    let fixture = Fixture::new();
    let mut etag = fixture.put("/file", b"00").unwrap().etag;
    for _ in 0..10 {
        let seen = etag.clone();
        let is_it = |validators: Option<&Validators>| validators.is_some_and(|now| now.etag == seen);
        let results = at_once(20, |number| {
            let publication = Publication { precondition: Some(&is_it), ..Publication::default() };
            fixture.put_if("/file", format!("{number:02}").as_bytes(), &publication)
        });
        let winners: Vec<_> = (0..20).filter(|number| results[*number].is_ok()).collect();
        assert_eq!(winners.len(), 1, "all have one length and one moment");
        assert_eq!(fixture.read("file").unwrap(), format!("{:02}", winners[0]).as_bytes());
        etag.clone_from(&results[winners[0]].as_ref().unwrap().etag);
    }
}

#[test]
fn of_pairs_one_wins_whole_and_readers_see_only_whole_files() {
    let fixture = Fixture::new();
    fixture.put("/file", &[b'0'; 100_000]).unwrap();
    let is_over = AtomicBool::new(false);
    let is_whole =
        |content: &[u8]| content.len() == 100_000 && content.iter().all(|byte| *byte == content[0]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(is_whole(&fixture.read("file").unwrap()));
            }
        });
        for _ in 0..50 {
            let results = at_once(2, |number| {
                let byte = [b'a', b'b'][number];
                let mut writer = fixture.uploads.begin(&plan("/file", Some(100_000)), &limits()).unwrap();
                (0..10).for_each(|_| writer.write(&[byte; 10_000]).unwrap());
                writer.publish(&Publication::default())
            });
            assert!(results.iter().all(Result::is_ok));
            assert!(is_whole(&fixture.read("file").unwrap()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    fixture.assert_clean();
}

/// A client that opens the file at its first moment downloads it to its end.
#[test]
fn a_file_that_has_its_name_is_found_unchanged() {
    let fixture = Fixture::new();
    fixture.put("/file", b"first").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let Found::File(file) = fixture.root.find(&name("/file")).unwrap() else { panic!("no file") };
                assert!((0..20).all(|_| file.is_as_opened()));
            }
        });
        let part = Part { first: 0, end: 7, upload: None };
        for _ in 0..500 {
            let mut writer = fixture.uploads.take_part(&plan("/file", Some(7)), &part, &limits()).unwrap();
            writer.write(b"content").unwrap();
            writer.publish(&Publication::default()).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    fixture.assert_clean();
}

#[test]
fn of_many_that_take_over_one_writes_at_a_time() {
    let fixture = Fixture::new();
    let total = 200_u64;
    let first = fixture.uploads.create(&plan("/file", Some(total)), &limits()).unwrap();
    let upload = first.resource();
    // Each takes the upload from whoever has it and appends a byte that tells where it stands.
    at_once(8, |_| {
        while let Ok(status) = fixture.uploads.status(&upload) {
            if status.complete {
                return;
            }
            let Ok(mut writer) = fixture.uploads.resume(&upload, status.offset, None, &impatient()) else {
                continue;
            };
            let offset = writer.offset();
            if offset < total {
                let _ = writer.write(&[u8::try_from(offset).unwrap()]);
            }
            // A loser of the race for the last byte publishes too late.
            let _ = writer.publish(&Publication::default());
        }
    });
    assert_eq!(first.keep(), Err(UploadError::TakenOver));
    let expected: Vec<u8> = (0..total).map(|offset| u8::try_from(offset).unwrap()).collect();
    assert_eq!(fixture.read("file").unwrap(), expected);
    fixture.assert_clean();
}

#[test]
fn writers_are_counted_and_one_too_many_is_refused() {
    let fixture = Fixture::new();
    let limits = UploadLimits { uploads_max: 3, uploads_per_destination_max: 2, ..limits() };
    let begin = |path: &str| fixture.uploads.begin(&plan(path, None), &limits);
    let first = begin("/a").unwrap();
    let second = begin("/a").unwrap();
    assert_eq!(begin("/a").unwrap_err(), UploadError::TooMany);
    let third = begin("/b").unwrap();
    assert_eq!(begin("/c").unwrap_err(), UploadError::TooMany);
    drop((first, second));
    drop(begin("/a").unwrap());
    drop(third);
    let results = at_once(30, |_| begin("/a"));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    drop(results);
    fixture.assert_clean();
}

/// The uploads that fail do so when they have made the directory, and remove it where they can.
#[test]
fn of_uploads_into_one_new_directory_those_that_may_succeed_do() {
    const UPLOADS: usize = 8;
    let fixture = Fixture::new();
    let limits = UploadLimits { create_dirs: true, ..limits() };
    for round in 0..200 {
        let results = at_once(UPLOADS, |number| {
            let path = format!("/{round}/deep/file{number}");
            let mut writer = fixture.uploads.begin(&plan(&path, Some(1)), &limits).unwrap();
            writer.write(b"x").unwrap();
            let is_refused = number % 4 != 0 || round % 2 == 1;
            let precondition = |_: Option<&Validators>| !is_refused;
            let publication = Publication { precondition: Some(&precondition), ..Publication::default() };
            let result = writer.publish(&publication);
            (is_refused, result)
        });
        for (is_refused, result) in results {
            match result {
                Ok(_) => assert!(!is_refused),
                Err(error) => assert_eq!((is_refused, error), (true, UploadError::PreconditionFailed)),
            }
        }
        assert_eq!(fixture.path.join(round.to_string()).exists(), round % 2 == 0);
    }
    fixture.assert_clean();
}

#[test]
fn uploads_deletions_and_sweeps_do_not_lock_each_other_up() {
    let fixture = Fixture::new();
    at_once(8, |number| {
        for round in 0..50 {
            let path = format!("/file{}", (number + round) % 3);
            match number {
                0 => drop(fixture.uploads.sweep(Duration::ZERO)),
                1 => drop(fixture.uploads.delete(&name(&path), None, &limits())),
                2 => drop(fixture.uploads.resume_destination(&plan(&path, Some(9)), 0, &impatient())),
                _ => {
                    let published = fixture.put(&path, b"content").unwrap();
                    assert_eq!(published.size, 7);
                }
            }
        }
    });
    fixture.uploads.sweep(Duration::ZERO);
    fixture.assert_clean();
}

fn admitted(
    fixture: &Fixture,
    path: &str,
    mount: MountId,
    uploads_max: usize,
) -> Result<Admitted, UploadError> {
    let limits = UploadLimits { uploads_max, ..limits() };
    fixture.uploads.admit(&Plan { mount, ..plan(path, Some(1)) }, &limits)
}

#[test]
fn others_have_the_place_of_an_upload_that_was_answered_while_its_work_still_waits() {
    let fixture = Fixture::new();
    let staging = fixture.root.mounts().root();
    let admit = |path| admitted(&fixture, path, staging, 1);
    let waiting = admit("/first").unwrap();
    let place_guard = waiting.place_guard();
    assert_eq!(admit("/second").unwrap_err(), UploadError::TooMany);
    drop(place_guard);
    assert_eq!(fixture.counts().0, 0);
    // Work that still waits counts on its mount, so that its number is bounded too.
    assert_eq!(admit("/second").unwrap_err(), UploadError::TooManyOfMount);
    drop(waiting);
    let second = admit("/second").unwrap();
    // A caller that is answered after the work is done has nothing left to give back.
    let place_guard = second.place_guard();
    drop(second);
    drop(place_guard);
    assert_eq!(fixture.counts().0, 0);
    // An upload with open files keeps its place for as long as it has them.
    let admitted = admit("/third").unwrap();
    let place_guard = admitted.place_guard();
    let writer = fixture.uploads.begin_admitted(admitted, &plan("/third", Some(1)), &limits()).unwrap();
    drop(place_guard);
    assert_eq!(fixture.counts().0, 1);
    writer.discard();
    assert_eq!(fixture.counts().0, 0);
}

#[test]
fn a_mount_below_the_root_holds_half_of_the_places_at_most() {
    let fixture = Fixture::new();
    let (staging, other) = (fixture.root.mounts().root(), MountId::numbered(u64::MAX));
    let admit = |path, mount| admitted(&fixture, path, mount, 4);
    let mut of_other: Vec<_> = ["/1", "/2"].map(|path| admit(path, other).unwrap()).into();
    assert_eq!(admit("/3", other).unwrap_err(), UploadError::TooManyOfMount);
    drop(of_other.iter().map(Admitted::place_guard).collect::<Vec<_>>());
    // Uploads that nobody waits for any more still count on the mount, while the root has all places.
    assert_eq!(admit("/3", other).unwrap_err(), UploadError::TooManyOfMount);
    let of_staging: Vec<_> = ["/1", "/2", "/3", "/4"].map(|path| admit(path, staging).unwrap()).into();
    assert_eq!(admit("/5", staging).unwrap_err(), UploadError::TooMany);
    drop(of_staging);
    of_other.pop();
    drop(admit("/3", other).unwrap());
}
