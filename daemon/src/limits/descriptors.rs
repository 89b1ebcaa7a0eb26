//! The division of the process's descriptors. Each part is set aside at the start, so that none can use up
//! another: data connections stop where the rest belongs to others.

use rustix::process::{Resource, getrlimit};

use crate::config::Settings;

/// The most files that one worker keeps open for the requests that follow (`files/cache.rs`), where there are
/// enough descriptors.
pub const KNOWN_FILES_MAX: usize = 1024;

/// The daemon's own descriptors: standard streams, the event loops of the main thread and the control plane, root,
/// staging directory of uploads, spool, log. 19 are open at rest, and reloads, look-ups of names and disk threads
/// need some for a moment.
const OWN: u64 = 32;

/// The descriptors of each share besides the one that a node has most often: root, mounts, staging directory of uploads
/// with its records.
const OWN_PER_SHARE: u64 = 6;

/// The descriptors of each worker: ring or epoll with its waker, listener, epoll instance of arrivals. 4 are open
/// at rest.
const OWN_PER_WORKER: u64 = 5;

/// The descriptors of each further listener, one for each worker at most.
const OWN_PER_LISTENER: u64 = 1;

/// The descriptors of an upload besides its connection's: the socket as disk threads have it, the partial, and the
/// partial once more past the page cache.
const PER_UPLOAD: u64 = 3;

/// The descriptors of a stream: the connection to its target, and the file.
const PER_STREAM: u64 = 2;

/// The descriptors of a data connection: the socket, and the file that is sent or stored.
const PER_CONNECTION: u64 = 2;

/// The most pipes of one worker that carry windows of cold files, including those kept for the next ones, where
/// there are enough descriptors. Only slow readers hold one for long, and a transfer that finds none is served
/// without.
const PIPES_MAX: usize = 128;

/// The descriptors of a pipe: its two ends.
const PER_PIPE: u64 = 2;

/// The divisor that gives the part of pipes where descriptors are few: a quarter of the others', since a transfer
/// can do without.
const PIPES_DIVISOR: u64 = 32;

/// The divisor that gives the largest part of each user but data connections where descriptors are few.
const PART_DIVISOR: u64 = 8;

/// The least control connections: health checks, a scraper and a person.
const CONTROL_CONNECTIONS_MIN: u64 = 8;

/// The least data connections of a useful node. Fewer are a mistake of the host's, by which clients wait for each
/// other: ten browsers open six each.
pub const DATA_CONNECTIONS_MIN: usize = 64;

/// The parts of the descriptors, each as the number of its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The most data connections at once.
    pub connections_max: usize,
    /// The most control connections at once.
    pub control_connections_max: usize,
    /// The most uploads at once.
    pub uploads_max: usize,
    /// The most streams at once.
    pub streams_max: usize,
    /// The most known files of each worker.
    pub known_files_max: usize,
    /// The most pipes of each worker.
    pub pipes_max: usize,
    /// The first number that no data connection may have: the kernel gives the lowest free one, so that a
    /// connection that gets this number shows that all below are taken.
    pub data_end: u64,
}

impl Descriptors {
    /// Returns how many descriptors the process may have; None for any number.
    pub fn of_process() -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }

    /// Divides `limit` descriptors, or as many as the settings want where there is no limit.
    pub fn divide(limit: Option<u64>, settings: &Settings) -> Descriptors {
        let limit = limit.unwrap_or(u64::MAX);
        if limit >= Descriptors::wanted(settings) {
            return Descriptors::whole(limit, settings);
        }
        let workers = (settings.workers as u64).max(1);
        // Each worker keeps one file at least.
        let rest = limit.saturating_sub(own(settings) + (OWN_PER_WORKER + 1) * workers);
        let part = rest / PART_DIVISOR;
        let control = (settings.control_connections_max as u64).min(part.max(CONTROL_CONNECTIONS_MIN));
        let uploads = uploads_wanted(settings).min((part / PER_UPLOAD).max(1));
        let streams = (settings.streams_max as u64).min(part / PER_STREAM).max(1);
        let pipes = (PIPES_MAX as u64).min(rest / PIPES_DIVISOR / (PER_PIPE * workers));
        let taken = control + PER_UPLOAD * uploads + PER_STREAM * streams + PER_PIPE * pipes * workers;
        let left = rest.saturating_sub(taken);
        // Connections come before known files: those make serving cheaper, but a client that isn't connected isn't
        // served at all.
        let connections = settings.connections_max as u64;
        let spared = left.saturating_sub(connections.saturating_mul(PER_CONNECTION)).max(part);
        let spared = spared.min(left.saturating_sub(PER_CONNECTION));
        let known = (KNOWN_FILES_MAX as u64 - 1).min(spared / workers);
        let left = left.saturating_sub(known * workers);
        Descriptors {
            connections_max: count(connections.min(left / PER_CONNECTION).max(1)),
            control_connections_max: count(control),
            uploads_max: count(uploads),
            streams_max: count(streams),
            known_files_max: count(known + 1),
            pipes_max: count(pipes),
            data_end: limit.saturating_sub(control),
        }
    }

    fn whole(limit: u64, settings: &Settings) -> Descriptors {
        Descriptors {
            connections_max: settings.connections_max,
            control_connections_max: settings.control_connections_max,
            uploads_max: settings.uploads_max,
            streams_max: settings.streams_max,
            known_files_max: KNOWN_FILES_MAX,
            pipes_max: PIPES_MAX,
            data_end: limit.saturating_sub(settings.control_connections_max as u64),
        }
    }

    /// Whether the descriptors leave fewer data connections than anybody means to have.
    pub fn are_scarce(&self, settings: &Settings) -> bool {
        self.connections_max < settings.connections_max.min(DATA_CONNECTIONS_MIN)
    }

    /// Returns how many descriptors it takes to serve one request of each kind while health checks are answered.
    /// With fewer the daemon would listen, be healthy perhaps, and serve nobody.
    pub fn least(settings: &Settings) -> u64 {
        let parts = [
            own(settings) + (OWN_PER_WORKER + 1) * (settings.workers as u64).max(1),
            CONTROL_CONNECTIONS_MIN.min(settings.control_connections_max as u64),
            PER_UPLOAD * uploads_wanted(settings).min(1),
            PER_STREAM,
            PER_CONNECTION,
        ];
        parts.into_iter().sum()
    }

    /// Returns how many descriptors the settings may take at once.
    pub fn wanted(settings: &Settings) -> u64 {
        let connections = (settings.connections_max as u64).saturating_mul(PER_CONNECTION);
        let parts = [
            own(settings) + OWN_PER_WORKER * settings.workers as u64,
            (KNOWN_FILES_MAX as u64 + PER_PIPE * PIPES_MAX as u64) * settings.workers as u64,
            settings.control_connections_max as u64,
            PER_UPLOAD * uploads_wanted(settings),
            PER_STREAM * settings.streams_max as u64,
        ];
        parts.into_iter().fold(connections, u64::saturating_add)
    }
}

