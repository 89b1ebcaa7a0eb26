//! The numbers that a sample yields, each with its meaning, its unit, and whether more of it is better.

use crate::result::{Latency, Sample, Work};

/// A number that every sample of a scenario yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Payload bytes a second.
    Throughput,
    /// Answers a second.
    RequestRate,
    /// Server CPU seconds for each GB.
    ServerCpuPerGb,
    /// Server CPU microseconds for each request.
    ServerCpuPerRequest,
    /// Client and server CPU seconds for each GB.
    BothCpuPerGb,
    /// Server CPU seconds for each second of the run.
    ServerCpuLoad,
    /// Median latency.
    LatencyP50,
    /// 90th percentile.
    LatencyP90,
    /// 99th percentile.
    LatencyP99,
    /// 99.9th percentile.
    LatencyP999,
    /// The slowest request.
    LatencyMax,
    /// Server memory for each open connection.
    MemoryPerConnection,
    /// The most memory the server had resident.
    MemoryPeak,
    /// Jain's fairness index.
    Fairness,
    /// Cold bytes a second meanwhile.
    ColdThroughput,
    BesideThroughput,
    /// Uploaded bytes a second meanwhile.
    UploadThroughput,
    /// 99th percentile beside uploads by the one without.
    LatencyP99Ratio,
}

/// The quantity that a number counts, which decides its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Bytes a second, in powers of 1,000.
    BytesPerSecond,
    /// Events a second.
    PerSecond,
    /// A time in microseconds, which may be cost or latency.
    Microseconds,
    /// CPU seconds for each 10^9 bytes.
    SecondsPerGb,
    /// Bytes of memory, in powers of 1,024.
    Bytes,
    /// A share of one core.
    Cores,
    /// A number without a unit.
    Plain,
}

/// Body size up to which a pull is judged by requests and not by bytes: above it a request's fixed cost is lost
/// among the cost of its bytes.
const SMALL_BODY_BYTES_MAX: u64 = 1 << 20;

const LATENCIES: [Metric; 5] =
    [Metric::LatencyP50, Metric::LatencyP90, Metric::LatencyP99, Metric::LatencyP999, Metric::LatencyMax];

impl Metric {
    /// All metrics, in the order in which tables list them.
    pub(crate) const ALL: [Metric; 18] = [
        Metric::Throughput,
        Metric::RequestRate,
        Metric::ServerCpuPerGb,
        Metric::ServerCpuPerRequest,
        Metric::BothCpuPerGb,
        Metric::ServerCpuLoad,
        Metric::LatencyP50,
        Metric::LatencyP90,
        Metric::LatencyP99,
        Metric::LatencyP999,
        Metric::LatencyMax,
        Metric::MemoryPerConnection,
        Metric::MemoryPeak,
        Metric::Fairness,
        Metric::ColdThroughput,
        Metric::BesideThroughput,
        Metric::UploadThroughput,
        Metric::LatencyP99Ratio,
    ];

    /// The five latency percentiles, ascending.
    pub(crate) const LATENCIES: [Metric; 5] = LATENCIES;

    /// Returns the sample's value; None where it wasn't measured, or where the run ended before there was anything
    /// to measure (no answer yet, or less CPU than the 10 ms in which /proc/PID/stat counts).
    pub(crate) fn value(self, sample: &Sample) -> Option<f64> {
        let latency = |pick: fn(&Latency) -> f64| sample.latency.as_ref().map(pick);
        let value = match self {
            Metric::Throughput => Some(sample.bytes_per_s()),
            Metric::RequestRate => Some(sample.requests_per_s()),
            Metric::ServerCpuPerGb => Some(sample.server_cpu_s_per_gb()),
            Metric::ServerCpuPerRequest => Some(sample.server_cpu_us_per_request()),
            Metric::BothCpuPerGb => Some(sample.both_cpu_s_per_gb()),
            Metric::ServerCpuLoad => Some(sample.server_cpu_s / sample.elapsed_s),
            Metric::LatencyP50 => latency(|of| of.p50_us),
            Metric::LatencyP90 => latency(|of| of.p90_us),
            Metric::LatencyP99 => latency(|of| of.p99_us),
            Metric::LatencyP999 => latency(|of| of.p99_9_us),
            Metric::LatencyMax => latency(|of| of.max_us),
            Metric::MemoryPerConnection => sample.memory_per_connection_bytes,
            Metric::MemoryPeak => Some(sample.server_memory_peak_bytes as f64),
            Metric::Fairness => sample.fairness,
            Metric::ColdThroughput => sample.cold_bytes_per_s,
            Metric::BesideThroughput => sample.beside_bytes_per_s,
            Metric::UploadThroughput => sample.upload_bytes_per_s,
            Metric::LatencyP99Ratio => sample.latency_p99_ratio,
        };
        value.filter(|value| value.is_finite() && *value > 0.0)
    }

