//! Runs `nft` and `iptables`: fixed paths, arguments from a closed set, rules on standard input, bounded in time and output.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Where the programs are, in this order; never from the environment.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
const TIME: Duration = Duration::from_secs(10);
/// More than any listing that matters.
const MAX_OUTPUT: u64 = 4 << 20;

/// Why the filter cannot be set or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// There is no such program.
    #[error(
        "there is no `{0}` in /usr/sbin, /sbin, /usr/bin or /bin; install nftables or iptables"
    )]
    Missing(&'static str),
    /// It cannot be run.
    #[error("`{program}` cannot be run: {error}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        error: String,
    },
    /// It ran and failed.
    #[error("`{program}` failed: {output}")]
    Failed {
        /// Which.
        program: String,
        /// What it said.
        output: String,
    },
    /// `iptables` cannot do it.
    #[error("{0} can be guarded by nft alone; install nftables, or leave out the option")]
    NeedsNft(&'static str),
    /// Somebody else takes the traffic, and `audit` must not change that.
    #[error("audit does not start while another rule takes the requests: {0}")]
    Shadowed(String),
}

/// A program of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(PathBuf);

impl Program {
    pub(super) fn find(name: &'static str) -> Result<Self, ProgramError> {
        DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(name))
            .find(|path| path.is_file())
            .map(Self)
            .ok_or(ProgramError::Missing(name))
    }

    /// Runs it to its end; its standard output.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, ProgramError> {
        let program = || self.0.display().to_string();
        let failed = |error: std::io::Error| ProgramError::Run {
            program: program(),
            error: error.to_string(),
        };
        let running = async {
            let mut child = Command::new(&self.0)
                .args(arguments)
                .env_clear()
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .env("LC_ALL", "C")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(failed)?;
            let (stdin, stdout, stderr) =
                (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A program that ends before it has read everything says why itself.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let read_out = async {
                match stdout {
                    Some(stdout) => stdout.take(MAX_OUTPUT).read_to_end(&mut out).await,
                    None => Ok(0),
                }
            };
            let read_err = async {
                match stderr {
                    Some(stderr) => stderr.take(4096).read_to_end(&mut err).await,
                    None => Ok(0),
                }
            };
            let ((), out_read, err_read) = tokio::join!(feed, read_out, read_err);
            out_read.map_err(failed)?;
            err_read.map_err(failed)?;
            let status = child.wait().await.map_err(failed)?;
            if !status.success() {
                let text = String::from_utf8_lossy(&err);
                return Err(ProgramError::Failed {
                    program: program(),
                    output: crate::refusal::one_line(text.trim()).into(),
                });
            }
            Ok(String::from_utf8_lossy(&out).into_owned())
        };
        tokio::time::timeout(TIME, running)
            .await
            .unwrap_or_else(|_| {
                Err(ProgramError::Run {
                    program: program(),
                    error: "it did not end within 10 s".into(),
                })
            })
    }
}
