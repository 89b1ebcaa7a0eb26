//! Tests of running peers: each serves the right bytes, costs something, and is gone afterwards.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::place::Place;
use super::{
    NAMES, PeerSetup, RunningPeer, StartError, UploadSetup, fetch, process, start, start_from, start_recipe,
};

const FILE_BYTES: usize = 1 << 20;

/// The variable that is set for a process of this test program that is to be the ceiling.
const CEILING_ADDRESSES: &str = "STREAM_BENCH_TEST_CEILING";

struct Fixture {
    directory: TempDir,
    setup: PeerSetup,
    sha256: [u8; 32],
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("www");
        fs::create_dir(&root).unwrap();
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|at| u8::try_from((at * at / 7) % 251).unwrap()).collect();
        fs::write(root.join("file"), &bytes).unwrap();
        fs::write(root.join("small"), &bytes[..1000]).unwrap();
        let setup = PeerSetup {
            root,
            work_directory: directory.path().join("work"),
            cores: vec![0],
            workers: 1,
            streamd: streamd(),
            streamd_before: Some(streamd()),
            streamd_arguments: Vec::new(),
            uploads: None,
        };
        Fixture { directory, setup, sha256: Sha256::digest(&bytes).into() }
    }
}

/// Returns cargo's release build of this workspace, or the one that the environment names.
fn streamd() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/streamd");
    std::env::var_os("STREAMD_BIN").map_or(built, PathBuf::from)
}

fn start_named(name: &str, setup: &PeerSetup) -> Option<RunningPeer> {
    match if name == "ceiling" {
        start_ceiling(setup)
    } else {
        start(name, setup).map_err(|error| error.to_string())
    } {
        Ok(peer) => Some(peer),
        Err(reason) => {
            let absent =
                reason.contains("not installed") || (name.starts_with("streamd") && !setup.streamd.exists());
            assert!(absent, "{name}: {reason}");
            println!("{name} left out: {reason}");
            None
        }
    }
}

/// Starts this test program as the ceiling, since the bench's own program isn't at hand in a unit test.
fn start_ceiling(setup: &PeerSetup) -> Result<RunningPeer, String> {
    let place = Place::new("ceiling", setup)?;
    let mut recipe = super::ceiling::recipe(&place)?;
    recipe.arguments = ["--exact", "peer::tests::be_the_ceiling", "--nocapture"].map(str::to_owned).to_vec();
    recipe.environment = vec![(CEILING_ADDRESSES, format!("{} {} {}", place.http, place.second, place.root))];
    recipe.version_arguments = &["--list"];
    start_recipe("ceiling", recipe, &place, &process::program_directories())
}

#[test]
fn be_the_ceiling() {
    let Ok(words) = std::env::var(CEILING_ADDRESSES) else { return };
    let words: Vec<&str> = words.split(' ').collect();
    let [http, push, root] = words[..] else { panic!("{words:?}") };
    let addresses: [SocketAddr; 2] = [http.parse().unwrap(), push.parse().unwrap()];
    super::ceiling::serve_ceiling(addresses[0], addresses[1], Path::new(root)).unwrap();
}

#[test]
fn every_installed_peer_serves_costs_and_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let mut heads = Vec::new();
    for name in NAMES {
        let Some(peer) = start_named(name, &fixture.setup) else { continue };
        peer.verify("file", FILE_BYTES as u64, &fixture.sha256).unwrap();
        assert!(
            peer.verify("file", FILE_BYTES as u64, &[0; 32]).unwrap_err().to_string().contains("SHA-256")
        );
        assert!(peer.verify("file", 5, &fixture.sha256).unwrap_err().to_string().contains("instead of 5"));
        assert!(peer.verify("absent", 5, &fixture.sha256).unwrap_err().to_string().contains("absent"));
        assert!(
            !peer.facts.version.is_empty() && peer.facts.command_line.iter().any(|word| word == "--cpu-list")
        );
        let before = peer.cost();
        let deadline = Instant::now() + Duration::from_secs(20);
        while peer.cost().cpu_s < before.cpu_s + 0.02 {
            assert!(Instant::now() < deadline, "{name} costs nothing");
            (0..20).for_each(|_| peer.verify("file", FILE_BYTES as u64, &fixture.sha256).unwrap());
        }
        peer.reset_memory_peak();
        let cost = peer.cost();
        assert!(cost.memory_peak_bytes >= cost.memory_bytes && cost.memory_bytes > 0, "{name}: {cost:?}");
        heads.push((*name, peer.head_bytes("small").unwrap()));
        println!("{name}: {} {cost:?} {:?}", peer.facts.version, peer.process_ids());
        assert_stops(peer);
    }
    println!("{heads:?}");
    let sizes = || heads.iter().map(|(_, bytes)| *bytes);
    assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 100, "{heads:?}");
}

