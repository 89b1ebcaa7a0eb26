//! The settings in force while the daemon runs, and the part that a reload may change.

use std::path::{Component, Path, PathBuf};

use super::choices::SymlinkChoice;
use super::faults::{ConfigError, Fault, Reach};
use super::hosts::HostRule;
use super::listeners::Listeners;
use super::proxies::{ProxyRule, TrustedProxies};
use super::setting::{Change, Declared, Field};
use super::settings::Settings;
use super::share_settings::ShareSettings;
use super::shares::Shares;
use super::target::TargetRule;
use super::token::Token;

/// Checked settings, with the files that they name already read.
#[derive(Clone, Debug)]
pub struct Live {
    /// The settings.
    pub settings: Settings,
    /// The token of the control plane and of uploads, where one is configured.
    pub token: Option<Token>,
    /// What is listened on, with the hosts that requests may be for.
    pub listeners: Listeners,
    /// The proxies that are trusted to name their clients.
    pub proxies: TrustedProxies,
    /// What is served where.
    pub shares: Shares,
    /// The parsed allow list.
    pub targets: Vec<TargetRule>,
    /// The roots of the shares that there were at the start, which the sandbox shows.
    roots_shown: Vec<PathBuf>,
    /// The number of reloads before.
    pub generation: u64,
}

impl Live {
    /// Reads the token and parses the allow lists.
    pub fn new(settings: Settings) -> Result<Live, ConfigError> {
        Live::within(Reach::Everything, settings)
    }

    /// Reads as [`Live::new`] does, in the part of the file system that `reach` shows.
    pub fn within(reach: Reach, settings: Settings) -> Result<Live, ConfigError> {
        let mut faults = Vec::new();
        let token = settings.token_file.as_deref().and_then(|path| read_token(path, reach, &mut faults));
        let targets = parse_all("targets_allowed", &settings.targets_allowed, TargetRule::parse, &mut faults);
        let hosts = parse_all("hosts_allowed", &settings.hosts_allowed, HostRule::parse, &mut faults);
        let listeners = Listeners::new(&settings, hosts, reach, &mut faults);
        let proxies = parse_all("trusted_proxies", &settings.trusted_proxies, ProxyRule::parse, &mut faults);
        let proxies = TrustedProxies::new(&proxies);
        let shares = Shares::new(&settings, &mut faults);
        if faults.is_empty() {
            let roots_shown = shares.iter().map(|share| share.root.clone()).collect();
            Ok(Live { settings, token, listeners, proxies, shares, targets, roots_shown, generation: 0 })
        } else {
            Err(ConfigError::Faults(faults))
        }
    }

    /// Takes from `new` what can change in a running daemon, and names the settings that differ but need a
    /// restart.
    ///
    /// Where `new` has no token, as its own addresses may need none, a token that the kept settings need is kept
    /// too. Where these have none either, no further host is let in.
    pub fn reload(&self, new: Live) -> (Live, Vec<String>) {
        let kept = &self.settings;
        let mut settings = new.settings.clone();
        for field in Settings::FIELDS.iter().filter(|field| field.setting.change == Change::Restart) {
            (field.copy)(kept, &mut settings);
        }
        settings.share = self.reloaded_shares(settings.share);
        let mut token = new.token;
        let mut hosts_of = new.listeners;
        if token.is_none() && settings.needs_token() {
            token.clone_from(&self.token);
            settings.token_file.clone_from(&kept.token_file);
        }
        if token.is_none() && settings.needs_token() {
            hosts_of = self.listeners.clone();
            settings.hosts_allowed.clone_from(&kept.hosts_allowed);
        }
        // The addresses are those that are listened on, whatever the new settings name.
        let listeners = self.listeners.renewed(&settings, hosts_of);
        let needs_restart = differing(&settings, &new.settings);
        let generation = self.generation + 1;
        let (proxies, targets) = (new.proxies, new.targets);
        // Whatever couldn't be compiled was a fault of the new settings.
        let shares = Shares::new(&settings, &mut Vec::new());
        let roots_shown = self.roots_shown.clone();
        (
            Live { settings, token, listeners, proxies, shares, targets, roots_shown, generation },
            needs_restart,
        )
    }

    /// Returns the shares that are in force after a reload. A share that stays keeps the settings that need a restart;
    /// a new share is taken if the sandbox shows its root and nothing is written to it.
    fn reloaded_shares(&self, new: Vec<ShareSettings>) -> Vec<ShareSettings> {
        let reload = |mut share: ShareSettings| {
            let Some(before) = self.settings.share.iter().find(|before| before.path == share.path) else {
                return self.shows(&share).then_some(share);
            };
            let kept = ShareSettings::FIELDS.iter().filter(|field| field.setting.change == Change::Restart);
            kept.for_each(|field| (field.copy)(before, &mut share));
            Some(share)
        };
        new.into_iter().filter_map(reload).collect()
    }