    /// Returns the title in the heads of rows and columns.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::Throughput => "Throughput",
            Metric::RequestRate => "Requests",
            Metric::ServerCpuPerGb => "Server CPU per GB",
            Metric::ServerCpuPerRequest => "Server CPU per request",
            Metric::BothCpuPerGb => "Client + server CPU per GB",
            Metric::ServerCpuLoad => "Server CPU load",
            Metric::LatencyP50 => "Latency p50",
            Metric::LatencyP90 => "Latency p90",
            Metric::LatencyP99 => "Latency p99",
            Metric::LatencyP999 => "Latency p99.9",
            Metric::LatencyMax => "Latency max",
            Metric::MemoryPerConnection => "Memory per connection",
            Metric::MemoryPeak => "Server memory, peak",
            Metric::Fairness => "Fairness",
            Metric::ColdThroughput => "Cold throughput",
            Metric::BesideThroughput => "Throughput beside, cold or not",
            Metric::UploadThroughput => "Upload throughput",
            Metric::LatencyP99Ratio => "Latency p99, with / without",
        }
    }

    /// Returns one line for a reader who meets the number for the first time.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Metric::Throughput => "Payload bytes a second, heads not counted; 1 GB is 10⁹ bytes.",
            Metric::RequestRate => "Answers a second that came whole and right.",
            Metric::ServerCpuPerGb => "CPU seconds of all the server’s processes for each GB of payload.",
            Metric::ServerCpuPerRequest => "CPU time of all the server’s processes for each answer.",
            Metric::BothCpuPerGb => {
                "CPU seconds of client and server for each GB: on loopback the kernel moves work between the two."
            }
            Metric::ServerCpuLoad => "CPU seconds of the server for each second; 1 is one core fully used.",
            Metric::LatencyP50 => {
                "From the moment a request was meant to begin to its last byte; half are faster."
            }
            Metric::LatencyP90 => "9 of 10 requests are faster.",
            Metric::LatencyP99 => "99 of 100 requests are faster.",
            Metric::LatencyP999 => "999 of 1,000 requests are faster.",
            Metric::LatencyMax => "The slowest request of a round.",
            Metric::MemoryPerConnection => {
                "Growth of the server’s resident memory, divided by the connections that are open."
            }
            Metric::MemoryPeak => "The most memory that all the server’s processes had resident.",
            Metric::Fairness => {
                "Jain’s index of the bytes of each connection: 1 when all got the same, 1/n when one got all."
            }
            Metric::ColdThroughput => {
                "Bytes a second of the cold files pulled meanwhile from the slow device."
            }
            Metric::BesideThroughput => {
                "Bytes a second of files pulled meanwhile that may be in the page cache: nobody looked, or they stayed."
            }
            Metric::UploadThroughput => "Bytes a second that are uploaded meanwhile to the slow device.",
            Metric::LatencyP99Ratio => {
                "p99 beside the uploads divided by p99 without them, measured one right after the other."
            }
        }
    }

    /// Returns the words for the direction in which a difference is an improvement.
    pub(crate) fn better(self) -> &'static str {
        if self.more_is_better() { "more is better" } else { "less is better" }
    }

    /// Returns the quantity that the number counts.
    pub(crate) fn quantity(self) -> Quantity {
        match self {
            Metric::Throughput
            | Metric::ColdThroughput
            | Metric::BesideThroughput
            | Metric::UploadThroughput => Quantity::BytesPerSecond,
            Metric::RequestRate => Quantity::PerSecond,
            Metric::ServerCpuPerGb | Metric::BothCpuPerGb => Quantity::SecondsPerGb,
            Metric::ServerCpuLoad => Quantity::Cores,
            Metric::MemoryPerConnection | Metric::MemoryPeak => Quantity::Bytes,
            Metric::Fairness | Metric::LatencyP99Ratio => Quantity::Plain,
            Metric::ServerCpuPerRequest
            | Metric::LatencyP50
            | Metric::LatencyP90
            | Metric::LatencyP99
            | Metric::LatencyP999
            | Metric::LatencyMax => Quantity::Microseconds,
        }
    }

    /// Returns the title of a plot's axis: the number, and its unit. Where ticks carry prefixes, the unit has
    /// none.
    pub(crate) fn axis_title(self) -> String {
        let unit = match self.quantity() {
            Quantity::BytesPerSecond => "bytes per second",
            Quantity::PerSecond => "per second",
            Quantity::SecondsPerGb => "seconds",
            Quantity::Bytes => "bytes",
            Quantity::Cores => "cores",
            Quantity::Plain => return self.title().to_owned(),
            // The ticks say which unit of time.
            Quantity::Microseconds if LATENCIES.contains(&self) => return "Latency".to_owned(),
            Quantity::Microseconds => return self.title().to_owned(),
        };
        format!("{}, {unit}", self.title())
    }

    /// Whether a larger value is the better one.
    pub(crate) fn more_is_better(self) -> bool {
        use Metric::{ColdThroughput, Fairness, RequestRate, Throughput, UploadThroughput};
        matches!(self, Throughput | RequestRate | Fairness | ColdThroughput | UploadThroughput)
    }

    /// Whether the number is meaningful for `work`. Bytes of probe requests, say, aren't a throughput.
    pub(crate) fn applies_to(self, work: &Work) -> bool {
        if LATENCIES.contains(&self) || self == Metric::MemoryPeak {
            return true;
        }
        match work {
            Work::Pull { connections, .. }
            | Work::Push { connections, .. }
            | Work::Stream { connections, .. }
            | Work::Put { connections, .. } => match self {
                Metric::Fairness => *connections > 1,
                Metric::Throughput
                | Metric::RequestRate
                | Metric::ServerCpuPerGb
                | Metric::ServerCpuPerRequest
                | Metric::BothCpuPerGb => true,
                _ => false,
            },
            Work::Connections { read_bytes_per_s, .. } => match self {
                Metric::MemoryPerConnection | Metric::ServerCpuLoad => true,
                Metric::Throughput | Metric::Fairness => read_bytes_per_s.is_some(),
                _ => false,
            },
            Work::Mixed { .. } => {
                matches!(
                    self,
                    Metric::RequestRate
                        | Metric::ServerCpuLoad
                        | Metric::ColdThroughput
                        | Metric::BesideThroughput
                )
            }
            Work::MixedPut { .. } => {
                use Metric::{LatencyP99Ratio, RequestRate, ServerCpuLoad, UploadThroughput};
                matches!(self, RequestRate | ServerCpuLoad | UploadThroughput | LatencyP99Ratio)
            }
        }
    }
}

