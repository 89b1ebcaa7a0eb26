//! How a directory is served: the settings of a share, each declared once for `[[share]]` and for the share `/`, whose
//! settings are keys of the file's top.

use std::path::PathBuf;

use super::choices::{CodingChoice, Durability, EtagChoice};
use super::headers;
use super::kind::{Kind, range};
use super::lifetime::Lifetime;
use super::media_types;
use super::pattern::Pattern;
use super::setting::settings;
use super::share_path::SharePath;
use super::value::choices;

pub(super) const PATTERNS: Kind =
    Kind::List { entry: "PATTERN", example: "/.*", check: |entry| Pattern::parse(entry).map(|_| ()) };
pub(super) const NAMES: Kind = Kind::List { entry: "NAME", example: "index.htm", check: check_name };
pub(super) const CODINGS: Kind = Kind::List { entry: "CODING", example: "zst", check: CodingChoice::check };

/// Declares a structure that has the settings of a share behind its own.
macro_rules! settings_with_share {
    (
        $(#[$outer:meta])*
        $visibility:vis struct $name:ident { $($own:tt)* }
    ) => {
        settings! {
            $(#[$outer])*
            $visibility struct $name {
                $($own)*
                /// Answer directories with their listing.
                ///
                /// It is HTML, or JSON for `Accept: application/json`; without it directories are 404.
                listing: bool = false, "Names are as private as contents until somebody says otherwise.",
                    Kind::Switch, Share, Restart { brief: "Answer directories with a listing" };
                /// Files that answer for their directory, the first that there is.
                ///
                /// Who asks for JSON gets the listing all the same, where that is on.
                index: Vec<String> = $crate::config::share_settings::index_by_default(),
                    "Every web server has it, so tools that write pages and package indexes count on it.",
                    $crate::config::share_settings::NAMES, Share, Reload;
                /// Names that nobody sees who may not write: 404, and in no listing.
                ///
                /// A pattern is one of shells, for a name at any depth and all that is below it; with ! before it the
                /// name is shown after all, and the last that fits counts.
                hidden: Vec<String> = $crate::config::share_settings::hidden_by_default(),
                    "Files with a dot are keys, histories and drafts; .well-known is what others look for (RFC 8615).",
                    $crate::config::share_settings::PATTERNS, Share, Reload;
                /// Which symbolic links are followed.
                ///
                /// What is followed is listed, and the log names what isn't. Nothing is written through a link but a
                /// relative one that stays below the root.
                symlinks: $crate::config::SymlinkChoice = $crate::config::SymlinkChoice::Beneath,
                    "Release directories are links, and none leads to what nobody meant to serve.",
                    Kind::Choice(choices::<$crate::config::SymlinkChoice>), Share, Restart;
                /// Directories into which links may lead besides the root, with symlinks = "anywhere".
                symlink_targets: Vec<String> = Vec::new(),
                    "The sandbox hides all that wasn't named at the start.",
                    $crate::config::share_settings::DIRECTORIES, Share, Restart;
                /// Siblings of a file that answer for it where the client takes their coding, by suffix: zst, br, gz.
                precompressed: Vec<String> = Vec::new(),
                    "A file beside another is only then the same content where somebody keeps them so.",
                    $crate::config::share_settings::CODINGS, Share, Reload;
                /// What entity tags are made of.
                etag: EtagChoice = EtagChoice::Node,
                    "Right for every file at once and without reading it; a digest costs a reading, times alone lie.",
                    Kind::Choice(choices::<EtagChoice>), Share, Restart
                    { see: "docs/operations.md#what-an-entity-tag-says" };
                /// Cache-Control of every file, where no header rule says otherwise.
                cache_control: Option<String> = None, "Clients ask again for what may have changed.",
                    $crate::config::share_settings::CACHE_CONTROL, Share, Reload;
                /// Fields of answers with a file, by patterns of names; of several that fit the last of a field counts.
                headers: Vec<$crate::config::HeaderSettings> = Vec::new(), "Nothing is said that nobody asked for.",
                    Kind::Tables, Share, Reload { members: $crate::config::HeaderSettings::declared };
                /// Media types by the end of a name, before those that are known.
                types: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new(),
                    "The usual ends of names are known.",
                    $crate::config::share_settings::TYPES, Share, Reload;
                /// Pages of which other origins may read what is served (CORS).
                cors: Option<$crate::config::CorsSettings> = None,
                    "A page from elsewhere reads nothing until somebody says so.",
                    Kind::Table, Share, Reload { members: $crate::config::CorsSettings::declared };
                /// Take uploads below the root; they need the token where one is set, and one where other hosts reach
                /// them.
                uploads: bool = false, "Files stay as they are until somebody says otherwise.",
                    Kind::Switch, Share, Restart { brief: "Take uploads below the root" };
                /// Make the directories that an upload's name goes through.
                ///
                /// They are made when it is whole; without this it is 409.
                create_dirs: bool = false, "A typing error in a name should be an error, not a new tree.",
                    Kind::Switch, Share, Reload;
                /// What an upload is that was acknowledged: on disk, or in memory.
                durability: Durability = Durability::Fsync,
                    "Who is told that an upload is done may delete the original.",
                    Kind::Choice(choices::<Durability>), Upload, Reload;
                /// How long an upload that isn't gone on with is kept (90s, 24h, 7days).
                partial_ttl: Lifetime = Lifetime(std::time::Duration::from_secs(24 * 60 * 60)),
                    "Over night: who broke off in the evening goes on in the morning.",
                    Kind::Span($crate::config::bounds::SPAN), Upload, Reload;
                /// Longest upload that is taken.
                ///
                /// A longer one gets 413.
                upload_bytes_max: u64 = $crate::config::bounds::TIB,
                    "Far above any real file, far below what would overflow a sum.",
                    Kind::Bytes(range(1, $crate::config::bounds::UPLOAD_BYTES_MAX_LIMIT)), Upload, Reload;
                /// Rest of a body from which on it is written past the page cache (O_DIRECT), with durability fsync; 0
                /// for never.
                direct_bytes_min: u64 = 64 * $crate::config::bounds::MIB,
                    "0.37 of the page cache's CPU; reading a file so long from the disk takes less long than its \
                     upload did.",
                    $crate::config::bounds::BYTES, Upload, Reload;
                /// Bytes of the file system that uploads and stored frames leave free.
                ///
                /// Else they get 507.
                min_free_bytes: u64 = 64 * $crate::config::bounds::MIB,
                    "Enough for logs and journals to go on while somebody makes room.",
                    $crate::config::bounds::BYTES, Share, Reload;
                /// Inodes of the file system that uploads and stored frames leave free, where it has a number of them.
                ///
                /// Btrfs and FAT have none.
                min_free_inodes: u64 = 1_000,
                    "Enough for rotated logs, sockets and temporary files of a host, and little even of a small file \
                     system's.",
                    $crate::config::bounds::SOME_OR_NONE, Share, Reload;
            }
        }
    };
}
pub(super) use settings_with_share;

settings_with_share! {
    /// A path prefix with a root of its own, and how it is served. It takes nothing from the share `/`.
    pub struct ShareSettings {
        /// Path below which it is served, without a slash at its end.
        path: Option<SharePath> = None, "A share is somewhere.",
            Kind::Text { what: "PATH", example: "/iso", check: |text| SharePath::parse(text).map(|_| ()) },
            Share, Reload;
        /// Directory whose files are served there.
        root: Option<PathBuf> = None, "A share has files.", Kind::Directory("/srv/iso"), Share, Restart;
    }
}

pub(super) const DIRECTORIES: Kind = Kind::List { entry: "DIR", example: "/data", check: check_absolute };
pub(super) const CACHE_CONTROL: Kind =
    Kind::Text { what: "VALUE", example: "public, max-age=3600", check: headers::check_value };
pub(super) const TYPES: Kind =
    Kind::Map { example: "{ zst = \"application/zstd\" }", check: media_types::check };

/// The name that tools give to the page of a directory.
pub(super) fn index_by_default() -> Vec<String> {
    vec!["index.html".to_owned()]
}

/// Names that begin with a dot, but for the one that clients look for.
pub(super) fn hidden_by_default() -> Vec<String> {
    ["/.*", "!/.well-known"].map(str::to_owned).to_vec()
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['/', '\0']) || [".", ".."].contains(&name) {
        return Err(format!("{name:?} is no name of a file: name one without a slash, as index.html"));
    }
    Ok(())
}

/// Says what is wrong with a directory that is to be absolute.
pub(super) fn check_absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(format!("{path:?} is relative, and nobody knows to what: name an absolute path, as /data"))
}
