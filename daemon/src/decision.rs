//! Which share decides about a path and what is in force there, told by `--check`, so that nobody has to compare
//! prefixes and patterns.

use crate::config::{EtagChoice, Live, Share};
use crate::protocol::media_type::content_type;
use crate::protocol::name::{Name, NameError};

/// The width of the first column of `--check`.
const COLUMN: usize = 15;

/// The width of the plane's name in the table of listeners.
const PLANE_COLUMN: usize = 9;

/// Returns the lines of `--check` about what is served where: the root alone, or a table of shares.
pub fn shares(live: &Live) -> String {
    let shares: Vec<_> = live.shares.iter().collect();
    if live.settings.share.is_empty() {
        let root = shares.first().map(|share| share.root.display().to_string());
        return line("root", &root.unwrap_or_else(|| "none: HTTP answers 404".to_owned()));
    }
    let width = shares.iter().map(|share| share.path.as_str().len()).max().unwrap_or_default();
    let describe = |share: &Share| {
        let (path, root) = (share.path.as_str(), share.root.display());
        format!("{path:<width$}  {root}{}", traits(share))
    };
    let rows = shares.iter().enumerate();
    rows.map(|(row, share)| line(if row == 0 { "shares" } else { "" }, &describe(share))).collect()
}

/// Returns the lines of `--check` about what is listened on: one address for each plane, or a table.
pub fn listeners(live: &Live) -> String {
    let all: Vec<_> = live.listeners.iter().map(|(_, listener)| listener).collect();
    if live.settings.listen.is_empty() {
        let each: Vec<String> =
            all.iter().map(|one| format!("{} {}", one.plane.name(), one.describe())).collect();
        return line("listening", &each.join(", "));
    }
    let rows = all.iter().enumerate();
    rows.map(|(row, one)| {
        let is = format!("{:<PLANE_COLUMN$}{}", one.plane.name(), one.describe());
        line(if row == 0 { "listening" } else { "" }, &is)
    })
    .collect()
}

/// Returns the lines of `--check --path`. `path` is one as URLs have it.
///
/// # Errors
/// [`NameError`] for a path that is no name.
pub fn of_path(live: &Live, path: &str) -> Result<String, NameError> {
    let name = Name::parse(path.as_bytes())?;
    let mut text = line("path", path);
    let Some((share, within)) = live.shares.find(name.as_bytes()) else {
        return Ok(text + &line("share", "none: 404"));
    };
    let within = Name::ending(&name, within.len());
    let bytes = within.as_bytes();
    let is_hidden = share.hidden.cover(bytes.strip_suffix(b"/").unwrap_or(bytes));
    let hidden = match (within.is_reserved(), is_hidden) {
        (true, _) => "from everybody: the directory of uploads",
        (false, true) => "from those who may not write: 404",
        (false, false) => "no",
    };
    let fields = share.fields(bytes);
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let media_type = share.media_type(bytes).map_or_else(|| content_type(bytes).into_owned(), str::to_owned);
    let uploads = if share.settings.uploads { "are taken" } else { "are refused: 405" };
    for (what, is) in [
        ("share", share.path.as_str()),
        ("directory", &share.root.display().to_string()),
        ("name", &*within.text()),
        ("hidden", hidden),
        ("media type", if within.is_directory() { "of a directory" } else { &media_type }),
        ("headers", if fields.is_empty() { "none" } else { "" }),
    ] {
        if (what, is) != ("headers", "") {
            text += &line(what, is);
        }
    }
    let rows = fields.iter().enumerate();
    text.extend(rows.map(|(row, field)| line(if row == 0 { "headers" } else { "" }, field)));
    Ok(text + &line("writes", uploads))
}

