//! The table of what is served where.

use super::line::line;
use crate::config::{EtagChoice, Live, Share, ShareSettings, SymlinkChoice};

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

/// Returns what a share has beyond files that are read, for its row.
fn traits(share: &Share) -> String {
    let settings = &share.settings;
    let cors = settings.cors.is_some().then_some("cors");
    let index = if settings.index.is_empty() {
        Some("no index")
    } else {
        (settings.index != ShareSettings::default().index).then_some("index")
    };
    let precompressed = (!settings.precompressed.is_empty()).then_some("precompressed");
    let tags = match settings.etag {
        EtagChoice::Node => None,
        EtagChoice::Digest => Some("etag digest"),
        EtagChoice::Times => Some("etag times"),
    };
    let links = match settings.symlinks {
        SymlinkChoice::None => Some("no links"),
        SymlinkChoice::Beneath => None,
        SymlinkChoice::Anywhere => Some("links anywhere"),
    };
    let (listing, uploads) = (settings.listing.then_some("listing"), settings.uploads.then_some("uploads"));
    let all = [listing, index, uploads, precompressed, cors, tags, links];
    let all: Vec<&str> = all.into_iter().flatten().collect();
    if all.is_empty() { String::new() } else { format!("  {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::{Live, shares};
    use crate::config::{Settings, SharePath, ShareSettings};

    fn live() -> Live {
        let share = ShareSettings {
            path: Some(SharePath::parse("/iso").unwrap()),
            root: Some("/mirror".into()),
            uploads: true,
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
}