    /// Whether a share that wasn't there before can be served without a restart.
    fn shows(&self, share: &ShareSettings) -> bool {
        let Some(root) = &share.root else { return false };
        let allowed = self.settings.roots_allowed.iter().map(Path::new);
        let mut shown = self.roots_shown.iter().map(PathBuf::as_path).chain(allowed);
        let leads_up = root.components().any(|part| part == Component::ParentDir);
        !share.uploads
            && share.symlinks != SymlinkChoice::Anywhere
            && !leads_up
            && shown.any(|top| root.starts_with(top))
    }
}

/// Parses a list as far as it can be read; each entry that can't be is a fault.
fn parse_all<T>(
    setting: &str,
    entries: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
    faults: &mut Vec<Fault>,
) -> Vec<T> {
    let parsed = entries.iter().map(|entry| parse(entry));
    parsed.filter_map(|entry| entry.map_err(|reason| faults.push(Fault::new(setting, reason))).ok()).collect()
}

fn read_token(path: &Path, reach: Reach, faults: &mut Vec<Fault>) -> Option<Token> {
    Token::read(path, reach).map_err(|reason| faults.push(Fault::new("token_file", reason))).ok()
}

/// Returns the keys in which two sets of settings differ, those of shares with their paths.
fn differing(left: &Settings, right: &Settings) -> Vec<String> {
    let differs = |field: &&Field<Settings>| (field.get)(left) != (field.get)(right);
    let own = Settings::FIELDS.iter().filter(differs).filter(|field| field.setting.key != "share");
    let own = own.map(|field| field.setting.key.to_owned());
    let mut keys: Vec<String> = own.chain(differing_shares(&left.share, &right.share)).collect();
    keys.sort_unstable();
    keys
}

