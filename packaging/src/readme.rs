//! README's table of options, between two marks.

use streamd::config::{Change, Declared, Kind, Setting, Settings};

use crate::setting::heading;

const BEGIN: &str = "<!-- options: written by packaging/examples/generate.rs -->\n";
const END: &str = "<!-- end of options -->\n";

/// The flags that are no settings.
const OTHERS: [(&str, &str, &str); 6] = [
    ("-h`, `--help", "", "The options that are used most; all of them"),
    ("--config FILE", "`/etc/streamd/streamd.toml` if present", "The TOML file"),
    ("--check", "", "Check configuration and host, bind nothing, and say what is open to whom"),
    ("--strict", "", "With `--check`: refuse what is only warned of"),
    (
        "--path PATH",
        "",
        "With `--check`: say which share decides about this path, and what is in force there",
    ),
    ("--print-config", "", "Print the settings in force as a TOML file that says where each came from"),
];

/// The error of a page that has no place for the table.
#[derive(Debug, thiserror::Error)]
#[error("README.md lacks the marks of the table of options: {BEGIN}{END}")]
pub struct ReadmeError;

/// Returns `page` with the table as it has to be.
pub fn with_options(page: &str) -> Result<String, ReadmeError> {
    let (before, rest) = page.split_once(BEGIN).ok_or(ReadmeError)?;
    let (_, after) = rest.split_once(END).ok_or(ReadmeError)?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table()))
}

fn table() -> String {
    let mut text = "| flag | default | meaning |\n|---|---|---|\n".to_owned();
    for (flag, default, meaning) in OTHERS {
        text += &row(flag, default, meaning);
    }
    for setting in Settings::declared() {
        text += &row(&flag(setting), &default(setting), &meaning(setting));
    }
    text
}

fn row(flag: &str, default: &str, meaning: &str) -> String {
    format!("| `{flag}` | {default} | {meaning} |\n").replace("|  |", "| |")
}

fn flag(setting: &Setting) -> String {
    if setting.is_of_the_file_alone() {
        return heading(setting);
    }
    let flag = format!("--{}", setting.flag());
    let Some(value) = setting.kind.value_name() else { return flag };
    let several = if let Kind::List { .. } = setting.kind { ",…" } else { "" };
    // A bar would end the cell.
    format!("{flag} {}{several}", value.replace('|', "\\|"))
}

fn default(setting: &Setting) -> String {
    match (Settings::default_text(setting).as_deref(), setting.kind) {
        (None | Some("none"), Kind::List { .. } | Kind::Directory(_) | Kind::SecretFile(_)) => {
            "none".to_owned()
        }
        (_, Kind::Map { .. } | Kind::Table | Kind::Tables) => "none".to_owned(),
        (None, _) => String::new(),
        (Some("true"), _) => "on".to_owned(),
        (Some("false"), _) => "off".to_owned(),
        (Some(words), _) if setting.default_words.is_some() => words.to_owned(),
        (Some(value), _) => format!("`{value}`"),
    }
}

fn meaning(setting: &Setting) -> String {
    let reload = if setting.change == Change::Reload { "↻ " } else { "" };
    let mut text = format!("{reload}{}", marked(&setting.help()));
    // Bounds that only keep nonsense out say nothing here.
    if let Some(range) =
        setting.kind.range().filter(|range| !["0 or more", "1 or more"].contains(&range.as_str()))
    {
        text += &format!(" [{range}]");
    }
    if let Some(more) = setting.more() {
        text += &format!(". {}", marked(more.trim_end_matches('.')));
    }
    let choices = setting.kind.choices().into_iter().filter_map(|choice| {
        let meaning = choice.get_help()?.to_string();
        Some(format!("`{}`: {}", choice.get_name(), uncapitalised(&meaning)))
    });
    let choices: Vec<String> = choices.collect();
    if !choices.is_empty() {
        text += &format!(". {}", choices.join("; "));
    }
    if let Some(see) = setting.see {
        let page = see.split(['/', '#']).find(|part| part.ends_with(".md")).unwrap_or(see);
        text += &format!(" ([{page}]({see}))");
    }
    text
}

/// Makes a sentence fit as a part of another.
fn uncapitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

/// Writes text as Markdown: a star alone is one, a word with an underscore is code.
fn marked(text: &str) -> String {
    let word = |word: &str| {
        let name = word.trim_matches([',', ';', ':', '.', '(', ')']);
        let is_code = name.contains('_') || name.starts_with("--") || name == "*";
        if is_code && !word.contains('`') {
            word.replace(name, &format!("`{name}`"))
        } else {
            word.to_owned()
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