/// Returns the numbers by which `work` is judged first, at least two; the most telling one first.
pub(crate) fn key_metrics(work: &Work) -> &'static [Metric] {
    match work {
        Work::Pull { rate_per_s: Some(_), .. } => {
            &[Metric::LatencyP50, Metric::LatencyP99, Metric::LatencyP999, Metric::LatencyMax]
        }
        Work::Put { durable: true, .. } => {
            &[Metric::Throughput, Metric::ServerCpuPerGb, Metric::LatencyP50, Metric::LatencyMax]
        }
        // One upload that finds its memory away from a virtual machine's host moves a mean, and not the median.
        Work::Put { .. } => {
            &[Metric::ServerCpuPerGb, Metric::Throughput, Metric::LatencyP50, Metric::BothCpuPerGb]
        }
        Work::Pull { body_bytes, .. } | Work::Push { body_bytes, .. } | Work::Stream { body_bytes, .. } => {
            if *body_bytes <= SMALL_BODY_BYTES_MAX {
                &[Metric::ServerCpuPerRequest, Metric::RequestRate, Metric::LatencyP50, Metric::LatencyP99]
            } else {
                &[Metric::ServerCpuPerGb, Metric::Throughput, Metric::BothCpuPerGb, Metric::Fairness]
            }
        }
        Work::Connections { .. } => {
            &[Metric::MemoryPerConnection, Metric::ServerCpuLoad, Metric::LatencyP50, Metric::LatencyP99]
        }
        Work::Mixed { .. } => &[
            Metric::LatencyP99,
            Metric::RequestRate,
            Metric::LatencyMax,
            Metric::ColdThroughput,
            Metric::BesideThroughput,
        ],
        Work::MixedPut { uploads: 0, .. } => {
            &[Metric::LatencyP99, Metric::RequestRate, Metric::LatencyMax, Metric::ServerCpuLoad]
        }
        Work::MixedPut { .. } => {
            &[Metric::LatencyP99Ratio, Metric::LatencyP99, Metric::RequestRate, Metric::UploadThroughput]
        }
    }
}
