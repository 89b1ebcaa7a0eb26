//! Errors as a page, for people whose browser asked.

use crate::protocol::problem::{DETAIL_BYTES_MAX, reason, shortened};

/// The media type of [`page`].
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The policy under which a page is shown: it loads nothing, and has no style but its own, which is known by its
/// digest.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'sha256-RjFyK14XKAIfFapJFEmFSJqdmmuZiG06Zv5Yjn3psAE='; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:15vh auto;\
     max-width:36rem;padding:0 1rem;overflow-wrap:anywhere}h1{font-size:1.5rem}";

/// Writes the page of a status, with a sentence that says what was wrong with this request.
#[must_use]
pub fn page(status: u16, detail: &str) -> String {
    let title = format!("{status} {}", reason(status));
    let detail = escaped(&shortened(detail, DETAIL_BYTES_MAX));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1><p>{detail}</p></body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;

    use super::{CONTENT_SECURITY_POLICY, STYLE, page};
    use crate::protocol::digest::Digest;

    #[test]
    fn a_page_says_status_and_reason_and_nothing_of_it_is_markup_of_others() {
        let page = page(404, "no <script>alert(1)</script> & no more");
        assert!(page.contains("<title>404 Not Found</title>"), "{page}");
        assert!(page.contains("<p>no &lt;script&gt;alert(1)&lt;/script&gt; &amp; no more</p>"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn the_policy_knows_the_style_by_its_digest() {
        let digest = Digest::Sha256(<Sha256 as sha2::Digest>::digest(STYLE).into()).to_string();
        let digest = digest.trim_matches(':');
        assert!(CONTENT_SECURITY_POLICY.contains(&format!("'sha256-{digest}'")), "{digest}");
    }
}