fn differing_shares(left: &[ShareSettings], right: &[ShareSettings]) -> Vec<String> {
    let of_share = |share: &ShareSettings| {
        let path = share.path.as_ref().map_or_else(String::new, ToString::to_string);
        let Some(other) = left.iter().find(|other| other.path == share.path) else {
            return vec![format!("share {path}")];
        };
        let differing = ShareSettings::FIELDS.iter().filter(|field| (field.get)(other) != (field.get)(share));
        differing.map(|field| format!("share {path}: {}", field.setting.key)).collect()
    };
    right.iter().flat_map(of_share).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use toml::Value;

    use super::super::choices::{
        Durability, EngineChoice, EtagChoice, PlaneChoice, ProxyProtocolChoice, SymlinkChoice,
    };
    use super::super::kind::Kind;
    use super::super::lifetime::Lifetime;
    use super::super::listen_settings::ListenSettings;
    use super::super::setting::Setting;
    use super::super::share_path::SharePath;
    use super::super::share_settings::ShareSettings;
    use super::{Change, Declared, Live, Path, Reach, Settings};

    #[test]
    fn a_reload_takes_limits_and_names_the_rest() {
        let old = Live::new(Settings::default()).unwrap();
        let (engine, etag) = (EngineChoice::Copy, EtagChoice::Times);
        let new = Settings { streams_max: 7, engine, etag, ..Settings::default() };
        let (live, needs_restart) = old.reload(Live::new(new).unwrap());
        assert_eq!(live.settings.streams_max, 7);
        assert_eq!((live.settings.engine, live.settings.etag), (EngineChoice::Auto, EtagChoice::Node));
        assert_eq!(needs_restart, ["engine", "etag"]);
    }

    #[test]
    fn a_reload_takes_what_is_declared_so_and_names_all_else() {
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "secret").unwrap();
        // Shares have settings of both kinds.
        for field in Settings::FIELDS.iter().filter(|field| field.setting.key != "share") {
            let setting = &field.setting;
            let mut changed = Settings::default();
            assert!((field.put)(&mut changed, &other(setting, token.path())), "{}", setting.key);
            assert_ne!(changed, Settings::default(), "{}", setting.key);
            let old = Live::new(Settings::default()).unwrap();
            let (live, needs_restart) = old.reload(Live::new(changed.clone()).unwrap());
            match setting.change {
                Change::Reload => {
                    assert_eq!((live.settings, needs_restart.len()), (changed, 0), "{}", setting.key)
                }
                Change::Restart => {
                    assert_eq!(
                        (live.settings, needs_restart),
                        (Settings::default(), vec![setting.key.to_owned()])
                    )
                }
            }
        }
    }

    /// Returns a value that isn't the default.
    fn other(setting: &Setting, token: &Path) -> Value {
        let default = Settings::default().table().remove(setting.key);
        match (setting.kind, default) {
            (Kind::SecretFile(_), _) => token.display().to_string().into(),
            (Kind::Address, _) => "127.0.0.1:1".into(),
            (Kind::List { example, .. }, _) => vec![example].into(),
            (Kind::Map { example, .. }, _) => value(example),
            (Kind::Table, _) => value("{ origins = ['https://app.example'] }"),
            (Kind::Tables, _) if setting.key == "listen" => value("[{ address = 'unix:/a' }]"),
            (Kind::Tables, _) => value("[{ match = '*.js', set = { X-A = '1' } }]"),
            (Kind::Span(_), _) => "29days".into(),
            (Kind::Choice(choices), default) => {
                let names = choices().into_iter().map(|choice| Value::from(choice.get_name()));
                names.into_iter().find(|name| Some(name) != default.as_ref()).unwrap()
            }
            (_, Some(Value::Boolean(is_on))) => (!is_on).into(),
            (_, Some(Value::Integer(number))) => (number + 1).into(),
            _ => setting.kind.example().unwrap(),
        }
    }

    fn value(text: &str) -> Value {
        let mut table: toml::Table = format!("value = {text}").parse().unwrap();
        table.remove("value").unwrap()
    }

    fn share(path: &str, root: &str) -> ShareSettings {
        let path = Some(SharePath::parse(path).unwrap());
        ShareSettings { path, root: Some(root.into()), ..ShareSettings::default() }
    }

    fn with_shares(share: Vec<ShareSettings>) -> Live {
        let roots_allowed = vec!["/data".to_owned()];
        Live::new(Settings { root: Some("/srv".into()), roots_allowed, share, ..Settings::default() })
            .unwrap()
    }

    #[test]
    fn a_reload_takes_shares_that_the_sandbox_shows_and_names_the_others() {
        let old = with_shares(vec![share("/iso", "/mirror")]);
        let uploads = ShareSettings { uploads: true, ..share("/uploads", "/srv/uploads") };
        let anywhere = ShareSettings {
            symlinks: SymlinkChoice::Anywhere,
            symlink_targets: vec!["/a".to_owned()],
            ..share("/anywhere", "/srv/a")
        };
        let new = with_shares(vec![
            share("/of-root", "/srv/a"),
            share("/of-share", "/mirror/old"),
            share("/allowed", "/data"),
            share("/elsewhere", "/home"),
            share("/above", "/srv/../etc"),
            uploads,
            anywhere,
        ]);
        let (live, needs_restart) = old.reload(new);
        let paths: Vec<&str> = live.shares.iter().map(|share| share.path.as_str()).collect();
        assert_eq!(paths, ["/of-share", "/of-root", "/allowed", "/"], "the one that was left out is gone");
        let named = ["share /above", "share /anywhere", "share /elsewhere", "share /uploads"];
        assert_eq!(needs_restart, named);
        // Its root was there at the start, and is still shown.
        let (live, needs_restart) = live.reload(with_shares(vec![share("/back", "/mirror")]));
        assert!(needs_restart.is_empty() && live.shares.find(b"back").unwrap().0.path.as_str() == "/back");
    }

    #[test]
    fn a_share_that_stays_keeps_what_needs_a_restart() {
        let old = with_shares(vec![share("/iso", "/mirror")]);
        let changed = ShareSettings {
            uploads: true,
            create_dirs: true,
            cache_control: Some("no-cache".to_owned()),
            ..share("/iso", "/elsewhere")
        };
        let (live, needs_restart) = old.reload(with_shares(vec![changed.clone()]));
        let kept = ShareSettings { uploads: false, root: Some("/mirror".into()), ..changed };
        assert_eq!(live.settings.share, std::slice::from_ref(&kept));
        assert_eq!(live.shares.find(b"iso/x").unwrap().0.settings, kept);
        assert_eq!(needs_restart, ["share /iso: root", "share /iso: uploads"]);
    }

    #[test]
    fn a_reload_takes_all_of_uploads_but_whether_there_are_any() {
        let old = Live::new(Settings::default()).unwrap();
        let new = Settings {
            uploads: true,
            create_dirs: true,
            durability: Durability::None,
            partial_ttl: Lifetime(Duration::from_secs(60)),
            upload_bytes_max: 1,
            uploads_max: 2,
            uploads_per_destination_max: 3,
            direct_bytes_min: 5,
            min_free_bytes: 4,
            min_free_inodes: 6,
            ..Settings::default()
        };
        let (live, needs_restart) = old.reload(Live::new(new.clone()).unwrap());
        assert_eq!(live.settings, Settings { uploads: false, ..new });
        assert_eq!(needs_restart, ["uploads"]);
    }

    fn admits_evil(live: &Live) -> bool {
        live.listeners.of(PlaneChoice::Data).any(|(_, listener)| listener.hosts.admit(b"evil.example"))
    }

    #[test]
    fn a_reload_names_a_changed_listener_and_keeps_all_that_there_are() {
        let at = |address: &str| ListenSettings {
            address: Some(address.parse().unwrap()),
            ..ListenSettings::default()
        };
        let old = Settings { listen: vec![at("unix:/a")], ..Settings::default() };
        let old = Live::new(old).unwrap();
        let changed = ListenSettings { mode: Some("0600".to_owned()), ..at("unix:/a") };
        let new = Settings { listen: vec![changed, at("unix:/b")], ..Settings::default() };
        let (live, needs_restart) = old.reload(Live::new(new).unwrap());
        assert_eq!(needs_restart, ["listen"]);
        let shown: Vec<String> = live.listeners.iter().map(|(_, listener)| listener.describe()).collect();
        assert_eq!(shown, ["0.0.0.0:8080", "127.0.0.1:8081", "unix:/a  mode 0660"]);
        let proxy_protocol = ProxyProtocolChoice::Optional;
        let new = Settings { listen: vec![at("unix:/a")], proxy_protocol, ..Settings::default() };
        let (live, needs_restart) = old.reload(Live::new(new).unwrap());
        assert!(needs_restart.is_empty());
        let of: Vec<ProxyProtocolChoice> =
            live.listeners.iter().map(|(_, listener)| listener.proxy_protocol).collect();
        assert_eq!(of, [proxy_protocol, ProxyProtocolChoice::Off, ProxyProtocolChoice::Off]);
    }

    #[test]
    fn a_group_that_there_is_not_is_a_fault() {
        let listen = ListenSettings {
            address: Some("unix:/a".parse().unwrap()),
            group: Some("no-such-group".to_owned()),
            ..ListenSettings::default()
        };
        let settings = Settings { listen: vec![listen], ..Settings::default() };
        let error = Live::new(settings.clone()).unwrap_err().to_string();
        assert!(
            error.starts_with("listen.group: there is no group \"no-such-group\" in /etc/group"),
            "{error}"
        );
        // The sandbox hides the groups from a reload, which keeps its listeners anyway.
        assert!(Live::within(Reach::Sandbox, settings).is_ok());
    }

    #[test]
    fn a_token_stays_while_what_it_guards_can_be_reached() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"secret").unwrap();
        let token_file = Some(file.path().to_owned());
        let local = Settings { data_listen: "127.0.0.1:8080".parse().unwrap(), ..Settings::default() };
        let guarded = [
            Settings { uploads: true, token_file: token_file.clone(), ..Settings::default() },
            Settings {
                control_listen: "0.0.0.0:8081".parse().unwrap(),
                token_file: token_file.clone(),
                ..local.clone()
            },
        ];
        for settings in guarded {
            let old = Live::new(settings).unwrap();
            let (live, needs_restart) = old.reload(Live::new(local.clone()).unwrap());
            assert_eq!(live.token, old.token);
            assert_eq!(live.settings.token_file, token_file);
            assert!(needs_restart.contains(&"token_file".to_owned()), "{needs_restart:?}");
        }
        let old = Live::new(Settings { uploads: true, token_file, ..local.clone() }).unwrap();
        assert!(old.token.is_some());
        assert_eq!(old.reload(Live::new(local).unwrap()).0.token, None);
    }

    #[test]
    fn no_reload_opens_uploads_to_a_proxy_without_a_token() {
        let local = Settings { data_listen: "127.0.0.1:8080".parse().unwrap(), ..Settings::default() };
        let hosts_allowed = vec!["*".to_owned()];
        // Uploads that are off in the new file stay on until a restart.
        let old = Live::new(Settings { uploads: true, ..local.clone() }).unwrap();
        let new = Settings { hosts_allowed: hosts_allowed.clone(), ..local.clone() };
        let (live, needs_restart) = old.reload(Live::new(new.clone()).unwrap());
        assert!(!admits_evil(&live) && live.settings.hosts_allowed.is_empty());
        assert_eq!(needs_restart, ["hosts_allowed", "uploads"]);
        let (live, needs_restart) = Live::new(local).unwrap().reload(Live::new(new).unwrap());
        assert!(admits_evil(&live) && needs_restart.is_empty());
        // Another address in the new file doesn't make this listener one of all names.
        let elsewhere = Live::new(Settings::default()).unwrap();
        assert!(!admits_evil(&old.reload(elsewhere).0));
    }

    #[test]
    fn an_empty_token_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = Settings { token_file: Some(file.path().to_owned()), ..Settings::default() };
        let message = Live::new(settings).unwrap_err().to_string();
        assert!(message.starts_with("token_file: "), "{message}");
        assert!(message.contains("is empty"), "{message}");
    }
}
