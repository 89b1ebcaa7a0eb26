//! A simulated worker with its root, its disk threads and its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;

use super::super::connection::Via;
use super::super::context::{Drain, Driver, Resources, Setup, Worker};
use super::super::disk::{Disk, MountNames, ShareMounts, SimulatedThreads};
use super::super::dispatch;
use super::super::platform::simulated::{Endings, Entered, Host, Seeded, Wire};
use super::super::platform::{self, Stream};
use super::super::readiness::ReadinessEvents;
use super::super::served::{Served, ServedShare};
use super::super::socket::Socket;
use super::client::Client;
use super::request::{Files, content};
use crate::config::{Durability, EngineChoice, Live, LogFormat, Settings};
use crate::files::archive::Archives;
use crate::files::upload::Uploads;
use crate::files::{Listings, Root, Synthetic, fail_by};
use crate::limits::{AddressShares, TICK};
use crate::telemetry::{EngineLabel, KeptLines, Label, LogQueue, Telemetry};

/// Files that nobody writes to.
const FILES_MAX: usize = 3;

/// Names that one client alone writes to.
const OWN_NAMES: usize = 2;

/// Disk threads: so few that some wait.
const DISK_THREADS: usize = 4;

/// Time-outs of clients, in milliseconds.
const TIMEOUT_MS: u64 = 4_000;

/// Time of a disk that does nothing, in ticks: longer than its time-out.
const DISK_STOPS_TICKS: u64 = 60;

/// Time in which a drain ends in any case.
const DRAIN: Duration = Duration::from_secs(60);

/// So many connections bring each a tick; how many turns it takes until one of them has its turn again.
const TICK_IN: u64 = 40;

static SYNTHETIC: LazyLock<Synthetic> = LazyLock::new(|| Synthetic::new().unwrap());

/// The faults that a seed may have.
#[derive(Default)]
struct Faults {
    resets_in: u64,
    read_errors_in: u64,
    write_errors_in: u64,
    evictions_in: u64,
    disk_stops_in: u64,
    changes_in: u64,
    drains_in: u64,
}

impl Faults {
    fn draw(seeded: &mut Seeded) -> Faults {
        let mut rate = |once_in: u64, most: u64| {
            if seeded.one_in(once_in) { most / 10 + 1 + seeded.below(most) } else { 0 }
        };
        Faults {
            resets_in: rate(5, 100),
            read_errors_in: rate(6, 60),
            write_errors_in: rate(5, 20),
            evictions_in: rate(6, 3_000),
            disk_stops_in: rate(6, 20_000),
            changes_in: rate(5, 2_000),
            drains_in: rate(8, 4_000),
        }
    }
}

/// The worker and all around it.
pub(super) struct World {
    host: Rc<Host>,
    worker: Rc<Worker>,
    /// The way by which its clients come.
    via: Via,
    disk: SimulatedThreads,
    disk_stops_until: u64,
    uploads: Arc<Uploads>,
    lines: KeptLines,
    drain: Arc<OnceLock<Drain>>,
    clients: Vec<Client>,
    files: Files,
    /// The files that were changed in place.
    rewritten: BTreeSet<String>,
    faults: Faults,
    endings: Endings,
    ticks: u64,
    steps: u64,
    has_ended: Rc<std::cell::Cell<Option<bool>>>,
    directory: tempfile::TempDir,
    /// Left last.
    _entered: Entered,
}

impl World {
    pub(super) fn new(seeded: &mut Seeded) -> World {
        let faults = Faults::draw(seeded);
        World::with(seeded, faults)
    }

    /// One in which nothing goes wrong, and nobody is connected.
    pub(super) fn quiet() -> World {
        World::with(&mut Seeded::quiet(), Faults::default())
    }

    pub(super) fn worker(&self) -> Rc<Worker> {
        Rc::clone(&self.worker)
    }

