//! Settings: read once, checked whole, then only values.
//!
//! A setting comes from a flag, else from its `STREAMD_*` variable, else from the TOML file, else from its
//! default. Every fault of every source is reported in one go, so that a bad file is mended in one edit.

pub mod arguments;
pub mod bytes;
mod defaults;
mod faults;
mod lifetime;
mod live;
mod load;
pub mod settings;
pub mod target;
mod token;

pub use arguments::Arguments;
pub use faults::{ConfigError, Fault, Reach, listen_remedy};
pub use lifetime::Lifetime;
pub use live::Live;
pub use load::{CONFIG_FILE_DEFAULT, check_directories, load, load_adjusted};
pub use settings::{
    DriverChoice, Durability, EngineChoice, LogFormat, LogLevel, SandboxChoice, Settings, SinkChoice,
};
pub use target::TargetRule;
pub use token::Token;
