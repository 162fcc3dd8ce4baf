//! Running other programs, waiting for conditions, taking file locks: with errors in plain sentences.
//!
//! Must not know what any program is for. Used by every command.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::files;
use anyhow::{Context, Result, bail};

/// Runs to the end and returns standard output.
///
/// Fails with the command line and the last lines of standard error; callers keep secrets out of arguments.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = finish(command, None)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed something that is not text", line(command)))
}

/// Like [`capture`], with `input` on standard input: the way to hand over what must not stand in an argument.
pub fn feed(command: &mut Command, input: &[u8]) -> Result<String> {
    let output = finish(command, Some(input))?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed something that is not text", line(command)))
}

/// Whether the command can be started and ends well; what it prints is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The absolute path of `program`, looked for where administrators' programs lie too.
pub fn find(program: &str) -> Option<PathBuf> {
    SEARCH_PATH.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// Folders that daemons and probes find system programs in, in the form of `PATH`.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Asks `condition` every 100 ms until it holds; `Ok(false)` when `timeout` passed first.
///
/// An error of the condition ends the wait at once: that is how a caller says "this can no longer become true".
pub fn poll(timeout: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(true);
        }
        if start.elapsed() >= timeout {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Takes the exclusive lock `path`, held until the returned file is dropped; says so when it has to wait for another process.
pub fn lock(path: &Path, what: &str) -> Result<File> {
    if let Some(parent) = path.parent() {
        files::create_folder(parent)?;
    }
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("waiting: another process is busy with {what}");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).copied().collect::<Vec<_>>().join("\n")
}

fn finish(command: &mut Command, input: Option<&[u8]>) -> Result<Output> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`{}` is not installed", command.get_program().to_string_lossy())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot start `{}`", line(command))),
    };
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        match pipe.write_all(input) {
            // A program that ends without reading its input says why on standard error.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(error).with_context(|| format!("cannot write to `{}`", line(command)));
            }
            _ => {}
        }
    }
    let output = child.wait_with_output().with_context(|| format!("cannot read from `{}`", line(command)))?;
    if !output.status.success() {
        let said = tail(String::from_utf8_lossy(&output.stderr).trim_end(), 12);
        bail!("`{}` failed ({}): {said}", line(command), output.status);
    }
    Ok(output)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_said_in_one_sentence() {
        let error = capture(&mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program-here` is not installed");
    }

    #[test]
    fn input_reaches_the_program_and_its_output_comes_back() {
        assert_eq!(feed(&mut Command::new("cat"), b"two\nlines").unwrap(), "two\nlines");
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let error = capture(Command::new("sh").args(["-c", "echo because >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.ends_with("failed (exit status: 3): because"), "{error}");
    }

    #[test]
    fn a_poll_ends_on_success_on_time_and_on_an_error() {
        let mut left = 2;
        let counted = poll(Duration::from_secs(5), || {
            left -= 1;
            Ok(left == 0)
        });
        assert!(counted.unwrap());
        assert!(!poll(Duration::ZERO, || Ok(false)).unwrap());
        assert!(poll(Duration::from_secs(5), || bail!("gone")).is_err());
    }

    #[test]
    fn tail_keeps_the_end() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
