//! Warnings about settings that are valid and still can't be meant: told by `--check`, refused by `--check
//! --strict`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::choices::SinkChoice;
use super::faults::Fault;
use super::live::Live;
use super::setting::{Declared, Field};
use super::settings::Settings;
use super::share_settings::ShareSettings;

/// The shortest token, in bytes, that nobody guesses: 16 random bytes are 128 bits, and written down they are
/// longer still.
const TOKEN_BYTES_MIN: usize = 16;

/// The permission of others to read (chmod(2)).
const OTHERS_READ: u32 = 0o004;

/// Returns the warnings about valid settings.
pub fn advice(live: &Live) -> Vec<Fault> {
    let settings = &live.settings;
    let mut warnings = Vec::new();
    if let Some(path) = settings.token_file.as_deref() {
        warnings.extend(exposed(path));
    }
    if let Some(length) =
        live.token.as_ref().map(|token| token.bytes()).filter(|bytes| *bytes < TOKEN_BYTES_MIN)
    {
        let reason = format!(
            "the token has {length} bytes, and fewer than {TOKEN_BYTES_MIN} can be guessed: `openssl rand -hex 32` \
             makes one"
        );
        warnings.push(Fault::new("token_file", reason));
    }
    if settings.root.is_none() {
        warnings.extend(of_no_share(settings));
    }
    if settings.spool.is_some() && settings.sink != SinkChoice::Store {
        warnings.push(Fault::new("spool", "nothing is stored there: set sink = \"store\""));
    }
    warnings
}

/// Warns of keys of the file's top that are those of the share `/`, where there is none.
fn of_no_share(settings: &Settings) -> Vec<Fault> {
    if settings.share.is_empty() {
        let reason = "there is no directory to list: set root";
        return settings.listing.then(|| Fault::new("listing", reason)).into_iter().collect();
    }
    let default = Settings::default();
    let is_of_shares = |field: &&Field<Settings>| {
        // The spool has these two as well, and uploads without a root are a fault.
        !matches!(field.setting.key, "root" | "min_free_bytes" | "min_free_inodes" | "uploads")
            && ShareSettings::FIELDS.iter().any(|of_share| of_share.setting.key == field.setting.key)
    };
    let set = Settings::FIELDS.iter().filter(is_of_shares);
    let set = set.filter(|field| (field.get)(settings) != (field.get)(&default));
    set.map(|field| {
        let key = field.setting.key;
        let reason = format!(
            "is of the share /, which has no root: set root, or {key} in the [[share]] that is meant"
        );
        Fault::new(key, reason)
    })
    .collect()
}

fn exposed(token_file: &Path) -> Option<Fault> {
    let mode = std::fs::metadata(token_file).ok()?.permissions().mode();
    let path = token_file.display();
    let reason = || format!("{path} can be read by every user of this host: chmod o-r {path}");
    (mode & OTHERS_READ != 0).then(|| Fault::new("token_file", reason()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::share_path::SharePath;
    use super::{Live, Settings, ShareSettings, SinkChoice, advice};

    fn warnings(settings: Settings) -> Vec<String> {
        advice(&Live::new(settings).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_token_that_others_can_read_or_guess_is_warned_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let settings = || Settings { token_file: Some(file.path().to_owned()), ..Settings::default() };
        let mode = |mode| file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        mode(0o640);
        assert_eq!(warnings(settings()), [] as [String; 0]);
        mode(0o644);
        let readable = format!("token_file: {path} can be read by every user of this host: chmod o-r {path}");
        assert_eq!(warnings(settings()), [readable]);
        mode(0o600);
        std::fs::write(file.path(), "0123456789abcde\n").unwrap();
        let short = "token_file: the token has 15 bytes, and fewer than 16 can be guessed: `openssl rand -hex 32` \
                     makes one";
        assert_eq!(warnings(settings()), [short]);
    }

    #[test]
    fn settings_that_do_nothing_are_warned_of() {
        let root = Some("/".into());
        let listing = Settings { listing: true, ..Settings::default() };
        assert_eq!(warnings(Settings { root, ..listing.clone() }), [] as [String; 0]);
        assert_eq!(warnings(listing), ["listing: there is no directory to list: set root"]);
        let share = ShareSettings {
            path: Some(SharePath::parse("/iso").unwrap()),
            root: Some("/".into()),
            ..ShareSettings::default()
        };
        let shares = Settings { share: vec![share], min_free_bytes: 1, listing: true, ..Settings::default() };
        let expected = "listing: is of the share /, which has no root: set root, or listing in the [[share]] that is \
                        meant";
        assert_eq!(warnings(shares.clone()), [expected]);
        assert_eq!(warnings(Settings { root: Some("/".into()), ..shares }), [] as [String; 0]);
        let spool = Settings { spool: Some("/".into()), ..Settings::default() };
        assert_eq!(warnings(spool.clone()), ["spool: nothing is stored there: set sink = \"store\""]);
        assert_eq!(warnings(Settings { sink: SinkChoice::Store, ..spool }), [] as [String; 0]);
    }
}
