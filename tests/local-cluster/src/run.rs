//! Short-lived commands: run, and either succeed or say what they said.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// A command line in the making, with the words to name it by when it fails.
pub(crate) fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.output().map_err(|source| Error::Run { program: name.clone(), source })?;
    if !output.status.success() {
        return Err(Error::Failed {
            command: name,
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `ip` with these words, separated by single spaces.
pub(crate) fn ip(words: &str) -> Result<()> {
    output(&mut command("ip", words.split(' '))).map(drop)
}

/// The command as one would type it.
pub(crate) fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_command_and_what_it_said() {
        let error = output(&mut command("sh", ["-c", "echo no such bridge >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("no such bridge"), "{text}");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = output(&mut command("no-such-program", [""; 0])).unwrap_err();
        assert!(error.to_string().contains("no-such-program"));
    }
}