/// Returns the descriptors of the daemon and its shares.
fn own(settings: &Settings) -> u64 {
    let listeners = settings.listen.len() as u64 * (settings.workers as u64).max(1);
    OWN + OWN_PER_SHARE * settings.share.len() as u64 + OWN_PER_LISTENER * listeners
}

fn uploads_wanted(settings: &Settings) -> u64 {
    if settings.takes_uploads() { settings.uploads_max as u64 } else { 0 }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        Descriptors, KNOWN_FILES_MAX, OWN, OWN_PER_WORKER, PER_CONNECTION, PER_PIPE, PER_STREAM, PER_UPLOAD,
        PIPES_MAX,
    };
    use crate::config::Settings;

    fn settings(workers: usize) -> Settings {
        Settings { workers, uploads: true, ..Settings::default() }
    }

    /// Returns how many descriptors all parts take together, where each is used up.
    fn taken(parts: &Descriptors, workers: u64) -> u64 {
        OWN + OWN_PER_WORKER * workers
            + PER_CONNECTION * parts.connections_max as u64
            + parts.control_connections_max as u64
            + PER_UPLOAD * parts.uploads_max as u64
            + PER_STREAM * parts.streams_max as u64
            + (parts.known_files_max as u64 + PER_PIPE * parts.pipes_max as u64) * workers
    }

    #[test]
    fn enough_for_all_cuts_nobody() {
        for workers in [1, 2, 16] {
            let settings = settings(workers);
            let wanted = Descriptors::wanted(&settings);
            for limit in [Some(wanted), Some(1 << 20), None] {
                let parts = Descriptors::divide(limit, &settings);
                assert_eq!(parts.connections_max, settings.connections_max, "{limit:?}");
                assert_eq!(parts.control_connections_max, settings.control_connections_max);
                assert_eq!((parts.uploads_max, parts.streams_max), (256, 64));
                assert_eq!((parts.known_files_max, parts.pipes_max), (KNOWN_FILES_MAX, PIPES_MAX));
            }
            assert!(Descriptors::divide(Some(wanted - 1), &settings) != Descriptors::divide(None, &settings));
        }
    }

    #[test]
    fn parts_never_add_up_to_more_than_there_are() {
        for workers in [1, 2, 8, 64] {
            let settings = settings(workers);
            let least =
                OWN + (OWN_PER_WORKER + 1) * workers as u64 + 8 + PER_UPLOAD + PER_STREAM + PER_CONNECTION;
            for limit in (least..4096).chain([8192, 20_000, 65_536, 100_000]) {
                let parts = Descriptors::divide(Some(limit), &settings);
                let taken = taken(&parts, workers as u64);
                assert!(taken <= limit, "{workers} workers, {limit}: {taken} in {parts:?}");
                assert!(parts.control_connections_max >= 8, "{parts:?}");
                assert!(parts.data_end < limit);
            }
        }
    }

    #[test]
    fn the_least_is_what_serves_one_of_each() {
        for (workers, uploads) in [(1, true), (2, false), (64, true)] {
            let settings = Settings { uploads, ..settings(workers) };
            let least = Descriptors::least(&settings);
            let parts = Descriptors::divide(Some(least), &settings);
            assert_eq!((parts.connections_max, parts.streams_max), (1, 1), "{parts:?}");
            assert_eq!(parts.control_connections_max, 8, "{parts:?}");
            assert_eq!(taken(&parts, workers as u64), least, "{parts:?}");
        }
    }

    #[test]
    fn few_data_connections_are_scarce_unless_no_more_are_wanted() {
        let settings = settings(2);
        let parts = |limit| Descriptors::divide(Some(limit), &settings);
        assert!(parts(64).are_scarce(&settings) && parts(200).are_scarce(&settings));
        assert!(!parts(1024).are_scarce(&settings));
        let few = Settings { connections_max: 2, ..settings.clone() };
        assert!(!Descriptors::divide(Some(80), &few).are_scarce(&few));
    }

    #[test]
    fn too_few_still_give_everybody_something() {
        let parts = Descriptors::divide(Some(64), &settings(2));
        assert!(parts.connections_max >= 1 && parts.connections_max < 10, "{parts:?}");
        assert_eq!((parts.control_connections_max, parts.data_end), (8, 56), "{parts:?}");
        let none = Descriptors::divide(Some(3), &settings(2));
        assert_eq!((none.connections_max, none.uploads_max, none.known_files_max), (1, 1, 1));
    }
}
