//! Warnings about settings that are valid and still can't be meant: told by `--check`, refused by `--check
//! --strict`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::choices::SinkChoice;
use super::faults::Fault;
use super::live::Live;

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
    if settings.listing && settings.root.is_none() {
        warnings.push(Fault::new("listing", "there is no directory to list: set root"));
    }
    if settings.spool.is_some() && settings.sink != SinkChoice::Store {
        warnings.push(Fault::new("spool", "nothing is stored there: set sink = \"store\""));
    }
    warnings
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

    use super::super::settings::Settings;
    use super::{Live, SinkChoice, advice};

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
        let spool = Settings { spool: Some("/".into()), ..Settings::default() };
        assert_eq!(warnings(spool.clone()), ["spool: nothing is stored there: set sink = \"store\""]);
        assert_eq!(warnings(Settings { sink: SinkChoice::Store, ..spool }), [] as [String; 0]);
    }
}
