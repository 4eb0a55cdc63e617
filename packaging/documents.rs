//! Writes the man pages and the completions into a folder:
//! `cargo run --example documents -- FOLDER`.

#[path = "documents/generate.rs"]
mod generate;

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("usage: documents FOLDER"))?;
    fs::create_dir_all(&folder)?;
    for (name, text) in generate::all()? {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
