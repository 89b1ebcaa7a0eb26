//! Writes `packaging/generated`, and the table of options in `README.md`.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = streamd_packaging::directory();
    let documents = streamd_packaging::documents()?;
    // The directory is removed first, so that no former file stays.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    for document in documents {
        let path = directory.join(document.path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, document.text)?;
    }
    let readme = streamd_packaging::readme();
    let page = fs::read_to_string(&readme)?;
    fs::write(readme, streamd_packaging::with_options(&page)?)?;
    Ok(())
}
