//! The rights that the daemon gives up of its own accord, before its first thread starts: the right to gain
//! privileges, every capability, and all of the file system but what it serves and reads. All three belong to a
//! thread and are inherited by those that it starts, which is why there is an order to keep (capabilities(7),
//! landlock(7)).

mod capabilities;
mod rules;

use std::fmt::Write;
use std::io;
use std::path::Path;

use rustix::thread::set_no_new_privs;

use crate::config::{Reach, SandboxChoice, Settings};

/// Why the daemon doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The setting is `sandbox = "required"`, and a part of the sandbox isn't available.
    #[error("sandbox required: {0}; --sandbox auto would go on without")]
    Missing(String),
    /// The rights that binding needed can't be given up.
    #[error("sandbox: {0}")]
    AfterBinding(String),
}

/// The rights that have been given up.
pub struct Sandbox {
    choice: SandboxChoice,
    /// The parts that aren't available, each with the reason and the remedy.
    missing: Vec<String>,
    is_landlocked: bool,
}

impl Sandbox {
    /// Makes a sandbox that gives up nothing.
    pub fn off() -> Sandbox {
        Sandbox { choice: SandboxChoice::Off, missing: Vec::new(), is_landlocked: false }
    }

    /// Gives up the rights that these settings don't need, for this thread and all that it will start. The
    /// capabilities that binding needs stay until [`Sandbox::after_binding`]. `config_file` is read again on a
    /// reload.
    pub fn enter(settings: &Settings, config_file: &Path) -> Result<Sandbox, SandboxError> {
        let choice = settings.sandbox;
        if choice == SandboxChoice::Off {
            return Ok(Sandbox::off());
        }
        // The order matters: Landlock wants the first step (landlock_restrict_self(2)), and its rules are about
        // paths that the user may only see by the capabilities, which go last.
        let no_new_privs =
            set_no_new_privs(true).map_err(|error| format!("no_new_privs: {}", io::Error::from(error)));
        let landlock = rules::restrict(settings, config_file).map_err(|reason| format!("Landlock: {reason}"));
        let has_group = settings.listen.iter().any(|listen| listen.group.is_some());
        let capabilities =
            capabilities::keep_binding(has_group).map_err(|error| capabilities_refused(&error));
        let is_landlocked = landlock.is_ok();
        let missing = [no_new_privs, landlock, capabilities].into_iter().filter_map(Result::err);
        let missing: Vec<String> = missing.collect();
        if choice == SandboxChoice::Required && !missing.is_empty() {
            return Err(SandboxError::Missing(missing.join("; ")));
        }
        Ok(Sandbox { choice, missing, is_landlocked })
    }

    /// Gives up the rights that binding needed, for this thread and all that it will start.
    pub fn after_binding(&self) -> Result<(), SandboxError> {
        if self.is_off() {
            return Ok(());
        }
        let none = capabilities::keep_none().map_err(|error| capabilities_refused(&error));
        match none.and_then(|()| rules::deny_binding()) {
            // A part that was refused before is refused again, and has been told.
            Err(reason) if self.missing.is_empty() => Err(SandboxError::AfterBinding(reason)),
            _ => Ok(()),
        }
    }

    /// Returns the part of the file system that a reload can read.
    pub fn reach(&self) -> Reach {
        if self.is_off() { Reach::Everything } else { Reach::Sandbox }
    }

    /// Logs which parts are in force and which are missing.
    pub fn log(&self) {
        let capabilities = capabilities::held();
        if self.is_off() {
            tracing::info!(capabilities, "the sandbox is off");
            return;
        }
        let landlock = if self.is_landlocked { rules::kernel_text() } else { "none".to_owned() };
        tracing::info!(landlock, capabilities, "sandboxed");
        if !self.missing.is_empty() {
            tracing::warn!(missing = self.missing.join("; "), "the sandbox is incomplete");
        }
    }

    /// Returns the lines of `--check` about the sandbox.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let state = match (self.choice, self.missing.is_empty()) {
            (SandboxChoice::Off, _) => "off",
            (_, true) => "in force",
            (_, false) => "incomplete",
        };
        let _ = writeln!(text, "sandbox        {state}");
        for missing in &self.missing {
            let _ = writeln!(text, "               missing: {missing}");
        }
        let _ = writeln!(text, "landlock       {}", rules::kernel_text());
        let held = capabilities::held();
        let is_for_good = self.is_off() || !self.missing.is_empty() || held == "none";
        let until = if is_for_good { "" } else { ", until all ports are bound" };
        let _ = writeln!(text, "capabilities   {held}{until}");
        let no_new_privs = rustix::thread::no_new_privs().unwrap_or(false);
        let _ = writeln!(text, "no_new_privs   {}", if no_new_privs { "set" } else { "not set" });
        text
    }

    fn is_off(&self) -> bool {
        self.choice == SandboxChoice::Off
    }
}

fn capabilities_refused(error: &io::Error) -> String {
    format!(
        "capabilities: {error}: let capset(2) through in the seccomp profile, or start streamd without capabilities"
    )
}
