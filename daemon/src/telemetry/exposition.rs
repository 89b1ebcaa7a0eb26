//! Counters as OpenMetrics text, summed over the workers where a label tells them apart already.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Telemetry;
use super::counters::{Counter, CounterFamily, UploadGauges, WorkerCounters};
use super::labels::Label;

/// The content type of OpenMetrics 1.0.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of `telemetry`.
pub(super) fn text(telemetry: &Arc<Telemetry>) -> String {
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
        self.counter(encoder, "windows_cold", help, |w| &w.windows_cold)
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
        let UploadGauges { writers, partials } = &self.0.uploads;
        let running = i64::try_from(writers.get()).unwrap_or(i64::MAX);
        gauge(encoder, "uploads_running", "Uploads that are written to now.", running)?;
        let help = "Uploads that are not published, those that are written to now among them.";
        gauge(encoder, "partials", help, i64::try_from(partials.get()).unwrap_or(i64::MAX))
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
        let help = "Log lines dropped since their reader was too slow.";
        encode_counter(encoder, "log_lines_dropped", help, self.0.log.lines_dropped())
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

/// Values that were never counted are exposed as 0, so that a rate over their first event isn't lost.
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
