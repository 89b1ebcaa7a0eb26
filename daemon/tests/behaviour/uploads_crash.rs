//! A test in which the power fails under a load of uploads: every acknowledged upload is on the disk.
//!
//! The daemon writes to an ext4 on a loop device whose image this process serves, and so knows at any moment which
//! blocks the file system has asked to be made durable and which still lie in the disk's cache. The content after
//! a loss of power is made from that: with the cache, without it, and with any half of it.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use crate::harness::uploads::{connect, longest_partial, offset_of, put_head, put_rest, try_put};
use crate::harness::{
    DEADLINE, Disk, Fixture, Loss, Mountpoint, Platter, Process, Random, TEST_FLAGS, or_skip, repair_ext4,
    sha256, wait_until,
};

const DISK_BYTES: u64 = 96 << 20;

/// The clients that upload at once, and the names of each.
const CLIENTS: usize = 4;

const NAMES: usize = 5;

/// The moments at which the power fails: by turns right after an answer, and in the middle of a write.
const MOMENTS: usize = 6;

/// The most uploads, and blocks, between two moments.
const UPLOADS_BETWEEN_MAX: usize = 40;
const BLOCKS_BETWEEN_MAX: usize = 4000;

/// The longest upload, in bytes: some are more than a piece of write-back (8 MiB), most are far less.
const UPLOAD_BYTES_MAX: usize = 9 << 20;

/// The bytes of an upload that is continued after the crash.
const KEPT_BYTES: usize = 12 << 20;

/// The uploads to one name.
#[derive(Clone, Default)]
struct History {
    /// The digests of all contents that were sent to it, in order; each was begun after the one before was
    /// answered.
    sent: Vec<String>,
    /// The number of them that were acknowledged.
    acknowledged: usize,
}

type Histories = HashMap<String, History>;

/// The content of the disk at a moment, and the uploads sent and acknowledged by then.
struct Moment {
    histories: Histories,
    platter: Platter,
}

/// The state that the clients share.
#[derive(Default)]
struct Load {
    histories: Mutex<Histories>,
    /// The number of further answers after which the power fails, and the channel to be told.
    next: Mutex<Option<(usize, Sender<Moment>)>>,
    is_over: AtomicBool,
}

impl Load {
    /// Uploads until told to stop.
    fn run(&self, address: SocketAddr, client: usize, disk: &Disk, mut random: Random) {
        while !self.is_over.load(Ordering::Relaxed) {
            // Every fourth upload goes into a directory that is made for it.
            let name = match random.below(4) {
                0 => format!("{client}/{:016x}/file", random.next()),
                _ => format!("{client}-{}", random.below(NAMES)),
            };
            // The lengths are of all orders of magnitude.
            let longest = UPLOAD_BYTES_MAX >> random.below(20);
            let length = random.below(longest);
            let content = random.bytes(length);
            self.change(&name, |history| history.sent.push(sha256(&content)));
            let response = try_put(address, &format!("/{name}"), "", &content).unwrap();
            assert!([201, 204].contains(&response.status), "{}", response.text());
            self.change(&name, |history| history.acknowledged = history.sent.len());
            self.answered(disk);
        }
    }

    fn answered(&self, disk: &Disk) {
        let mut next = self.next.lock().unwrap();
        *next = match next.take() {
            Some((0, sender)) => {
                // The order matters: an upload that is acknowledged in between is on the disk, but isn't looked
                // for.
                let histories = self.histories();
                let _ = sender.send(Moment { histories, platter: disk.platter() });
                None
            }
            Some((left, sender)) => Some((left - 1, sender)),
            None => None,
        };
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut History)) {
        change(self.histories.lock().unwrap().entry(name.to_owned()).or_default());
    }

    fn histories(&self) -> Histories {
        self.histories.lock().unwrap().clone()
    }
}

fn moments(load: &Arc<Load>, disk: &Disk, random: &mut Random) -> Vec<Moment> {
    let moment = |number: usize| {
        let (sender, receiver) = channel();
        if number.is_multiple_of(2) {
            *load.next.lock().unwrap() = Some((random.below(UPLOADS_BETWEEN_MAX), sender));
        } else {
            let load = Arc::clone(load);
            disk.after_blocks(random.below(BLOCKS_BETWEEN_MAX), move |platter| {
                let _ = sender.send(Moment { histories: load.histories(), platter: platter.clone() });
            });
        }
        receiver.recv_timeout(DEADLINE).unwrap()
    };
    (0..MOMENTS).map(moment).collect()
}

impl Moment {
    /// Looks for everything that was acknowledged in a file system that was repaired after the crash.
    fn assert_is_there(&self, root: &Path, context: &str) {
        for (name, History { sent, acknowledged }) in &self.histories {
            let Ok(content) = std::fs::read(root.join(name)) else {
                assert_eq!(*acknowledged, 0, "{context}: {name} was acknowledged and is absent");
                continue;
            };
            let digest = sha256(&content);
            let place = sent.iter().rposition(|sent| *sent == digest);
            // The content must be the one that was acknowledged last, or the one that was under way: whole in any
            // case.
            assert!(
                place.is_some_and(|place| place + 1 >= *acknowledged),
                "{context}: {name} has {} bytes, number {place:?} of those sent; {acknowledged} were acknowledged",
                content.len()
            );
        }
    }
}

