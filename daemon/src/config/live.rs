//! What is in force while the daemon runs, and what of it a reload may change.

use std::path::Path;

use super::faults::{ConfigError, Fault};
use super::settings::Settings;
use super::target::TargetRule;
use super::token::Token;

/// Checked settings with what they point at already read.
#[derive(Clone, Debug)]
pub struct Live {
    /// The settings.
    pub settings: Settings,
    /// The control plane's token, where one is configured.
    pub token: Option<Token>,
    /// The parsed allow list.
    pub targets: Vec<TargetRule>,
}

impl Live {
    /// Reads the token and parses the allow list.
    pub fn new(settings: Settings) -> Result<Live, ConfigError> {
        let mut faults = Vec::new();
        let token = settings.token_file.as_deref().and_then(|path| read_token(path, &mut faults));
        let mut targets = Vec::new();
        for rule in &settings.targets_allowed {
            match TargetRule::parse(rule) {
                Ok(target) => targets.push(target),
                Err(reason) => faults.push(Fault::new("targets_allowed", reason)),
            }
        }
        if faults.is_empty() {
            Ok(Live { settings, token, targets })
        } else {
            Err(ConfigError::Faults(faults))
        }
    }

    /// Takes from `new` what can change in a running daemon, and names the settings that differ but need a
    /// restart.
    pub fn reload(&self, new: Live) -> (Live, Vec<String>) {
        let kept = &self.settings;
        let settings = Settings {
            root: kept.root.clone(),
            data_listen: kept.data_listen,
            control_listen: kept.control_listen,
            workers: kept.workers,
            sink: kept.sink,
            spool: kept.spool.clone(),
            listing: kept.listing,
            engine: kept.engine,
            driver: kept.driver,
            log_format: kept.log_format,
            control_connections_max: kept.control_connections_max,
            disk_threads: kept.disk_threads,
            congestion_control: kept.congestion_control.clone(),
            ..new.settings.clone()
        };
        let needs_restart = differing(&settings, &new.settings);
        (Live { settings, token: new.token, targets: new.targets }, needs_restart)
    }
}

fn read_token(path: &Path, faults: &mut Vec<Fault>) -> Option<Token> {
    Token::read(path).map_err(|reason| faults.push(Fault::new("token_file", reason))).ok()
}

/// The keys in which two sets of settings differ.
fn differing(left: &Settings, right: &Settings) -> Vec<String> {
    let (Ok(left), Ok(right)) = (toml::Table::try_from(left), toml::Table::try_from(right)) else {
        return Vec::new();
    };
    let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    keys.into_iter().filter(|key| left.get(*key) != right.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{EngineChoice, Settings};
    use super::Live;

    #[test]
    fn a_reload_takes_limits_and_names_the_rest() {
        let old = Live::new(Settings::default()).unwrap();
        let new = Settings { streams_max: 7, engine: EngineChoice::Copy, ..Settings::default() };
        let (live, needs_restart) = old.reload(Live::new(new).unwrap());
        assert_eq!(live.settings.streams_max, 7);
        assert_eq!(live.settings.engine, EngineChoice::Auto);
        assert_eq!(needs_restart, ["engine"]);
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
