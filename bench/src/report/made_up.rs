//! Runs for tests: shaped like real ones, and the same every time.

use crate::host::Host;
use crate::result::{Absent, FORMAT_VERSION, Latency, PeerFacts, Run, Sample, Scenario, Work};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const ROUNDS: usize = 5;

/// The peers, with how much slower than streamd each is.
const PEERS: [(&str, f64); 6] = [
    ("streamd", 1.0),
    ("streamd-again", 1.0),
    ("nginx", 1.12),
    ("lighttpd", 1.24),
    ("caddy", 4.6),
    ("ceiling", 0.94),
];

/// Makes a run with a host and nothing else.
pub(crate) fn bare_run() -> Run {
    Run {
        format_version: FORMAT_VERSION,
        started: "2026-11-20T14:03:11Z".to_owned(),
        command_line: ["stream-bench", "compare", "--scenario", "full", "--json", "out.json"]
            .map(str::to_owned)
            .to_vec(),
        host: Host {
            kernel: "6.18.2-amd64".to_owned(),
            cpu: "Example Processor 9000 @ 2.60GHz".to_owned(),
            cores: 2,
            governor: "none".to_owned(),
            congestion_control: "cubic".to_owned(),
            server_cores: vec![0],
            client_cores: vec![1],
            memory_bytes: 8 * GIB,
        },
        peers: Vec::new(),
        absent: Vec::new(),
        scenarios: Vec::new(),
        interrupted: false,
        failure: None,
    }
}

/// Makes a peer of that name.
pub(crate) fn peer(name: &str) -> PeerFacts {
    PeerFacts {
        name: name.to_owned(),
        setup: String::new(),
        version: format!("{name} 1.2.3"),
        command_line: vec![name.to_owned(), "-c".to_owned(), format!("{name}.conf")],
        configuration: format!(
            "# {name}\nworker_processes 1;\nif ($a < 1 && $b > 2) {{ return 404 \"no\"; }}\n"
        ),
    }
}

/// Makes a pull scenario without samples.
pub(crate) fn pull(id: &str, body_bytes: u64, connections: usize) -> Scenario {
    let work = Work::Pull { body_bytes, connections, keep_alive: true, rate_per_s: None };
    let plural = if connections == 1 { "" } else { "s" };
    Scenario {
        id: id.to_owned(),
        title: format!("{id} hot, {connections} connection{plural}"),
        work,
        samples: Vec::new(),
        left_out: Vec::new(),
    }
}

/// Makes a sample of one second in which nothing happened.
pub(crate) fn sample(peer: &str, round: usize) -> Sample {
    Sample { peer: peer.to_owned(), round, elapsed_s: 1.0, ..Sample::default() }
}

/// Makes a run of one peer and one scenario, without a comparison.
pub(crate) fn single() -> Run {
    let mut scenario = pull("1 KiB", KIB, 64);
    fill(&mut scenario, &PEERS[..1], ROUNDS, 1.0);
    Run { peers: vec![peer("streamd")], scenarios: vec![scenario], ..bare_run() }
}

/// Makes a run that was cut off in the second scenario, before its first counted round.
pub(crate) fn interrupted() -> Run {
    let (mut first, mut second) = (pull("1 GiB", GIB, 1), pull("1 MiB", MIB, 64));
    let peers = [PEERS[0], PEERS[2]];
    fill(&mut first, &peers, 2, 1.0);
    fill(&mut second, &peers, 0, 1.0);
    let peers = peers.iter().map(|(name, _)| peer(name)).collect();
    Run { peers, scenarios: vec![first, second], interrupted: true, ..bare_run() }
}

/// Makes a run of five peers, a second streamd, every kind of scenario, errors and gaps.
pub(crate) fn full() -> Run {
    shaped(1.0)
}

/// Makes the run of [`full`] a week later, with a server that needs a fifth less CPU.
pub(crate) fn later() -> Run {
    Run { started: "2026-11-27T09:41:50Z".to_owned(), ..shaped(0.8) }
}

fn shaped(cost: f64) -> Run {
    let mut scenarios = scenarios();
    for scenario in &mut scenarios {
        let without_caddy = matches!(scenario.work, Work::Connections { .. });
        let only_streamd = matches!(scenario.work, Work::Stream { .. } | Work::Push { .. });
        let peers: &[(&str, f64)] = match (only_streamd, without_caddy) {
            (true, _) => &PEERS[..2],
            (_, true) => &PEERS[..4],
            _ => &PEERS,
        };
        fill(scenario, peers, ROUNDS, cost);
        if matches!(scenario.work, Work::Put { .. } | Work::MixedPut { .. }) {
            let cannot = ["lighttpd", "caddy"];
            scenario.samples.retain(|sample| !cannot.contains(&sample.peer.as_str()));
            let because = "takes no uploads".to_owned();
            scenario.left_out =
                cannot.map(|name| Absent { name: name.to_owned(), reason: because.clone() }).to_vec();
        }
    }
    // This scenario has no noise of its own.
    scenarios[1].samples.retain(|sample| sample.peer != "streamd-again");
    let failed = scenarios[4].samples.iter_mut().find(|sample| sample.peer == "caddy" && sample.round == 2);
    failed.unwrap().errors = vec![("time-out after 30 s".to_owned(), 3)];
    let absent = Absent { name: "h2o".to_owned(), reason: "not installed".to_owned() };
    Run {
        peers: PEERS.iter().map(|(name, _)| peer(name)).collect(),
        absent: vec![absent],
        scenarios,
        ..bare_run()
    }
}

