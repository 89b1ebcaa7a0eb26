//! Says in every answer of a share which pages of other origins may read it (CORS).

use std::sync::Arc;

use super::super::context::Worker;
use crate::config::{CorsSettings, Share};
use crate::protocol::cors::{ALLOWED, EXPOSED, Grant, grant, with_further};
use crate::protocol::http1::request::{Preflight, Request};
use crate::protocol::http1::response::ResponseHead;

/// A request of which pages of other origins may have to be told.
#[derive(Clone, Copy)]
pub(super) struct Cors<'w> {
    settings: &'w CorsSettings,
    origin: Option<&'w [u8]>,
}

/// Returns the share of a request, where pages of other origins may read it.
pub(super) fn share_of(worker: &Worker, request: &Request) -> Option<Arc<Share>> {
    // Where no share has such pages none is looked for.
    if !worker.wanted.get().origin {
        return None;
    }
    let served = worker.served();
    let (served, _) = served.find(&request.name)?;
    served.share.cors().map(|_| Arc::clone(&served.share))
}

impl<'w> Cors<'w> {
    /// Of a request for a share.
    pub(super) fn of(share: &'w Share, request: &'w Request) -> Option<Cors<'w>> {
        let origin = request.read.as_ref().and_then(|fields| fields.origin.as_deref());
        share.cors().map(|settings| Cors { settings, origin })
    }

    /// Writes the fields that every answer has.
    pub(super) fn describe(self, head: &mut ResponseHead<'_>) {
        let CorsSettings { origins, expose, credentials, .. } = self.settings;
        match grant(origins, self.origin) {
            Grant::Any => _ = head.field("Access-Control-Allow-Origin", "*"),
            Grant::Origin(origin) => {
                head.field("Access-Control-Allow-Origin", origin).field("Vary", "Origin");
                if *credentials {
                    head.field("Access-Control-Allow-Credentials", "true");
                }
            }
            Grant::Other => {
                head.field("Vary", "Origin");
                return;
            }
        }
        if expose.is_empty() {
            head.field("Access-Control-Expose-Headers", EXPOSED);
        } else {
            head.field("Access-Control-Expose-Headers", &with_further(EXPOSED, expose));
        }
    }

    /// The fields that tell a browser what it may send, if its page may send anything.
    pub(super) fn allow(self, preflight: Preflight, methods: &str) -> Vec<(&'static str, String)> {
        let CorsSettings { origins, allow, max_age_s, private_network, .. } = self.settings;
        if grant(origins, self.origin) == Grant::Other {
            return Vec::new();
        }
        let mut fields = vec![
            ("Access-Control-Allow-Methods", methods.to_owned()),
            ("Access-Control-Allow-Headers", with_further(ALLOWED, allow)),
            ("Access-Control-Max-Age", max_age_s.to_string()),
        ];
        if preflight.wants_private_network && *private_network {
            fields.push(("Access-Control-Allow-Private-Network", "true".to_owned()));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::{Cors, CorsSettings, Preflight};
    use crate::protocol::http1::response::FieldBlock;

    fn settings(origins: &[&str]) -> CorsSettings {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        CorsSettings { origins, ..CorsSettings::default() }
    }

    fn described(settings: &CorsSettings, origin: Option<&str>) -> String {
        let cors = Cors { settings, origin: origin.map(str::as_bytes) };
        let block = FieldBlock::of(|head| cors.describe(head));
        String::from_utf8(block.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn an_answer_names_the_origin_that_may_read_it_and_what_else_it_may_read() {
        let settings = CorsSettings {
            credentials: true,
            expose: vec!["X-Checksum".to_owned()],
            ..settings(&["https://a.example"])
        };
        let fields = described(&settings, Some("https://a.example"));
        assert!(fields.starts_with("Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n"));
        assert!(fields.contains("Access-Control-Allow-Credentials: true\r\n"));
        assert!(fields.ends_with(", X-Checksum\r\n"), "{fields}");
        for origin in [None, Some("https://b.example")] {
            assert_eq!(described(&settings, origin), "Vary: Origin\r\n");
        }
    }

    #[test]
    fn where_any_origin_may_read_the_answer_is_one_for_all() {
        let fields = described(&settings(&["*"]), None);
        assert!(fields.starts_with("Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: "));
        assert!(!fields.contains("Vary"));
    }

    #[test]
    fn a_browser_is_told_what_it_may_send_by_pages_that_may() {
        let settings = CorsSettings { private_network: true, ..settings(&["https://a.example"]) };
        let allow = |origin: &str, wants_private_network| {
            let cors = Cors { settings: &settings, origin: Some(origin.as_bytes()) };
            cors.allow(Preflight { wants_private_network }, "GET")
        };
        assert_eq!(allow("https://a.example", false).len(), 3);
        assert_eq!(
            allow("https://a.example", true).last().unwrap().0,
            "Access-Control-Allow-Private-Network"
        );
        assert!(allow("https://b.example", true).is_empty());
    }
}
