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
    /// The rules were set and do not hold.
    #[error("the rules were set and do not hold: {0}")]
    NotInForce(String),
}

impl ProgramError {
    fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            _ => "",
        }
    }

    /// Whether the program is missing, or said that the table or chain is: then it has no rules.
    pub(super) fn is_nothing_there(&self) -> bool {
        let output = self.output();
        matches!(self, Self::Missing(_))
            || output.contains("No such file or directory")
            || output.contains("does not exist")
    }

    /// Whether iptables says that nft wrote into the table, and has to be asked.
    pub(super) fn is_for_nft(&self) -> bool {
        self.output().contains("use 'nft' tool")
    }
}

/// A program of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(PathBuf);

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

impl Program {
    pub(super) fn find(name: &'static str) -> Result<Self, ProgramError> {
        DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(name))
            .find(|path| path.is_file())
            .map(Self)
            .ok_or(ProgramError::Missing(name))
    }

    /// Finds a program of iptables, if it can have rules: asking one of the legacy kind for a table makes that table.
    pub(super) fn of_iptables(
        name: &'static str,
        table: &'static str,
    ) -> Result<Self, ProgramError> {
        let names = match name {
            "iptables-legacy" => "/proc/net/ip_tables_names",
            "ip6tables-legacy" => "/proc/net/ip6_tables_names",
            _ => return Self::find(name),
        };
        let is_there = match std::fs::read_to_string(names) {
            Ok(names) => names.lines().any(|name| name == table),
            // Who may not read it may not list rules either, and the program says so.
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        if is_there {
            Self::find(name)
        } else {
            Err(ProgramError::Missing(name))
        }
    }

    /// Whether this iptables keeps its rules in tables of nft.
    pub(super) async fn is_of_nft(&self) -> bool {
        let version = self.run(&["--version"], "").await;
        version.is_ok_and(|version| version.contains("nf_tables"))
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
