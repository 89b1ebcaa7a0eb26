//! streamd, with its defaults: only the access log is off, as everybody's is, and uploads are on where they are
//! measured.

use std::path::{Path, PathBuf};

use super::error::StartError;
use super::place::Place;
use super::process;
use super::recipe::{Configuration, Recipe, UploadSupport};

/// Makes the recipe of streamd; `program` is the build that is measured.
pub(super) fn recipe(place: &Place<'_>, program: &Path) -> Result<Recipe, StartError> {
    let program = program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?;
    let (mut text, mut uploads) = (String::new(), UploadSupport::Refused);
    if let Some(setup) = &place.setup.uploads {
        let help = process::output(&program, &["--help"], &place.directory)?;
        if !help.contains("--uploads") {
            return Err(StartError::Unable("has no --uploads".to_owned()));
        }
        let durability = if setup.durable { "fsync" } else { "none" };
        text = format!("uploads = true\ndurability = \"{durability}\"\n");
        uploads = UploadSupport::Taken;
    }
    // The configuration is a file of its own, so that one in /etc/streamd doesn't change the measurement.
    let configuration = place.file("streamd.toml");
    let mut arguments = vec![
        format!("--config={configuration}"),
        format!("--root={}", place.root),
        format!("--data-listen={}", place.http),
        format!("--control-listen={}", place.second),
        format!("--workers={}", place.setup.workers),
        "--access-log=false".to_owned(),
    ];
    arguments.extend(place.setup.streamd_arguments.iter().cloned());
    Ok(Recipe {
        arguments,
        configuration: Some(Configuration { path: PathBuf::from(configuration), text }),
        control: Some(place.second),
        frames: Some(place.http),
        uploads,
        ..Recipe::new(place, program)
    })
}