    fn with(seeded: &mut Seeded, faults: Faults) -> World {
        let (host, entered) = Host::enter();
        let directory = temporary_directory();
        let mut files = Files::new();
        for number in 0..1 + seeded.index(FILES_MAX) {
            let (name, content) = (format!("f{number}"), content(seeded));
            std::fs::write(directory.path().join(&name), &content).unwrap();
            files.insert(name, vec![Some(content)]);
        }
        let root = Arc::new(Root::open(directory.path()).unwrap());
        let uploads = Uploads::open(Arc::clone(&root)).unwrap();
        let (queue, lines) = LogQueue::kept();
        let telemetry = Telemetry::new(1, "simulation", queue);
        let names = ShareMounts { path: String::new(), mounts: Arc::clone(root.mounts()) };
        let names = MountNames::new(vec![names]);
        let disk = SimulatedThreads::new(DISK_THREADS, settings(seeded).disk_timeout_ms, names);
        let settings = Settings { root: Some(directory.path().to_owned()), ..settings(seeded) };
        let live = Live::new(settings).unwrap();
        let share = Arc::clone(live.shares.iter().next().unwrap());
        let share = ServedShare { share, root, digester: None, uploads: Some(Arc::clone(&uploads)) };
        let served = Served::new(vec![Arc::new(share)], 0);
        let resources = Resources {
            served: watch::channel(Arc::new(served)).1,
            listings: Arc::new(Listings::new(Arc::clone(&telemetry.budget))),
            archives: Arc::new(Archives::new(Arc::clone(&telemetry.budget))),
            spool: None,
            synthetic: SYNTHETIC.clone(),
            shares: AddressShares::default(),
            descriptors_max: None,
        };
        let drain: Arc<OnceLock<Drain>> = Arc::default();
        let setup = Setup {
            number: 0,
            driver: Driver::Epoll,
            live: watch::channel(Arc::new(live)).1,
            telemetry,
            resources,
            room_requests: Arc::default(),
            drain: Arc::clone(&drain),
        };
        let readiness = ReadinessEvents::new().unwrap();
        let worker = Rc::new(Worker::new(setup, Disk::new(disk.threads()), readiness));
        let via = Via { is_paced: seeded.one_in(4), ..Via::default() };
        let has_ended = Rc::<std::cell::Cell<Option<bool>>>::default();
        let world = World {
            host,
            worker,
            via,
            disk,
            disk_stops_until: 0,
            uploads,
            lines,
            drain,
            clients: Vec::new(),
            files,
            rewritten: BTreeSet::new(),
            faults,
            endings: Endings::new(),
            ticks: 0,
            steps: 0,
            has_ended,
            directory,
            _entered: entered,
        };
        world.start(seeded);
        world
    }

    /// Starts the tasks that every worker runs beside its connections, and says what its writes come to.
    fn start(&self, seeded: &mut Seeded) {
        let (worker, has_ended) = (Rc::clone(&self.worker), Rc::clone(&self.has_ended));
        platform::spawn(async move { has_ended.set(Some(worker.turn_until_drained().await)) });
        let worker = Rc::clone(&self.worker);
        platform::spawn(async move { worker.readiness.deliver(&worker.registry).await });
        let (errors_in, mut seeded) = (self.faults.write_errors_in, Seeded::new(seeded.number()));
        fail_by(Some(Box::new(move || {
            let errno = [Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::INTR];
            seeded.one_in(errors_in).then(|| seeded.of(&errno))
        })));
    }