/// Returns what a share has beyond files that are read, for its row.
fn traits(share: &Share) -> String {
    let settings = &share.settings;
    let cors = settings.cors.is_some().then_some("cors");
    let index = (!settings.index.is_empty()).then_some("index");
    let precompressed = (!settings.precompressed.is_empty()).then_some("precompressed");
    let tags = match settings.etag {
        EtagChoice::Node => None,
        EtagChoice::Digest => Some("etag digest"),
        EtagChoice::Times => Some("etag times"),
    };
    let (listing, uploads) = (settings.listing.then_some("listing"), settings.uploads.then_some("uploads"));
    let all = [listing, index, uploads, precompressed, cors, tags];
    let all: Vec<&str> = all.into_iter().flatten().collect();
    if all.is_empty() { String::new() } else { format!("  {}", all.join(", ")) }
}

fn line(what: &str, is: &str) -> String {
    format!("{what:<COLUMN$}{is}\n")
}

#[cfg(test)]
mod tests {
    use super::{Live, listeners, of_path, shares};
    use crate::config::{ListenSettings, ProxyProtocolChoice, Settings, SharePath, ShareSettings};

    fn live() -> Live {
        let share = ShareSettings {
            path: Some(SharePath::parse("/iso").unwrap()),
            root: Some("/mirror".into()),
            uploads: true,
            cache_control: Some("no-cache".to_owned()),
            ..ShareSettings::default()
        };
        Live::new(Settings {
            root: Some("/srv".into()),
            listing: true,
            share: vec![share],
            ..Settings::default()
        })
        .unwrap()
    }

    #[test]
    fn the_table_has_each_share_with_what_is_on() {
        let table = "shares         /iso  /mirror  uploads\n               /     /srv  listing\n";
        assert_eq!(shares(&live()), table);
        let one = Live::new(Settings { root: Some("/srv".into()), ..Settings::default() }).unwrap();
        assert_eq!(shares(&one), "root           /srv\n");
        let none = Live::new(Settings::default()).unwrap();
        assert_eq!(shares(&none), "root           none: HTTP answers 404\n");
    }

    #[test]
    fn the_table_has_each_listener_with_what_it_has() {
        let at = |address: &str| ListenSettings {
            address: Some(address.parse().unwrap()),
            ..ListenSettings::default()
        };
        let socket = ListenSettings {
            mode: Some("0666".to_owned()),
            group: Some("0".to_owned()),
            proxy_protocol: ProxyProtocolChoice::Optional,
            ..at("unix:/run/data.sock")
        };
        let v6 = ListenSettings { ipv6_only: true, ..at("[::]:8082") };
        let named = ListenSettings { name: Some("files".to_owned()), ..ListenSettings::default() };
        let live = Live::new(Settings { listen: vec![socket, v6, named], ..Settings::default() }).unwrap();
        let expected = "listening      data     0.0.0.0:8080\n               control  127.0.0.1:8081\n               \
                        data     unix:/run/data.sock  mode 0666, group 0  PROXY header optional\n               \
                        data     [::]:8082  IPv6 alone\n               data     passed as files\n";
        assert_eq!(listeners(&live), expected);
        let short = Live::new(Settings::default()).unwrap();
        assert_eq!(listeners(&short), "listening      data 0.0.0.0:8080, control 127.0.0.1:8081\n");
    }

    #[test]
    fn a_path_is_told_its_share_and_what_is_in_force_there() {
        let told = |path: &str| of_path(&live(), path).unwrap();
        let expected = "path           /iso/a.txt\nshare          /iso\ndirectory      /mirror\nname           \
                        a.txt\nhidden         no\nmedia type     text/plain; charset=utf-8\nheaders        \
                        Cache-Control: no-cache\nwrites         are taken\n";
        assert_eq!(told("/iso/a.txt"), expected);
        assert!(told("/isolated").contains("share          /\n"));
        assert!(told("/isolated").contains("headers        none\nwrites         are refused: 405\n"));
        assert!(told("/iso/.git/config").contains("hidden         from those who may not write: 404\n"));
        assert!(told("/iso/.streamd-uploads/a").contains("hidden         from everybody"));
        assert!(told("/iso/").contains("media type     of a directory\n"));
        assert!(of_path(&live(), "/%").is_err());
    }
}
