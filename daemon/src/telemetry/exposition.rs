//! The exposition: counters as text for scrapers, summed over the workers unless a label tells them apart.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::counters::{Counter, CounterFamily, Gauge, RootState, SpoolGauges, UploadGauges, WorkerCounters};
use super::labels::{Label, Limit};
use super::node::Telemetry;

/// A format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which all scrapers read.
    Text,
}

impl Exposition {
    /// Returns the `Content-Type` of an answer in this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Writes all metrics of `telemetry` as text of this format.
    pub fn text(self, telemetry: &Arc<Telemetry>) -> String {
        let text = openmetrics(telemetry);
        if self == Exposition::OpenMetrics { text } else { older(&text) }
    }
}

/// Converts OpenMetrics text to the older format: a counter's family is named as its samples are, with `_total`,
/// and units and the end mark, which would be comments there, are left out.
fn older(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help stands before the type, which tells the name of the family.
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(named) = line.strip_prefix("# HELP ") {
            help = named;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.strip_prefix(name).unwrap_or_default();
            text.extend(["# HELP ", name, suffix, help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

fn openmetrics(telemetry: &Arc<Telemetry>) -> String {
    let mut registry = Registry::with_prefix("streamd");
    registry.register_collector(Box::new(Snapshot(Arc::clone(telemetry))));
    let mut text = String::new();
    // Writing to a String can't fail; an encoder that did would leave a text without its end mark, which a
    // scraper refuses.
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

struct Snapshot(Arc<Telemetry>);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Snapshot")
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_workers(&mut encoder)?;
        self.encode_connections(&mut encoder)?;
        self.encode_transfers(&mut encoder)?;
        self.encode_frames(&mut encoder)?;
        self.encode_uploads(&mut encoder)?;
        self.encode_disk(&mut encoder)?;
        self.encode_root(&mut encoder)?;
        self.encode_space(&mut encoder)?;
        self.encode_waiting(&mut encoder)?;
        self.encode_limits(&mut encoder)?;
        self.encode_control(&mut encoder)
    }
}

impl Snapshot {
    fn encode_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let build = [("version", env!("CARGO_PKG_VERSION")), ("driver", self.0.driver())];
        let mut info =
            encoder.encode_descriptor("build", "Version and event driver.", None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(info.encode_family(&build)?)?;

        let help = "Time since the worker last turned its event loop.";
        let unit = Unit::Seconds;
        let mut ages =
            encoder.encode_descriptor("worker_heartbeat_age", help, Some(&unit), MetricType::Gauge)?;
        for number in 0..self.0.workers.len() {
            let age = ConstGauge::new(self.0.heartbeat_age(number).as_secs_f64());
            age.encode(ages.encode_family(&[("worker", number.to_string())])?)?;
        }
        Ok(())
    }

    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let open = i64::try_from(self.0.connections_open()).unwrap_or(i64::MAX);
        gauge(encoder, "connections_open", "Connections of the data plane that are open now.", open)?;
        self.counter(encoder, "connections_accepted", "Connections accepted.", |w| &w.connections_accepted)?;
        let help = "Connections closed since their first bytes were neither a frame nor HTTP.";
        self.counter(encoder, "connections_unknown", help, |w| &w.connections_unknown)?;
        let help = "Connections refused for their PROXY header.";
        self.family(encoder, "proxy_headers_refused", help, "reason", |w| &w.proxy_headers_refused)?;
        let help = "Times that accepting paused for want of descriptors or for the connection limit.";
        self.counter(encoder, "accept_pauses", help, |w| &w.accept_pauses)
    }

    fn encode_transfers(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "HTTP requests of the data plane by the status of their answer.";
        self.family(encoder, "requests", help, "status", |w| &w.requests)?;
        let help = "Transfers by how they ended.";
        self.family(encoder, "transfers", help, "outcome", |w| &w.transfers)?;
        let help = "Payload bytes sent, by engine.";
        self.family(encoder, "bytes_sent", help, "engine", |w| &w.bytes_sent)?;
        let help = "Windows that were not in the page cache when their turn came.";
        self.counter(encoder, "windows_cold", help, |w| &w.windows_cold)?;
        self.encode_disk_waits(encoder)
    }

    fn encode_disk_waits(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "Windows that were read by a disk thread or looked at whole, since a worker had waited for their \
                    file or its disk.";
        self.counter(encoder, "windows_disbelieved", help, |w| &w.windows_disbelieved)?;
        let help = "Times that a worker waited for a disk: what seemed to be in memory was not.";
        self.counter(encoder, "worker_disk_waits", help, |w| &w.disk_waits)?;
        let longest_us = self.0.workers.iter().map(|worker| worker.disk_wait_longest_us.get()).max();
        let longest = Duration::from_micros(longest_us.unwrap_or(0)).as_secs_f64();
        let help = "The longest that a worker has waited for a disk so far.";
        let unit = Unit::Seconds;
        let metric =
            encoder.encode_descriptor("worker_disk_wait_longest", help, Some(&unit), MetricType::Gauge)?;
        ConstGauge::new(longest).encode(metric)
    }

    fn encode_frames(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        self.counter(encoder, "frames_received", "Frames taken whole.", |w| &w.frames_received)?;
        let help = "Frames that were not acknowledged.";
        self.family(encoder, "frames_refused", help, "reason", |w| &w.frames_refused)?;
        self.counter(encoder, "bytes_received", "Payload bytes of frames.", |w| &w.bytes_received)
    }

    fn encode_uploads(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "Requests that brought an upload or a part of one, by how they ended.";
        self.family(encoder, "uploads", help, "outcome", |w| &w.uploads)?;
        let help = "Bytes of uploads that were written, whatever became of them.";
        self.counter(encoder, "bytes_uploaded", help, |w| &w.bytes_uploaded)?;
        let help = "Bytes of uploads that were written past the page cache.";
        self.counter(encoder, "bytes_uploaded_direct", help, |w| &w.bytes_uploaded_direct)?;
        let UploadGauges { writers, partials, .. } = &self.0.uploads;
        let running = i64::try_from(writers.get()).unwrap_or(i64::MAX);
        gauge(encoder, "uploads_running", "Uploads that are written to now.", running)?;
        let help = "Uploads that are not published, those that are written to now among them.";
        gauge(encoder, "partials", help, i64::try_from(partials.get()).unwrap_or(i64::MAX))
    }

    fn encode_disk(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let lanes = self.0.disk().lanes;
        let as_gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let help = "Tasks that wait for a disk thread.";
        let mut waiting = encoder.encode_descriptor("disk_tasks_waiting", help, None, MetricType::Gauge)?;
        for lane in &lanes {
            as_gauge(lane.waiting).encode(waiting.encode_family(&[("lane", lane.name)])?)?;
        }
        let help = "Tasks that disk threads do now.";
        let mut running = encoder.encode_descriptor("disk_tasks_running", help, None, MetricType::Gauge)?;
        for lane in &lanes {
            as_gauge(lane.running).encode(running.encode_family(&[("lane", lane.name)])?)?;
        }
        let help = "Tasks that disk threads have done.";
        let mut ended = encoder.encode_descriptor("disk_tasks", help, None, MetricType::Counter)?;
        for lane in &lanes {
            ConstCounter::new(lane.ended).encode(ended.encode_family(&[("lane", lane.name)])?)?;
        }
        let help = "Tasks that disk threads did not take, or that were given up.";
        let mut refused = encoder.encode_descriptor("disk_tasks_refused", help, None, MetricType::Counter)?;
        for lane in &lanes {
            ConstCounter::new(lane.refused).encode(refused.encode_family(&[("lane", lane.name)])?)?;
        }
        let help = "Age of the oldest task that waits for a disk thread or holds one.";
        let unit = Unit::Seconds;
        let mut oldest =
            encoder.encode_descriptor("disk_oldest_task", help, Some(&unit), MetricType::Gauge)?;
        for lane in &lanes {
            let age = ConstGauge::new(lane.oldest.as_secs_f64());
            age.encode(oldest.encode_family(&[("lane", lane.name)])?)?;
        }
        Ok(())
    }

    fn encode_space(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help =
            "Uploads and frames that were refused for want of room, by the limit that stood in their way.";
        self.family(encoder, "space_refusals", help, "reason", |w| &w.space_refusals)?;
        let UploadGauges { partial_bytes, partial_bytes_ahead, .. } = &self.0.uploads;
        let SpoolGauges { bytes, files, incoming_bytes, incoming_files } = &self.0.spool;
        let gauges: [(&str, &str, &Gauge); 6] = [
            ("partials_bytes", "Bytes of uploads that are not published, in whole blocks.", partial_bytes),
            ("partials_ahead_bytes", "Bytes allocated for them ahead of what has come.", partial_bytes_ahead),
            ("spool_bytes", "Bytes of stored frames, in whole blocks, as last counted.", bytes),
            ("spool_files", "Stored frames, as last counted.", files),
            ("spool_incoming_bytes", "Bytes of the spool that frames on their way in take.", incoming_bytes),
            (
                "spool_incoming_files",
                "Frames on their way into the spool of which something came.",
                incoming_files,
            ),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, name, help, i64::try_from(value.get()).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }

    fn encode_root(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let is = |state| i64::from(self.0.root.get() == state);
        let help = "1 where the root was removed, so that nothing is found.";
        gauge(encoder, "root_removed", help, is(RootState::Removed))?;
        let help = "1 where the root's path leads elsewhere, and the former directory is served.";
        gauge(encoder, "root_replaced", help, is(RootState::Replaced))
    }

    fn encode_waiting(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let budget = &self.0.budget;
        let taken = i64::try_from(budget.taken_bytes()).unwrap_or(i64::MAX);
        gauge(encoder, "waiting_bytes", "Memory of answers that wait for their readers.", taken)?;
        let help = "Answers that were refused since too many bytes wait for their readers.";
        encode_counter(encoder, "waiting_refused", help, budget.refusals())
    }

    fn encode_limits(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "What was refused or ended for a limit, in both planes.";
        encode_family(encoder, "limited", help, "limit", |label| {
            let of_workers = self.0.workers.iter().map(|worker| worker.limited.get(label)).sum::<u64>();
            // The budget counts its refusals where it is taken, on disk threads too.
            let of_budget = if label == Limit::AddressWaiting { self.0.budget.address_refusals() } else { 0 };
            of_workers + self.0.control.limited.get(label) + of_budget
        })
    }

    fn encode_control(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let control = &self.0.control;
        let running = i64::try_from(control.streams_running.get()).unwrap_or(i64::MAX);
        gauge(encoder, "streams_running", "Streams that run now.", running)?;
        encode_family(encoder, "streams", "Streams by how they ended.", "outcome", |label| {
            control.streams.get(label)
        })?;
        let help = "Requests of the control plane by the status of their answer.";
        encode_family(encoder, "control_requests", help, "status", |label| control.requests.get(label))?;
        let help = "Log lines that were lost, by why.";
        encode_family(encoder, "log_lines_dropped", help, "reason", |loss| self.0.log.lines_dropped(loss))
    }

    fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&WorkerCounters) -> &Counter,
    ) -> std::fmt::Result {
        encode_counter(encoder, name, help, self.0.workers.iter().map(|worker| of(worker).get()).sum())
    }

    fn family<L: Label>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label_name: &str,
        of: impl Fn(&WorkerCounters) -> &CounterFamily<L>,
    ) -> std::fmt::Result {
        encode_family(encoder, name, help, label_name, |label| {
            self.0.workers.iter().map(|worker| of(worker).get(label)).sum()
        })
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> std::fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn encode_counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> std::fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

/// Encodes all values of a label. Those that were never counted are exposed as 0, so that a rate over their first
/// event isn't lost.
fn encode_family<L: Label>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label_name: &str,
    value: impl Fn(L) -> u64,
) -> std::fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for label in L::ALL {
        ConstCounter::new(value(*label)).encode(metric.encode_family(&[(label_name, label.label())])?)?;
    }
    Ok(())
}