fn scenarios() -> Vec<Scenario> {
    let titled = |id: &str, title: &str, work| Scenario {
        id: id.to_owned(),
        title: title.to_owned(),
        work,
        samples: Vec::new(),
        left_out: Vec::new(),
    };
    let open = Work::Pull { body_bytes: KIB, connections: 64, keep_alive: true, rate_per_s: Some(20_000.0) };
    let short = Work::Pull { body_bytes: KIB, connections: 64, keep_alive: false, rate_per_s: None };
    let stream = |body_bytes| Work::Stream { body_bytes, connections: 16 };
    let put = |body_bytes, connections, durable| Work::Put { body_bytes, connections, durable };
    let mixed_put =
        |uploads| Work::MixedPut { body_bytes: KIB, connections: 8, uploads, upload_bytes: 256 * MIB };
    let mixed = |cold_pulls| Work::Mixed { body_bytes: KIB, connections: 8, cold_pulls, rate_per_s: None };
    vec![
        pull("1 GiB", GIB, 1),
        pull("1 GiB", GIB, 16),
        pull("1 GiB", GIB, 256),
        pull("1 KiB", KIB, 64),
        pull("10 KiB", 10 * KIB, 64),
        pull("100 KiB", 100 * KIB, 64),
        pull("1 MiB", MIB, 64),
        titled("pull-new", "1 KiB hot, a new connection per request", short),
        titled("pull-open", "1 KiB hot, 20,000 requests/s", open),
        titled("stream-169", "POST /stream, 169 B", stream(169)),
        titled("stream-1MiB", "POST /stream, 1 MiB", stream(MIB)),
        titled("stream-1GiB", "POST /stream, 1 GiB", stream(GIB)),
        titled("push", "Frames in, 1 GiB", Work::Push { body_bytes: GIB, connections: 1 }),
        titled(
            "idle",
            "10,000 idle connections",
            Work::Connections { connections: 10_000, read_bytes_per_s: None },
        ),
        titled("mixed-0", "1 KiB hot, no cold load", mixed(0)),
        titled("mixed-2", "1 KiB hot beside 2 cold pulls", mixed(2)),
        titled("put-1GiB-1c-tmpfs", "PUT 1 GiB, 1 connection, tmpfs", put(GIB, 1, false)),
        titled("put-16MiB-64c-tmpfs", "PUT 16 MiB, 64 connections, tmpfs", put(16 * MIB, 64, false)),
        titled("put-fsync-1GiB-1c-disk", "PUT 1 GiB, 1 connection, ext4, synced", put(GIB, 1, true)),
        titled("mixed-put-0", "1 KiB hot beside 0 uploads", mixed_put(0)),
        titled("mixed-put-4", "1 KiB hot beside 4 uploads", mixed_put(4)),
    ]
}

/// Adds rounds 0 to `rounds` of `peers`.
fn fill(scenario: &mut Scenario, peers: &[(&str, f64)], rounds: usize, cost: f64) {
    let work = scenario.work;
    for round in 0..=rounds {
        for (index, (name, slowness)) in peers.iter().enumerate() {
            let jitter = 1.0 + 0.03 * ((round * 7 + index * 5) as f64).sin();
            scenario.samples.push(measured(name, round, work, slowness * jitter, cost));
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made-up numbers of small size")]
fn measured(name: &str, round: usize, work: Work, slowness: f64, cost: f64) -> Sample {
    let (body_bytes, connections) = match work {
        Work::Pull { body_bytes, connections, .. }
        | Work::Push { body_bytes, connections }
        | Work::Stream { body_bytes, connections }
        | Work::Put { body_bytes, connections, .. }
        | Work::Mixed { body_bytes, connections, .. }
        | Work::MixedPut { body_bytes, connections, .. } => (body_bytes, connections),
        Work::Connections { connections, .. } => (KIB, connections),
    };
    let beside_uploads = matches!(work, Work::MixedPut { uploads: 1.., .. });
    let cold = matches!(work, Work::Mixed { cold_pulls: 1.., .. });
    let request_us =
        (7.0 + body_bytes as f64 / 10_000.0) * slowness * if cold || beside_uploads { 1.3 } else { 1.0 };
    let requests = (5e6 / request_us).max(1.0);
    let p50 = request_us * (connections.min(256) as f64) * 1.1;
    let tail = if cold || beside_uploads { 40.0 * slowness * slowness } else { 3.0 };
    let small = body_bytes <= MIB;
    Sample {
        elapsed_s: 5.0,
        requests: requests as u64,
        bytes: (requests * body_bytes as f64) as u64,
        server_cpu_s: 4.8 * cost,
        client_cpu_s: 3.1,
        server_memory_peak_bytes: (20e6 * slowness) as u64,
        fairness: (connections > 1).then_some(0.998 / slowness.max(1.0).powf(0.1)),
        latency: small.then_some(Latency {
            p50_us: p50,
            p90_us: p50 * 1.4,
            p99_us: p50 * tail,
            p99_9_us: p50 * tail * 2.5,
            max_us: p50 * tail * 6.0,
        }),
        memory_per_connection_bytes: matches!(work, Work::Connections { .. })
            .then_some(540.0 * slowness * cost),
        cold_bytes_per_s: cold.then_some(52e6 / slowness),
        upload_bytes_per_s: beside_uploads.then_some(50e6),
        latency_p99_ratio: beside_uploads.then_some(1.5 * slowness * slowness),
        digests_checked: 4,
        ..sample(name, round)
    }
}
