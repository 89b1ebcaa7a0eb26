//! Patterns of names, as shells have them.

use globset::{Candidate, GlobBuilder, GlobMatcher};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A pattern of a name at any depth: `*.js`, `/.*`, `/private/*.key`. A slash at its begin says no more than that a
/// name begins there.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// What fits is taken out of what others before it fit.
    is_exception: bool,
    glob: GlobMatcher,
}

/// Patterns of which the last that fits counts.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Pattern>);

impl Pattern {
    /// Reads a pattern. An error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let (is_exception, own) = text.strip_prefix('!').map_or((false, text), |own| (true, own));
        let own = own.strip_prefix('/').unwrap_or(own);
        if own.is_empty() || own.ends_with('/') {
            return Err(format!("{text:?} fits no name: expected a pattern, as *.js or /.*"));
        }
        let glob = GlobBuilder::new(&format!("**/{own}")).literal_separator(true).build();
        let glob = glob.map_err(|error| format!("{text:?} is no pattern: {}", error.kind()))?;
        Ok(Pattern { is_exception, glob: glob.compile_matcher() })
    }

    /// Whether it fits a name, which has no slash at its begin.
    pub fn fits(&self, name: &[u8]) -> bool {
        self.glob.is_match_candidate(&candidate(name))
    }
}

impl Patterns {
    /// All of them, in their order.
    pub fn new(patterns: Vec<Pattern>) -> Patterns {
        Patterns(patterns)
    }

    /// Whether a name, or a directory on the way to it, is one of theirs.
    pub fn cover(&self, name: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([name.len()]).any(|end| self.fit(&name[..end]))
    }

    /// Whether an entry of a directory that isn't covered itself is one of theirs. `name` is its whole name.
    pub fn fit(&self, name: &[u8]) -> bool {
        let candidate = candidate(name);
        let last = self.0.iter().rev().find(|pattern| pattern.glob.is_match_candidate(&candidate));
        last.is_some_and(|pattern| !pattern.is_exception)
    }
}

fn candidate(name: &[u8]) -> Candidate<'_> {
    Candidate::new(Path::new(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Patterns};

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(texts.iter().map(|text| Pattern::parse(text).unwrap()).collect())
    }

    #[test]
    fn a_pattern_fits_at_any_depth_and_covers_what_is_below() {
        let dots = patterns(&["/.*", "!/.well-known"]);
        for (name, is_covered) in [
            (".git", true),
            (".git/config", true),
            ("a/.git/config", true),
            ("a/b.c", false),
            (".well-known", false),
            (".well-known/acme-challenge/x", false),
            (".well-known/.x", true),
            ("", false),
        ] {
            assert_eq!(dots.cover(name.as_bytes()), is_covered, "{name}");
        }
        assert!(patterns(&["*.bak"]).cover(b"a/b/\xff.bak"));
        assert!(patterns(&["/private/*.key"]).cover(b"a/private/x.key"));
        assert!(!patterns(&["/private/*.key"]).cover(b"private/a/x.key"));
        assert!(!Patterns::default().cover(b".git"));
    }

    #[test]
    fn what_fits_nothing_or_is_no_pattern_is_refused() {
        for bad in ["", "/", "!", "!/", "a/", "[", "{a"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse("[").unwrap_err().starts_with("\"[\" is no pattern: "));
    }
}
