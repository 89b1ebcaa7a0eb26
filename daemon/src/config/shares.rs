//! The shares in force: which one a name belongs to, and what is to be known of it without reading it anew.

use std::path::PathBuf;
use std::sync::Arc;

use super::cors::CorsSettings;
use super::faults::Fault;
use super::pattern::{Pattern, Patterns};
use super::setting::Declared;
use super::settings::Settings;
use super::share_path::SharePath;
use super::share_settings::ShareSettings;

/// A share, with its patterns compiled.
#[derive(Clone, Debug)]
pub struct Share {
    /// The path below which it is served.
    pub path: SharePath,
    /// The directory that is served.
    pub root: PathBuf,
    /// How it is served.
    pub settings: ShareSettings,
    /// Names that are seen only by those who may write.
    pub hidden: Patterns,
    /// Fields of answers with a file, in the order in which they were given.
    pub headers: Vec<HeaderRule>,
}

/// Fields for the names that fit a pattern.
#[derive(Clone, Debug)]
pub struct HeaderRule {
    /// Which names these are.
    pub pattern: Pattern,
    /// Names and values of the fields.
    pub fields: Vec<(String, String)>,
}

/// All shares, the longest path first.
#[derive(Clone, Debug, Default)]
pub struct Shares(Vec<Arc<Share>>);

impl Shares {
    /// Those of the settings. What can't be one is a fault.
    pub(super) fn new(settings: &Settings, faults: &mut Vec<Fault>) -> Shares {
        let given = settings.root_share().into_iter().chain(settings.share.iter().cloned());
        let mut shares: Vec<_> = given.filter_map(|share| Share::new(share, faults)).map(Arc::new).collect();
        // Only one of two equal paths could ever be found; which is an error, told by the checks.
        shares.sort_by_key(|share| std::cmp::Reverse(share.path.as_str().len()));
        Shares(shares)
    }

    /// The share that a name belongs to, and what the name is called within it. A name has no slash at its begin.
    pub fn find<'n>(&self, name: &'n [u8]) -> Option<(&Arc<Share>, &'n [u8])> {
        self.0.iter().find_map(|share| Some((share, share.path.within(name)?)))
    }

    /// Each of them, the longest path first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Share>> {
        self.0.iter()
    }
}

