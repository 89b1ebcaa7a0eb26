//! Completions for the shells that Debian has.

use std::path::PathBuf;

use clap::Command;
use clap_complete::{Generator, Shell, generate};

use crate::command;
use crate::document::{Document, DocumentError};

const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// Writes one script for each program and shell, under the name by which the shell finds it.
pub(crate) fn all() -> Result<Vec<Document>, DocumentError> {
    let mut documents = Vec::new();
    for (directory, shell) in SHELLS {
        for (name, mut command) in [("streamd", command::daemon()), ("stream-bench", command::bench())] {
            let path = PathBuf::from("completions").join(directory).join(file_name(shell, name));
            documents.push(Document { path, text: script(shell, &mut command, name)? });
        }
    }
    Ok(documents)
}

/// Returns the script's file name: bash loads a file by the command's own name; the others have names that clap
/// knows.
fn file_name(shell: Shell, name: &str) -> String {
    if shell == Shell::Bash { name.to_owned() } else { shell.file_name(name) }
}

fn script(shell: Shell, command: &mut Command, name: &str) -> Result<String, DocumentError> {
    let mut script = Vec::new();
    generate(shell, command, name, &mut script);
    Ok(String::from_utf8(script)?)
}
