//! Many connections that do nothing or read slowly: the memory that each costs the server, and the latency that
//! all of them cost a request meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Result, bail};

use super::measurement::Measurement;
use crate::load::{self, Answer, ConnectionWork, Load, Pace};
use crate::result::{Sample, Work};

/// The connections from one loopback address; further ones come from the next address.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

pub(super) fn measure(measurement: &Measurement<'_>) -> Result<Sample> {
    let Measurement { plan, subject, .. } = measurement;
    let Work::Connections { connections, read_bytes_per_s } = plan.work else {
        bail!("{} is no scenario of connections", plan.id)
    };
    let [small, ..] = plan.files.as_slice() else { bail!("{} needs a file", plan.id) };
    let file = if read_bytes_per_s.is_some() { plan.files.last().unwrap_or(small) } else { small };
    let request = (measurement.get(&file.url_path, true), Answer::Body { bytes: file.bytes });
    let work = ConnectionWork::Slow { request, bytes_per_s: read_bytes_per_s.unwrap_or(0) };
    let many = Load {
        sources: sources(subject.http.ip(), connections),
        ..measurement.load(subject.http, work, connections, Pace::Closed)
    };
    let held = load::start(&many)?;
    let memory_after = (subject.cost)().memory_bytes;

    let probe = measurement.hot_load(1, Pace::Closed)?;
    let probed = measurement.run(&probe);
    let held = held.stop()?;
    let mut probed = probed?;
    for (what, count) in held.errors {
        *probed.tally.errors.entry(format!("held connection: {what}")).or_default() += count;
    }
    let grown = memory_after.saturating_sub(subject.memory_at_start_bytes) as f64;
    Ok(Sample {
        memory_per_connection_bytes: Some(grown / connections as f64),
        fairness: None,
        ..probed.sample()
    })
}

/// Returns enough loopback source addresses for `connections`; none for a server elsewhere. Each measurement takes
/// a network of its own, since the ports of the last are in TIME_WAIT for a minute.
fn sources(server: IpAddr, connections: usize) -> Vec<IpAddr> {
    static NETWORK: AtomicU8 = AtomicU8::new(0);
    if !matches!(server, IpAddr::V4(address) if address.is_loopback()) {
        return Vec::new();
    }
    let network = NETWORK.fetch_add(1, Ordering::Relaxed);
    let count = connections.div_ceil(CONNECTIONS_PER_SOURCE);
    (1..=count)
        .filter_map(|number| u8::try_from(number).ok())
        .map(|last| Ipv4Addr::new(127, 1, network, last).into())
        .collect()
}