impl Share {
    /// None where the settings lack something, or have what can't be read: the checks tell of it.
    fn new(settings: ShareSettings, faults: &mut Vec<Fault>) -> Option<Share> {
        let (path, root) = (settings.path.clone()?, settings.root.clone()?);
        let mut parse = |text: &String| {
            Pattern::parse(text).map_err(|reason| faults.push(Fault::new("share", reason))).ok()
        };
        let hidden = Patterns::new(settings.hidden.iter().filter_map(&mut parse).collect());
        let rules = settings.headers.iter().filter_map(|rule| {
            let fields = rule.set.clone().into_iter().collect();
            Some(HeaderRule { pattern: parse(rule.r#match.as_ref()?)?, fields })
        });
        let headers = rules.collect();
        Some(Share { path, root, settings, hidden, headers })
    }

    /// The fields that answers with this file have, the last value of each. Cache-Control of the whole share comes
    /// before the rules.
    pub fn fields(&self, name: &[u8]) -> Vec<(&str, &str)> {
        let mut fields: Vec<(&str, &str)> =
            self.settings.cache_control.iter().map(|value| ("Cache-Control", value.as_str())).collect();
        for rule in self.headers.iter().filter(|rule| rule.pattern.fits(name)) {
            for (name, value) in &rule.fields {
                fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                fields.push((name, value));
            }
        }
        fields
    }

    /// The media type that the settings give to a file of this name: that of the longest end that fits.
    pub fn media_type(&self, name: &[u8]) -> Option<&str> {
        let own = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let dots = own.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let ends = dots.filter_map(|at| std::str::from_utf8(&own[at + 1..]).ok());
        ends.filter_map(|end| self.settings.types.get(end)).next().map(String::as_str)
    }

    /// Who may read it across origins.
    pub fn cors(&self) -> Option<&CorsSettings> {
        self.settings.cors.as_ref()
    }
}

impl Settings {
    /// The share `/`, which the keys of the file's top are; None without a root.
    pub fn root_share(&self) -> Option<ShareSettings> {
        let mut share = ShareSettings {
            path: Some(SharePath::root()),
            root: Some(self.root.clone()?),
            ..ShareSettings::default()
        };
        let own = Settings::FIELDS.iter();
        let of_shares = own.filter(|field| !matches!(field.setting.key, "root" | "share"));
        for field in of_shares {
            let target =
                ShareSettings::FIELDS.iter().find(|of_share| of_share.setting.key == field.setting.key);
            if let (Some(target), Some(value)) = (target, (field.get)(self)) {
                (target.put)(&mut share, &value);
            }
        }
        Some(share)
    }

    /// Whether any share takes uploads.
    pub fn takes_uploads(&self) -> bool {
        self.uploads || self.share.iter().any(|share| share.uploads)
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::HeaderSettings;
    use super::{Settings, SharePath, ShareSettings, Shares};

    fn share(path: &str) -> ShareSettings {
        let path = Some(SharePath::parse(path).unwrap());
        ShareSettings { path, root: Some("/srv".into()), ..ShareSettings::default() }
    }

    #[test]
    fn the_longest_path_that_a_name_begins_with_is_its_share() {
        let settings = Settings {
            root: Some("/srv".into()),
            listing: true,
            share: vec![share("/iso"), share("/iso/old")],
            ..Settings::default()
        };
        let shares = Shares::new(&settings, &mut Vec::new());
        for (name, path, within) in [
            ("iso/old/x", "/iso/old", "x"),
            ("iso/older", "/iso", "older"),
            ("iso", "/iso", ""),
            ("x", "/", "x"),
        ] {
            let (found, rest) = shares.find(name.as_bytes()).unwrap();
            assert_eq!((found.path.as_str(), rest), (path, within.as_bytes()), "{name}");
        }
        assert!(shares.find(b"x").unwrap().0.settings.listing, "the top's keys are those of the share /");
        assert!(!shares.find(b"iso").unwrap().0.settings.listing, "a share takes nothing from the top");
        let without =
            Shares::new(&Settings { share: vec![share("/iso")], ..Settings::default() }, &mut Vec::new());
        assert!(without.find(b"x").is_none());
    }

    #[test]
    fn the_last_rule_that_fits_gives_a_field_its_value() {
        let rule = |pattern: &str, name: &str, value: &str| HeaderSettings {
            r#match: Some(pattern.to_owned()),
            set: [(name.to_owned(), value.to_owned())].into(),
        };
        let settings = ShareSettings {
            cache_control: Some("no-cache".to_owned()),
            headers: vec![
                rule("*.js", "cache-control", "immutable"),
                rule("*", "X-A", "1"),
                rule("/b/*", "X-A", "2"),
            ],
            types: [("js", "a/js"), ("min.js", "a/min")]
                .map(|(end, of)| (end.to_owned(), of.to_owned()))
                .into(),
            ..share("/")
        };
        let shares = Shares::new(&Settings { share: vec![settings], ..Settings::default() }, &mut Vec::new());
        let (share, _) = shares.find(b"").unwrap();
        assert_eq!(share.fields(b"a.js"), [("cache-control", "immutable"), ("X-A", "1")]);
        assert_eq!(share.fields(b"b/a.css"), [("Cache-Control", "no-cache"), ("X-A", "2")]);
        let types = ["b/a.js", "a.min.js", "js", "a.css"].map(|name| share.media_type(name.as_bytes()));
        assert_eq!(types, [Some("a/js"), Some("a/min"), None, None]);
    }
}
