//! Settings: read once, checked whole, then only values.
//!
//! A setting comes from a flag, else from its `STREAMD_*` variable, else from the TOML file, else from its
//! default. Every fault of the file, and every value out of range, is reported in one go, so that a bad file is mended
//! in one edit. Each setting is declared once, in `settings.rs`; `setting.rs` says in which form.

mod advice;
pub mod arguments;
mod bounds;
pub mod bytes;
mod check;
mod check_listeners;
mod check_shares;
mod choices;
mod cors;
mod derived;
mod exposure;
mod faults;
mod file;
mod group;
mod headers;
mod hosts;
mod kind;
mod lifetime;
mod listen_address;
mod listen_settings;
mod listeners;
mod live;
mod load;
mod media_types;
mod nearest;
mod origin;
mod pattern;
mod print;
mod proxies;
mod setting;
pub mod settings;
mod share_path;
mod share_settings;
mod shares;
mod tables;
pub mod target;
mod token;
mod value;
mod variables;

pub use advice::advice;
pub use arguments::{Arguments, CONFIG_FILE_DEFAULT};
pub use check_shares::UPLOADS_DIRECTORY;
pub use choices::{
    CodingChoice, DriverChoice, Durability, EngineChoice, EtagChoice, LogFormat, LogLevel, PlaneChoice,
    ProxyProtocolChoice, SandboxChoice, SinkChoice, SymlinkChoice,
};
pub use cors::CorsSettings;
pub use exposure::Exposure;
pub use faults::{ConfigError, Fault, Reach, listen_remedy, thread_remedy};
pub use headers::HeaderSettings;
pub use hosts::{HostRule, Hosts, names_address, names_this_host};
pub use kind::{Kind, Range};
pub use lifetime::Lifetime;
pub use listen_address::ListenAddress;
pub use listen_settings::{ListenSettings, NAMES_OF_SHORT_FORMS};
pub use listeners::{Listener, Listeners};
pub use live::Live;
pub use load::{Loaded, check_directories, load, load_adjusted};
pub use origin::Origin;
pub use pattern::{Pattern, Patterns};
pub use print::printed;
pub use proxies::TrustedProxies;
pub use setting::{Change, Declared, Field, Scope, Setting};
pub use settings::{Settings, bounds_of};
pub use share_path::SharePath;
pub use share_settings::ShareSettings;
pub use shares::{HeaderRule, Share, Shares};
pub use target::TargetRule;
pub use token::Token;
