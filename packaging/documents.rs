//! Writes the man pages and the completions into the folder from which the packages take them, and
//! docs/configuration.md: `cargo run --example documents`. A test compares them with the help, so that building a package
//! compiles nothing but the executable.

#[path = "documents/generate.rs"]
mod generate;

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join(generate::FOLDER);
    fs::create_dir_all(&folder)?;
    for (name, text) in generate::all()? {
        fs::write(folder.join(name), text)?;
    }
    fs::write(
        root.join(generate::CONFIGURATION),
        generate::configuration_markdown(),
    )
}
