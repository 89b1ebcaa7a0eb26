//! Man pages: options and keys as the programs have them, the rest from the templates in `packaging/man`. They bear no
//! date, which would only tell when somebody built them.

use std::fmt::Write;

use clap::Command;
use clap_mangen::Man;

use crate::command;
use crate::document::{Document, DocumentError};
use crate::setting::{example, heading, is_of_shares, shown};
use streamd::config::{Change, CorsSettings, Declared, Scope, Setting};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes streamd(8).
pub(crate) fn daemon() -> Result<String, DocumentError> {
    let template = include_str!("../man/streamd.8.in");
    Ok(template.replace("@VERSION@", VERSION).replace(".\\\" @OPTIONS@\n", &options(command::daemon())?))
}

/// Writes streamd.toml(5).
pub(crate) fn settings(settings: &[&Setting]) -> Result<String, DocumentError> {
    let template = include_str!("../man/streamd.toml.5.in");
    Ok(template.replace("@VERSION@", VERSION).replace(".\\\" @SETTINGS@\n", &keys(settings)?))
}

/// Writes stream-bench(1), and a page for each of its commands.
pub(crate) fn bench() -> Result<Vec<Document>, DocumentError> {
    let mut whole = command::bench();
    whole.build();
    let commands: Vec<&Command> = listed(&whole).collect();
    let mut documents =
        vec![Document { path: "man/stream-bench.1".into(), text: overview(&whole, &commands)? }];
    for command in commands {
        let name = page_name(command);
        documents.push(Document { path: format!("man/{name}.1").into(), text: page_of(command, &name)? });
    }
    Ok(documents)
}

fn listed(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn page_name(command: &Command) -> String {
    format!("stream-bench-{}", command.get_name())
}

fn overview(whole: &Command, commands: &[&Command]) -> Result<String, DocumentError> {
    let mut list = ".SH COMMANDS\n".to_owned();
    for command in commands {
        let _ = writeln!(list, ".TP\n.BR {} (1)\n{}", escaped(&page_name(command)), escaped(&about(command)));
    }
    let pages: Vec<String> =
        commands.iter().map(|command| format!(".BR {} (1)", escaped(&page_name(command)))).collect();
    Ok(include_str!("../man/stream-bench.1.in")
        .replace("@VERSION@", VERSION)
        .replace("@PAGES@", &pages.join(",\n"))
        .replace(".\\\" @OPTIONS@\n", &options(whole.clone())?)
        .replace(".\\\" @COMMANDS@\n", &list))
}

fn page_of(command: &Command, name: &str) -> Result<String, DocumentError> {
    let (title, about) = (escaped(&name.to_uppercase()), escaped(&about(command)));
    // The page's name has a dash, as in `stream-bench-pull`; the command has a blank.
    let man = Man::new(command.clone().bin_name(format!("stream-bench {}", command.get_name())));
    let synopsis = rendered(|text| man.render_synopsis_section(text))?;
    let options = options(command.clone())?;
    Ok(format!(
        ".TH {title} 1 \"\" \"streamd {VERSION}\" \"User Commands\"\n.SH NAME\n{} \\- {about}\n{synopsis}{options}\
         .SH SEE ALSO\n.BR stream\\-bench (1)\n",
        escaped(name)
    ))
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn options(command: Command) -> Result<String, DocumentError> {
    let man = Man::new(command);
    rendered(|text| man.render_options_section(text))
}

/// Renders a part of the page, without the definitions that begin each.
fn rendered(
    render: impl FnOnce(&mut dyn std::io::Write) -> Result<(), std::io::Error>,
) -> Result<String, DocumentError> {
    let mut text = Vec::new();
    render(&mut text)?;
    // The definitions make this string, for output devices without an apostrophe of their own.
    let text = String::from_utf8(text)?.replace("\\*(Aq", "\\(aq");
    Ok(text.find(".SH").map_or(text.clone(), |start| text[start..].to_owned()))
}

fn keys(settings: &[&Setting]) -> Result<String, DocumentError> {
    let mut text = ".SH SETTINGS\nEach is shown with its default and the reason for it.\n".to_owned();
    for setting in settings {
        if let Some(members) = setting.members {
            text += &table(settings, setting, &members())?;
            continue;
        }
        let value = shown(setting)?;
        let written = escaped(&value.text).replace('"', "\\(dq");
        let _ = writeln!(text, ".TP\n.BI {} \" = {written}\"", setting.key);
        let mut sentences = vec![format!("{}.", setting.help())];
        sentences.extend(setting.more());
        sentences.extend(setting.kind.range().map(|range| format!("Range: {range}.")));
        sentences.extend(of_whom(setting.scope).map(str::to_owned));
        if value.is_example {
            let default = setting.default_words.unwrap_or("none");
            sentences.push(format!("The value is an example; the default is {default}."));
        }
        if setting.change == Change::Restart {
            sentences.push("A change needs a restart.".to_owned());
        }
        let _ = writeln!(text, "{}", escaped(&sentences.join(" ").replace('`', "")));
        for choice in setting.kind.choices() {
            let meaning = choice.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, ".RS\n.TP\n.B {}\n{}\n.RE", escaped(choice.get_name()), escaped(&meaning));
        }
        let _ = writeln!(text, ".RS\n.PP\nWhy: {}\n.RE", escaped(setting.reason));
    }
    Ok(text)
}

/// Describes a table, with those of its settings that the file's top doesn't have.
fn table(
    settings: &[&Setting],
    setting: &Setting,
    members: &[&'static Setting],
) -> Result<String, DocumentError> {
    let mut text = format!(".TP\n.B {}\n", escaped(&heading(setting)));
    let mut sentences = vec![format!("{}.", setting.help())];
    sentences.extend(setting.more());
    let is_own = |member: &&&Setting| {
        !is_of_shares(settings, setting)
            || member.key == "root"
            || settings.iter().all(|above| above.key != member.key)
    };
    let others: Vec<&str> =
        members.iter().filter(|member| !is_own(member)).map(|member| member.key).collect();
    if !others.is_empty() {
        sentences.push(format!("Besides its own settings it has {}.", others.join(", ")));
        sentences.push("What a table leaves out has its default, whatever the file says above.".to_owned());
    }
    let _ = writeln!(text, "{}", escaped(&sentences.join(" ").replace('`', "")));
    for member in members.iter().filter(is_own) {
        let default = CorsSettings::default_text(member).filter(|default| default != "none");
        let value = default.map_or_else(|| example(member), Ok)?;
        let written = escaped(&value).replace('"', "\\(dq");
        let _ = writeln!(
            text,
            ".RS\n.TP\n.BI {} \" = {written}\"\n{}\n.RE",
            member.key,
            escaped(&format!("{}.", member.help()))
        );
    }
    let _ = writeln!(text, ".RS\n.PP\nWhy: {}\n.RE", escaped(setting.reason));
    Ok(text)
}

/// Says what has the value for itself, where it isn't the whole daemon.
fn of_whom(scope: Scope) -> Option<&'static str> {
    Some(match scope {
        Scope::Node => return None,
        Scope::Share => "Each share has it for itself.",
        Scope::Address => "Each address of a client has it for itself.",
        Scope::Connection => "It holds for each connection.",
        Scope::File => "It holds for each file.",
        Scope::Upload => "It holds for each upload.",
        Scope::Name => "It holds for each name.",
        Scope::Frame => "It holds for each frame.",
        Scope::Stream => "It holds for each stream.",
        Scope::Mount => "It holds for each mount.",
    })
}

/// Escapes text so that roff shows it as it is: a plain minus where a hyphen could be meant, no line that begins
/// as a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
