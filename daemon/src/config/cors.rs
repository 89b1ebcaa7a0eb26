//! Pages of other origins that may read what a share serves (the CORS protocol of the Fetch standard, section 3.2).

use super::headers::check_name;
use super::kind::{Kind, range};
use super::setting::settings;

/// Longest time that a browser may keep the answer to a preflight: browsers keep none longer than a day.
const MAX_AGE_S_MAX: u64 = 24 * 60 * 60;

const ORIGINS: Kind = Kind::List { entry: "ORIGIN", example: "https://app.example.org", check: check_origin };
const FIELD_NAMES: Kind = Kind::List { entry: "FIELD", example: "X-Checksum", check: check_name };

settings! {
    /// Who may read across origins, and what.
    pub struct CorsSettings {
        /// Origins of the pages; * for any.
        origins: Vec<String> = Vec::new(), "Nobody is let in who wasn't named.", ORIGINS, Share, Reload;
        /// Fields of answers that a page may read, besides those that it always may and those of ranges, tags and
        /// uploads.
        expose: Vec<String> = Vec::new(), "What files and uploads need is exposed anyway.",
            FIELD_NAMES, Share, Reload;
        /// Fields of requests that a page may send, besides those of ranges, conditions and uploads.
        allow: Vec<String> = Vec::new(), "What files and uploads need is allowed anyway.",
            FIELD_NAMES, Share, Reload;
        /// Whether pages may send the user's credentials; not with origins = ["*"].
        credentials: bool = false, "A token is sent by the page itself, and needs none.",
            Kind::Switch, Share, Reload;
        /// Whether pages of the public Internet may reach this host on a private network.
        private_network: bool = false, "Browsers ask for good reason.", Kind::Switch, Share, Reload;
        /// Seconds for which a browser keeps the answer to a preflight.
        max_age_s: u64 = 600, "Ten minutes save most preflights, and a change is in force as soon.",
            Kind::Count(range(0, MAX_AGE_S_MAX)), Share, Reload;
    }
}

/// Says what is wrong with an origin (RFC 6454 6.1).
pub(super) fn check_origin(text: &str) -> Result<(), String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
    };
    if text == "*" || host.is_some_and(is_host) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no origin: expected scheme and host without a path, as https://app.example.org, or *"
    ))
}

#[cfg(test)]
mod tests {
    use super::check_origin;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for good in ["*", "https://a.example", "http://localhost:3000", "http://[::1]:8080"] {
            assert_eq!(check_origin(good), Ok(()));
        }
        for bad in ["", "a.example", "https://", "https://a.example/", "null", "ftp://a", "https://a b"] {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }
}