    /// A client connects.
    pub(super) fn connect(&mut self, number: usize, seeded: &mut Seeded) {
        let own: Vec<String> = (0..OWN_NAMES).map(|place| format!("u{number}-{place}")).collect();
        let mut files = self.files.clone();
        for name in &own {
            let content = seeded.one_in(3).then(|| content(seeded));
            if let Some(content) = &content {
                std::fs::write(self.directory.path().join(name), content).unwrap();
            }
            files.insert(name.clone(), vec![content]);
        }
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1 + u8::try_from(number).unwrap()), 1000));
        let sent_bytes_max = seeded.of(&[2_000, 20_000, 200_000, 4 << 20]);
        let faults = &self.faults;
        let wire =
            Wire::new(Seeded::new(seeded.number()), sent_bytes_max, faults.resets_in, faults.read_errors_in);
        let is_good = seeded.one_in(3);
        let mut client = Client::draw(seeded, (peer, Arc::clone(&wire)), &own, files, is_good);
        client.may_fail = faults.write_errors_in > 0;
        let registered =
            self.worker.registry.add(Socket::over(Stream::Simulated(wire), peer.into()), self.via);
        self.worker.counters.connections_accepted.add(1);
        platform::spawn(dispatch::run(Rc::clone(&self.worker), registered));
        self.clients.push(client);
    }

    pub(super) fn is_over(&self) -> bool {
        self.worker.registry.len() == 0
    }

    /// Says what keeps it from its end.
    pub(super) fn unended(&self) -> String {
        let answered: Vec<_> =
            self.clients.iter().map(|client| (client.answered.len(), client.requests.len())).collect();
        let (tasks, waiting) = (self.host.running(), self.worker.disk.waiting());
        format!("{tasks} tasks, {waiting} wait for a disk, answered {answered:?}")
    }

    /// One thing happens.
    pub(super) fn step(&mut self, seeded: &mut Seeded) {
        self.steps += 1;
        let faults = &self.faults;
        if seeded.one_in(faults.evictions_in) {
            self.evict(seeded);
        } else if seeded.one_in(faults.disk_stops_in) {
            self.disk_stops_until = self.ticks + DISK_STOPS_TICKS;
            self.clients.iter_mut().for_each(|client| client.may_fail = true);
        } else if seeded.one_in(faults.changes_in) {
            self.change_file(seeded);
        } else if seeded.one_in(faults.drains_in) {
            self.clients.iter_mut().for_each(|client| client.is_forgiving = true);
            self.drain();
        }
        match seeded.below(12) {
            0..4 => self.go_on(seeded),
            4..8 => {
                let place = seeded.index(self.clients.len());
                self.clients[place].act(seeded, &mut self.endings);
            }
            8..10 if self.ticks >= self.disk_stops_until => _ = self.disk.step(seeded.index(DISK_THREADS)),
            10 if seeded.one_in(TICK_IN / 12) => self.tick(),
            _ => self.tell(seeded),
        }
    }

    fn go_on(&mut self, seeded: &mut Seeded) {
        if !self.host.go_on(|count| seeded.index(count)) && self.clients.iter().all(Client::is_over) {
            self.tick();
        }
        for client in &self.clients {
            let is_waited_for = client.wire.is_waited_for();
            self.worker.registry.each(|connection| {
                if connection.client() == client.peer {
                    assert!(connection.has_deadline(is_waited_for), "a connection waits without a deadline");
                }
            });
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.host.advance(TICK);
    }

    /// Waits end, and arrivals are told of.
    fn tell(&mut self, seeded: &mut Seeded) {
        let wire = &self.clients[seeded.index(self.clients.len())].wire;
        if seeded.one_in(2)
            && let Some((token, is_end)) = wire.take_event()
        {
            self.worker.registry.notify_readable(token, is_end);
        }
        wire.end_waits(seeded.one_in(20));
    }

    /// The daemon stops.
    fn drain(&self) {
        let began = self.host.now();
        self.drain.get_or_init(|| Drain { began, deadline: began + DRAIN });
    }

    /// Somebody on this host changes a file: puts another in its place, or writes into it.
    fn change_file(&mut self, seeded: &mut Seeded) {
        let name = format!("f{}", seeded.index(self.files.len()));
        let path = self.directory.path().join(&name);
        let before = std::fs::read(&path).unwrap();
        let other = content(seeded);
        let now = match seeded.below(3) {
            0 => other.to_vec(),
            1 => [&before, &*other].concat(),
            _ => before[..seeded.index(before.len() + 1)].to_vec(),
        };
        if now.starts_with(&before) || before.starts_with(&now) {
            // A transfer of it that is under way may be broken off.
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(now.len() as u64).unwrap();
            let more = now.get(before.len()..).unwrap_or_default();
            std::os::unix::fs::FileExt::write_all_at(&file, more, before.len() as u64).unwrap();
            // Bytes on their way are the file's own pages, and a cut zeroes the rest of the page that it falls into
            // (truncate(2); so does every Linux file system with a page cache). Whatever is whole must still be of one
            // state.
            let is_cut = now.len() < before.len();
            let is_mixed = !self.rewritten.insert(name.clone()) || is_cut;
            for client in &mut self.clients {
                client.is_forgiving = true;
                client.may_mix |= is_mixed;
            }
        } else {
            let temporary = self.directory.path().join("temporary");
            std::fs::write(&temporary, &now).unwrap();
            std::fs::rename(&temporary, &path).unwrap();
        }
        *self.endings.entry("file changed".to_owned()).or_default() += 1;
        for client in &mut self.clients {
            client.files.entry(name.clone()).or_default().push(Some(now.as_slice().into()));
        }
    }

    /// Somebody needs the place of a connection.
    fn evict(&mut self, seeded: &mut Seeded) {
        let place = seeded.index(self.clients.len());
        let client = &mut self.clients[place];
        let mut token = None;
        self.worker.registry.each(|connection| {
            token = token.or((connection.client() == client.peer).then(|| connection.token()));
        });
        if let Some(token) = token {
            client.is_forgiving = true;
            self.worker.registry.evict(token);
        }
    }

    /// All connections are gone: what holds then.
    pub(super) fn end(mut self, seeded: &mut Seeded) -> Endings {
        self.disk_stops_until = 0;
        for client in &mut self.clients {
            client.conclude();
        }
        self.drain();
        let mut steps = 0;
        while self.host.running() > 0 || !self.disk.are_idle() {
            self.host.go_on(|count| seeded.index(count));
            self.disk.step(seeded.index(DISK_THREADS));
            self.tick();
            steps += 1;
            assert!(steps < 100_000, "the worker doesn't end: {}", self.unended());
        }
        assert_eq!(self.has_ended.get(), Some(true), "the worker ends with something left");
        self.hold_nothing_is_left();
        self.hold_lines();
        self.hold_files();
        let Worker { counters, .. } = &*self.worker;
        for engine in EngineLabel::ALL {
            if counters.bytes_sent.get(*engine) > 0 {
                *self.endings.entry(format!("by {}", engine.label())).or_default() += 1;
            }
        }
        for answered in self.clients.iter().flat_map(|client| &client.answered) {
            *self.endings.entry(format!("answer {}", answered.status)).or_default() += 1;
        }
        fail_by(None);
        std::mem::take(&mut self.endings)
    }

    fn hold_nothing_is_left(&self) {
        let worker = &self.worker;
        let shares = &worker.resources.shares;
        assert_eq!(worker.registry.len(), 0, "a connection is left in the registry");
        assert_eq!(worker.disk.waiting(), 0, "a wait for the disk is left");
        assert_eq!(worker.pipes.in_use(), 0, "a pipe is left");
        assert_eq!(worker.telemetry.budget.taken_bytes(), 0, "a reservation is left");
        assert_eq!(worker.telemetry.connections_open(), 0, "a connection counts as open");
        assert_eq!((shares.connections.total(), shares.uploads.total()), (0, 0), "a share is left");
        assert_eq!(self.uploads.usage().writers, 0, "a writer is left");
        for client in &self.clients {
            assert!(client.wire.is_closed(), "a socket is left open");
            assert_eq!(Arc::strong_count(&client.wire), 1, "somebody keeps a socket");
        }
    }

    /// Each request has one line, which says what its client saw.
    fn hold_lines(&mut self) {
        self.worker.access_log.flush();
        let text = self.lines.take();
        let mut of_peer: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let outcome = line["outcome"].as_str().unwrap();
            *self.endings.entry(format!("line {outcome}")).or_default() += 1;
            of_peer.entry(line["peer"].as_str().unwrap().to_owned()).or_default().push(line);
        }
        let count: usize = of_peer.values().map(Vec::len).sum();
        assert_eq!(self.worker.counters.transfers.total(), count as u64, "counted and written differ");
        for client in &self.clients {
            let lines = of_peer.remove(&client.peer.to_string()).unwrap_or_default();
            client.hold_lines(&lines);
        }
        assert!(of_peer.is_empty(), "lines of nobody: {of_peer:?}");
    }

    /// The files are what the answers said, and nothing else lies about.
    fn hold_files(&self) {
        for client in &self.clients {
            for (name, states) in client.files_left() {
                let found = std::fs::read(self.directory.path().join(&name)).ok();
                let is_one = |state: &Option<Arc<[u8]>>| state.as_deref() == found.as_deref();
                assert!(
                    states.iter().any(is_one),
                    "{name} has {:?} bytes, and could have {:?}",
                    found.map(|found| found.len()),
                    states
                        .iter()
                        .map(|state| state.as_ref().map(|content| content.len()))
                        .collect::<Vec<_>>()
                );
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks that are left, where a seed failed, end while the thread still plays.
        self.host.clear();
        fail_by(None);
    }
}

/// On a file system in memory, where there is one.
fn temporary_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let of = tempfile::Builder::new().prefix("streamd-simulation-").tempdir_in(memory);
    of.or_else(|_| tempfile::tempdir()).unwrap()
}

fn settings(seeded: &mut Seeded) -> Settings {
    Settings {
        data_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)).into(),
        uploads: true,
        workers: 1,
        log_format: LogFormat::Json,
        durability: seeded.of(&[Durability::None, Durability::Fsync]),
        engine: seeded.of(&[
            EngineChoice::Auto,
            EngineChoice::Auto,
            EngineChoice::Copy,
            EngineChoice::Sendfile,
            EngineChoice::Splice,
        ]),
        min_free_bytes: 0,
        min_free_inodes: 0,
        disk_threads: DISK_THREADS,
        disk_timeout_ms: TIMEOUT_MS,
        head_timeout_ms: TIMEOUT_MS,
        idle_timeout_ms: TIMEOUT_MS,
        send_timeout_ms: TIMEOUT_MS,
        receive_timeout_ms: TIMEOUT_MS,
        ..Settings::default()
    }
}
