//! One process of the control plane: started with a log file, ended with its owner.
//!
//! A process is told to end by its standard input reaching its end. The other end of that pipe is
//! held here and by nobody else, so it closes however the test process goes, a panic and a
//! signal that cannot be handled included.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binaries::Program;
use crate::error::Error;

/// Keeps a program that takes no notice of its standard input from outliving it.
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null 3<&- &
program=$!
(cat <&3 >/dev/null; kill -9 $program) 2>/dev/null &
exec 3<&-
wait $program"#;

const TAIL_LINES: usize = 25;
const END_DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with what it prints going to `<name>.log` in `dir`.
    pub(crate) fn start(
        name: &'static str,
        program: &Program,
        arguments: &[String],
        dir: &Path,
    ) -> Result<Self, Error> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).map_err(Error::file("creating", &log))?;
        let err = out.try_clone().map_err(Error::file("opening", &log))?;
        let mut command = if program.ends_with_stdin {
            let mut command = Command::new(&program.path);
            command.env("TIDELINE_DIE_WITH_PARENT", "1");
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", GUARD, name]).arg(&program.path);
            command
        };
        let child = command
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.path.clone(), source })?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// An error if the process has ended, which none of them does by itself.
    pub(crate) fn check(&mut self, what: &str) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(Error::Exited {
                component: self.name.to_owned(),
                status: status.to_string(),
                what: what.to_owned(),
                tail: tail(&self.log),
                log: self.log.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Process {
    /// Tells the process to end and waits until it has.
    #[allow(clippy::disallowed_methods, reason = "the pause between two looks, up to a deadline")]
    pub(crate) fn end(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + END_DEADLINE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ignores_its_input_ends_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let program = Program { path: "sh".into(), ends_with_stdin: false };
        let script = "echo $$; exec sleep 600";
        let process = Process::start("sleeper", &program, &["-c".into(), script.into()], dir.path()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut pid = String::new();
        while !pid.ends_with('\n') && Instant::now() < deadline {
            pid = fs::read_to_string(dir.path().join("sleeper.log")).unwrap();
            std::thread::yield_now();
        }
        let proc = PathBuf::from("/proc").join(pid.trim());
        assert!(!pid.is_empty() && proc.exists());
        drop(process);
        assert!(!proc.exists(), "process {} outlived its owner", pid.trim());
    }

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n")).unwrap();
        let end = tail(&path);
        assert!(end.starts_with("line 75\n") && end.ends_with("line 99"), "{end}");
        assert_eq!(tail(&dir.path().join("none")), "");
    }
}
