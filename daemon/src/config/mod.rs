//! Settings: read once, checked whole, then only values.
//!
//! A setting comes from a flag, else from its `STREAMD_*` variable, else from the TOML file, else from its
//! default. Every fault of every source is reported in one go, so that a bad file is mended in one edit.

pub mod arguments;
mod bounds;
pub mod bytes;
mod defaults;
mod exposure;
mod faults;
mod hosts;
mod lifetime;
mod live;
mod load;
mod proxies;
pub mod settings;
pub mod target;
mod token;

pub use arguments::Arguments;
pub use bounds::bounds_of;
pub use exposure::Exposure;
pub use faults::{ConfigError, Fault, Reach, listen_remedy, thread_remedy};
pub use hosts::{HostRule, Hosts, names_address, names_this_host};
pub use lifetime::Lifetime;
pub use live::Live;
pub use load::{CONFIG_FILE_DEFAULT, check_directories, load, load_adjusted};
pub use proxies::TrustedProxies;
pub use settings::{
    DriverChoice, Durability, EngineChoice, EtagChoice, LogFormat, LogLevel, ProxyProtocolChoice,
    SandboxChoice, Settings, SinkChoice,
};
pub use target::TargetRule;
pub use token::Token;