#[test]
fn who_takes_uploads_takes_them_where_they_go_to_and_the_others_say_why_not() {
    let fixture = Fixture::new();
    let directories = ["a", "b"].map(str::to_owned).to_vec();
    directories.iter().for_each(|name| fs::create_dir(fixture.setup.root.join(name)).unwrap());
    let setup = |durable| PeerSetup {
        uploads: Some(UploadSetup { directories: directories.clone(), durable }),
        ..fixture.setup.clone()
    };
    for name in ["nginx", "ceiling"] {
        let Some(peer) = start_named(name, &setup(false)) else { continue };
        for (path, body) in [("/a/put-0", "one"), ("/b/put-0", "two"), ("/a/put-0", "three")] {
            let line = fetch::put(peer.http, path, body.as_bytes()).unwrap();
            assert!(matches!(fetch::status(&line), 201 | 204), "{name}: {line}");
            let mut found = Vec::new();
            fetch::get(peer.http, path, |bytes| {
                found.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
            assert_eq!(found, body.as_bytes(), "{name}");
        }
        let line = fetch::delete(peer.http, "/a/put-0").unwrap();
        assert_eq!(fetch::status(&line), 204, "{name}: {line}");
        assert!(!fixture.setup.root.join("a/put-0").exists());
        assert_stops(peer);
    }
    for (name, durable, text) in [
        ("h2o", false, "takes no uploads"),
        ("caddy", false, "takes no uploads"),
        ("nginx", true, "doesn't sync"),
        ("streamd", false, "has no --uploads"),
    ] {
        // This program prints nothing, not even when it is asked for help.
        let setup = PeerSetup { streamd: PathBuf::from("/bin/true"), ..setup(durable) };
        match start(name, &setup).unwrap_err() {
            StartError::Unable(reason) => assert!(reason.contains(text), "{name}: {reason}"),
            error => assert!(matches!(error, StartError::NotInstalled(_)), "{name}: {error}"),
        }
    }
}

fn assert_stops(peer: RunningPeer) {
    let (ids, address) = (peer.process_ids(), peer.http);
    assert!(peer.is_running() && !ids.is_empty());
    let begin = Instant::now();
    peer.stop();
    assert!(begin.elapsed() < Duration::from_secs(5), "it had to be killed");
    assert_none_lives(&ids);
    assert!(TcpStream::connect(address).is_err());
}

/// Asserts that none of the processes lives. One that has lost its parent is waited for by the system's first
/// process, at leisure.
fn assert_none_lives(ids: &[i32]) {
    let lives = |id: &i32| super::tree::read(*id).is_some_and(|process| process.lives());
    assert!(!ids.iter().any(lives), "{ids:?}");
}

#[test]
fn several_workers_are_stopped_too() {
    let fixture = Fixture::new();
    let setup = PeerSetup { workers: 3, cores: Vec::new(), ..fixture.setup };
    for name in ["nginx", "lighttpd", "h2o", "caddy"] {
        let Some(peer) = start_named(name, &setup) else { continue };
        peer.verify("file", FILE_BYTES as u64, &fixture.sha256).unwrap();
        assert_stops(peer);
    }
}

#[test]
fn a_killed_main_process_leaves_no_worker() {
    let fixture = Fixture::new();
    let Some(peer) = start_named("nginx", &fixture.setup) else { return };
    let ids = peer.process_ids();
    assert_eq!(ids.len(), 2, "master and worker");
    let leader = rustix::process::Pid::from_raw(peer.process.leader()).unwrap();
    rustix::process::kill_process(leader, rustix::process::Signal::KILL).unwrap();
    while peer.is_running() {
        process::pause();
    }
    peer.stop();
    assert_none_lives(&ids);
}

#[test]
fn a_peer_ends_with_the_thread_that_started_it() {
    let fixture = Fixture::new();
    let Some(peer) =
        std::thread::scope(|scope| scope.spawn(|| start_named("nginx", &fixture.setup)).join().unwrap())
    else {
        return;
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while peer.process_ids().iter().any(|id| super::tree::read(*id).is_some_and(|process| process.lives())) {
        assert!(Instant::now() < deadline, "it lives on");
        process::pause();
    }
}

#[test]
fn a_peer_that_is_not_installed_is_told_from_one_that_fails() {
    let fixture = Fixture::new();
    for name in ["nginx", "h2o", "lighttpd", "caddy"] {
        let reason = format!("{name} is not installed: scripts/install-peers.sh installs it");
        let error = start_from(name, &fixture.setup, &[]).unwrap_err();
        assert_eq!(error, super::StartError::NotInstalled(reason));
    }
    let setup = PeerSetup { streamd: fixture.directory.path().join("streamd"), ..fixture.setup.clone() };
    assert!(start("streamd", &setup).unwrap_err().to_string().contains("No such file"));
    assert!(
        start("apache", &fixture.setup)
            .unwrap_err()
            .to_string()
            .contains("streamd, streamd-again, streamd-before, nginx")
    );
    let setup = PeerSetup { root: fixture.directory.path().join("a\"b"), ..fixture.setup };
    fs::create_dir(&setup.root).unwrap();
    assert!(start("nginx", &setup).unwrap_err().to_string().contains("plain path"));
}

#[test]
fn a_refused_configuration_is_told_with_the_servers_own_words() {
    let fixture = Fixture::new();
    let directories = process::program_directories();
    let cases = [
        ("nginx", "unknown directive \"nonsense:\""),
        ("h2o", "unknown command: nonsense"),
        ("lighttpd", "parser failed"),
        ("caddy", "unrecognized directive"),
    ];
    for (name, words) in cases {
        let place = Place::new(name, &fixture.setup).unwrap();
        let Ok(mut recipe) = super::recipe_of(name, &place, &directories) else { continue };
        let configuration = recipe.configuration.as_mut().unwrap();
        configuration.text.insert_str(0, "nonsense: 1\n");
        let reason = start_recipe(name, recipe, &place, &directories).unwrap_err();
        assert!(reason.starts_with("refused to start: ") && reason.contains("log: "), "{name}: {reason}");
        assert!(reason.contains(words), "{name}: {reason}");
    }
}
