//! The metrics, in the format that the client asks for.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue, VARY};

use super::error::ApiError;
use super::pages::waiting;
use super::response::{self, Answer};
use super::shared::Shared;
use crate::telemetry::Exposition;

/// Answers a scrape. A client that asks for no format gets the older one, which all can read.
pub(super) fn answer(shared: &Shared, headers: &HeaderMap) -> Result<Answer, ApiError> {
    let fields: Vec<&[u8]> = headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes).collect();
    let exposition = choose(&fields);
    let text = exposition.text(&shared.telemetry);
    let room = shared.reserve(text.len())?;
    let mut answer = response::body(StatusCode::OK, exposition.content_type(), waiting(text, Arc::new(room)));
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(answer)
}

/// The most members of `Accept` that are read; Prometheus sends up to seven.
const MEMBERS_MAX: usize = 64;

/// How much a client wants a format: its weight, and how exactly it named it, compared in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    /// The weight in thousandths.
    weight: u16,
    precision: Precision,
}

/// How exactly a member names a format. Of several that match, the most precise counts (RFC 9110 12.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    #[default]
    None,
    Anything,
    Type,
    Subtype,
    Version,
}

/// Chooses the format that `Accept` prefers, by its weights. A tie goes to the one that was named more exactly,
/// and then to OpenMetrics: a client that names it can read it. Where neither is acceptable the older one is sent,
/// since an answer that may be of use is better than a 406 (RFC 9110 12.5.1).
fn choose(fields: &[&[u8]]) -> Exposition {
    let openmetrics = wish(fields, "application", "openmetrics-text", "1.0.0");
    let text = wish(fields, "text", "plain", "0.0.4");
    let is_named = openmetrics.precision > Precision::Anything;
    if is_named && openmetrics.weight > 0 && openmetrics >= text {
        Exposition::OpenMetrics
    } else {
        Exposition::Text
    }
}

fn wish(fields: &[&[u8]], wanted_type: &str, subtype: &str, version: &str) -> Wish {
    let text = fields.iter().filter_map(|field| std::str::from_utf8(field).ok());
    let members = text.flat_map(|field| field.split(',')).take(MEMBERS_MAX);
    let matching = members.filter_map(|member| read(member, wanted_type, subtype, version));
    matching.max_by_key(|wish| (wish.precision, wish.weight)).unwrap_or_default()
}

/// Returns the wish for a format in one member; `None` where it is about another format.
fn read(member: &str, wanted_type: &str, subtype: &str, version: &str) -> Option<Wish> {
    let mut parameters = member.split(';').map(str::trim);
    let (found_type, found_subtype) = parameters.next()?.split_once('/')?;
    let mut precision = match (found_type, found_subtype) {
        ("*", "*") => Precision::Anything,
        (found, "*") if found.eq_ignore_ascii_case(wanted_type) => Precision::Type,
        (found, of) if found.eq_ignore_ascii_case(wanted_type) && of.eq_ignore_ascii_case(subtype) => {
            Precision::Subtype
        }
        _ => return None,
    };
    let mut weight = 1000;
    for (name, value) in parameters.filter_map(|parameter| parameter.split_once('=')) {
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("q") {
            weight = thousandths(value)?;
        } else if name.trim().eq_ignore_ascii_case("version") {
            if value != version {
                return None;
            }
            precision = Precision::Version;
        }
    }
    Some(Wish { weight, precision })
}

/// Reads a weight (RFC 9110 12.4.2): 0 to 1 with up to three digits.
fn thousandths(value: &str) -> Option<u16> {
    let weight: f32 = value.parse().ok()?;
    // The value is between 0 and 1000, so that nothing is cut off.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right before")]
    (0.0..=1.0).contains(&weight).then_some((weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::{Exposition, choose};

    #[test]
    fn formats_by_what_is_accepted() {
        use Exposition::{OpenMetrics, Text};
        // The fields are those of Prometheus 2.42 and 3.
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                            q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                            escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let telegraf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                        q=0.7,text/plain;version=0.0.4;q=0.3";
        for (accept, expected) in [
            (prometheus_2, OpenMetrics),
            (prometheus_3, OpenMetrics),
            (telegraf, Text),
            ("text/plain;version=0.0.4", Text),
            ("text/plain", Text),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Text),
            ("*/*", Text),
            ("", Text),
            ("text/html, */*;q=0.8", Text),
            ("application/json", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Text),
            ("application/openmetrics-text; version=2.0.0", Text),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=0, */*", Text),
            ("application/openmetrics-text;q=nan", Text),
            ("application/openmetrics-text;q=2", Text),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.9", Text),
            ("application/openmetrics-text;q=0.9, text/plain;q=0.5", OpenMetrics),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            ("text/plain, application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text, */*", OpenMetrics),
            ("application/*, text/*;q=0.5", OpenMetrics),
            ("application/*;q=0.5, */*", Text),
            (";;;,,,/,=", Text),
        ] {
            assert_eq!(choose(&[accept.as_bytes()]), expected, "{accept}");
        }
        assert_eq!(choose(&[]), Text);
        assert_eq!(choose(&[b"text/plain;q=0.1", b"application/openmetrics-text"]), OpenMetrics);
        assert_eq!(choose(&[b"\xff", b"application/openmetrics-text"]), OpenMetrics);
    }
}