fn flags(root: &Path) -> [&str; 10] {
    [
        "--uploads",
        "--create-dirs",
        "--min-free-bytes",
        "0",
        "--durability",
        "fsync",
        // Some uploads go past the page cache, some through it.
        "--direct-bytes-min",
        "2MiB",
        "--root",
        root.to_str().unwrap(),
    ]
}

fn start(root: &Path) -> Process {
    Process::start(&flags(root))
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    let mut random = Random::seeded();
    let Some(disk) = Disk::with_ext4(DISK_BYTES) else { return };
    let Some(mounted) = or_skip(Mountpoint::ext4(&disk.image(), "errors=remount-ro")) else { return };
    let process = start(mounted.path());
    let (load, address) = (Arc::<Load>::default(), process.data());
    let moments = std::thread::scope(|scope| {
        // The load stops also where an assertion fails.
        let _stop = Stop(&load.is_over);
        for client in 0..CLIENTS {
            let (load, disk, random) = (&load, &disk, Random::from_seed(random.next()));
            scope.spawn(move || load.run(address, client, disk, random));
        }
        moments(&load, &disk, &mut random)
    });
    drop(process);
    assert!(mounted.unmount());
    for (number, moment) in moments.iter().enumerate() {
        let cached = moment.platter.pending_blocks();
        for loss in Loss::ALL {
            let found = Found::after(&moment.platter, loss, &mut random);
            let context = format!("moment {number}, {loss:?} of {cached} blocks in the cache lost");
            moment.assert_is_there(found.mounted.path(), &context);
        }
    }
    let last = &moments[MOMENTS - 1];
    assert!(last.histories.values().any(|history| history.acknowledged > 1), "no name was replaced");
    assert!(moments.iter().any(|moment| moment.platter.pending_blocks() > 0), "nothing was there to be lost");
}

/// The host comes up with another boot id, and so the daemon trusts only synced bytes.
#[test]
fn what_was_kept_is_continued_after_a_loss_of_power_and_ends_right() {
    let mut random = Random::seeded();
    let content = random.bytes(KEPT_BYTES);
    let Some(disk) = Disk::with_ext4(DISK_BYTES) else { return };
    let Some(mounted) = or_skip(Mountpoint::ext4(&disk.image(), "errors=remount-ro")) else { return };
    let process = start(mounted.path());
    let half = KEPT_BYTES / 2;
    let range = format!("Content-Range: bytes 0-{}/{KEPT_BYTES}\r\n", half - 1);
    let kept = try_put(process.data(), "/kept", &range, &content[..half]).unwrap();
    assert_eq!((kept.status, kept.field("Upload-Offset")), (202, Some(half.to_string().as_str())));
    let after_the_answer = disk.platter();
    // Another upload is on its way, and nobody was told that any of it is kept.
    let mut stream = connect(process.data()).unwrap();
    let length = format!("Content-Length: {KEPT_BYTES}\r\n");
    stream.write_all(put_head("/going", &length).as_bytes()).unwrap();
    stream.write_all(&content[..half + (1 << 20)]).unwrap();
    wait_until("most to be written", || longest_partial(mounted.path()) > half);
    let in_the_middle = disk.platter();
    drop((process, stream));
    assert!(mounted.unmount());
    for platter in [after_the_answer, in_the_middle] {
        for loss in Loss::ALL {
            let found = Found::after(&platter, loss, &mut random);
            let Some(process) = found.start() else { return };
            let there = ["/kept", "/going"].map(|path| offset_of(process.data(), path, KEPT_BYTES));
            assert_eq!(there[0], half, "{loss:?} of {} blocks lost", platter.pending_blocks());
            for (path, there) in ["/kept", "/going"].into_iter().zip(there) {
                assert_eq!(
                    put_rest(process.data(), path, &content, there).status,
                    201,
                    "{path}, {loss:?} lost"
                );
                let published = std::fs::read(found.mounted.path().join(&path[1..])).unwrap();
                assert!(published == content, "{path}, {loss:?} lost, from {there} on");
            }
        }
    }
}

/// The file system when the power is back.
struct Found {
    mounted: Mountpoint,
    files: Fixture,
}

impl Found {
    fn after(platter: &Platter, loss: Loss, random: &mut Random) -> Found {
        let files = Fixture::new();
        let image = files.write("image", &platter.after(loss, random));
        repair_ext4(&image);
        Found { mounted: Mountpoint::ext4(&image, "errors=remount-ro").unwrap(), files }
    }

    /// Starts a daemon that takes this for another boot of the host; None, with a line that says so, where the
    /// boot id can't be changed for it.
    fn start(&self) -> Option<Process> {
        const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
        let own = self.files.write("boot_id", b"00000000-0000-4000-8000-000000000000\n");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("mount --bind \"$0\" {BOOT_ID} && exec \"$@\"")).arg(own);
        let probe =
            [command.get_program().to_owned()].into_iter().chain(command.get_args().map(ToOwned::to_owned));
        let probe: Vec<_> = probe.collect();
        let output = Command::new(&probe[0]).args(&probe[1..]).args(["cat", BOOT_ID]).output().unwrap();
        if !output.stdout.starts_with(b"00000000-") {
            eprintln!("skipped: another boot id: {output:?}");
            return None;
        }
        command.arg(env!("CARGO_BIN_EXE_streamd")).args(TEST_FLAGS).args(flags(self.mounted.path()));
        Some(Process::spawn(command))
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
