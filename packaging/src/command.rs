//! The command lines, with nothing in them that depends on the host.

use clap::builder::ValueParser;
use clap::{Arg, Command, CommandFactory};

use crate::setting::Setting;

/// The daemon's. Each setting shows its default, as it would stand in the file.
pub(crate) fn daemon(settings: &[Setting]) -> Command {
    streamd::config::Arguments::command().mut_args(|argument| {
        let setting = settings.iter().find(|setting| argument.get_id() == setting.key.as_str());
        with_plain_switch(setting.map_or(argument.clone(), |setting| with_default(argument, setting)))
    })
}

/// The bench's.
pub(crate) fn bench() -> Command {
    stream_bench::arguments::Arguments::command()
}

fn with_default(argument: Arg, setting: &Setting) -> Arg {
    if setting.is_example {
        return argument;
    }
    let default = match setting.value.trim_matches('"') {
        "[]" => "none",
        default => default,
    };
    argument.help(format!("{} [default: {default}]", setting.help))
}

/// A switch that may be given a value shows which, instead of its own name.
fn with_plain_switch(argument: Arg) -> Arg {
    let is_switch = argument.get_value_parser().type_id() == ValueParser::bool().type_id();
    let takes_value = argument.get_num_args().is_some_and(|count| count.takes_values());
    if !is_switch || !takes_value {
        return argument;
    }
    argument.value_name("true|false").hide_possible_values(true)
}
