//! Files and folders, with errors that name the path.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Reads a whole text file.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a whole file.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file that only its owner can read, from the first byte on.
pub fn write_private(path: impl AsRef<Path>, content: &str) -> Result<()> {
    let path = path.as_ref();
    // An older file would keep its wider mode.
    remove(path)?;
    let write =
        || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content.as_bytes());
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder and those above it, where they are missing.
pub fn create_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Removes a file, or a folder with everything in it; does nothing if there is none.
pub fn remove(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_private_even_where_an_open_one_was() {
        let path = std::env::temp_dir().join(format!("xtask-private-{}", std::process::id()));
        write(&path, "old").unwrap();
        write_private(&path, "secret").unwrap();
        assert_eq!(read(&path).unwrap(), "secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().starts_with("cannot read "));
    }
}
