//! `imds advise --node`: the rules of this node, and the unit that puts them in before kubelet.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use countersign_agent::guard::capture::inspect;
use countersign_imds::advise::UNIT;
use countersign_imds::checks::Finding;
use countersign_imds::node::{KUBELETS, NodeFacts, Rules, Unit, UnitFiles, guard};
use serde::Serialize;

use super::advise::write_findings;
use super::probe::exit;
use crate::commands::settings::block_on;
use crate::exit::Exit;
use crate::output::{OutputFormat, pairs};
use crate::report::Failure;

/// Where systemd has units, the first that has one counts.
const UNITS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// Longest file of a unit, and most entries of a directory, that are looked at.
const MAX_FILE: u64 = 64 << 10;
const MAX_ENTRIES: usize = 4096;

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Rules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_found_out: Vec<String>,
}

pub(super) fn run(
    root: Option<&Path>,
    output: OutputFormat,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let rules = block_on(async { Ok(inspect().await) })?;
    let facts = NodeFacts {
        rules: rules.map_err(|error| error.to_string()),
        unit: unit(root),
    };
    let (findings, not_found_out) = guard(&facts);
    let report = Report {
        rules: facts.rules.ok(),
        unit: facts.unit.ok(),
        findings,
        not_found_out,
    };
    output.write(out, &report, |out| {
        let rules = match &report.rules {
            None => "not found out",
            Some(Rules::Missing) => "none",
            Some(Rules::Broken { .. }) => "let pods through",
            Some(Rules::Dropped) => "drop, and no agent answers",
            Some(Rules::Redirected) => "hand on to the agent",
        };
        let unit = match report.unit {
            None => "not found out",
            Some(Unit::Missing) => "not installed",
            Some(Unit::Masked) => "masked",
            Some(Unit::Disabled) => "not enabled",
            Some(Unit::NotBefore) => "enabled, not before kubelet",
            Some(Unit::BeforeKubelet) => "enabled, before kubelet",
        };
        pairs(out, &[("rules", rules.to_owned()), (UNIT, unit.to_owned())])?;
        write_findings(out, &report.findings, &report.not_found_out)
    })?;
    Ok(exit(&report.findings, &report.not_found_out))
}

/// What the files of systemd say, which hold also where systemd itself cannot be asked: in a container, or of an image.
fn unit(root: Option<&Path>) -> Result<Unit, String> {
    let root = match root {
        Some(root) => root,
        // Where systemd does not run, its files say nothing about the node.
        None if Path::new("/run/systemd/system").is_dir() => Path::new("/"),
        None => {
            return Err(
                "systemd does not run here; on the node, or with the node's files and --root"
                    .into(),
            );
        }
    };
    let directories: Vec<PathBuf> = UNITS
        .iter()
        .map(|directory| root.join(directory))
        .filter(|directory| directory.is_dir())
        .collect();
    if directories.is_empty() {
        return Err(format!("{} has no units of systemd", root.display()));
    }
    files(&directories)
        .map(|files| Unit::of_files(&files))
        .map_err(|error| format!("units of systemd cannot be read: {error}"))
}

fn files(directories: &[PathBuf]) -> std::io::Result<UnitFiles> {
    let mut found = UnitFiles::default();
    let mut has_own = false;
    for directory in directories {
        let own = directory.join(UNIT);
        if !has_own && let Ok(metadata) = own.symlink_metadata() {
            has_own = true;
            let target = metadata
                .is_symlink()
                .then(|| std::fs::read_link(&own).ok())
                .flatten();
            found.masked = target.is_some_and(|target| target == Path::new("/dev/null"))
                || (metadata.is_file() && metadata.len() == 0);
            if !found.masked {
                found.texts.push(text(&own)?);
            }
        }
        for name in names(&directory.join(format!("{UNIT}.d")))? {
            if Path::new(&name).extension().is_some_and(|of| of == "conf") {
                let drop_in = directory.join(format!("{UNIT}.d")).join(name);
                found.texts.push(text(&drop_in)?);
            }
        }
        for name in names(directory)? {
            let is_list = Path::new(&name)
                .extension()
                .is_some_and(|of| of == "wants" || of == "requires");
            found.wanted |= is_list && directory.join(&name).join(UNIT).symlink_metadata().is_ok();
        }
        for kubelet in KUBELETS {
            if directory.join(kubelet).symlink_metadata().is_ok()
                && !found.kubelets.iter().any(|known| known == kubelet)
            {
                found.kubelets.push(kubelet.to_owned());
            }
        }
    }
    // Drop-ins of a unit that is not there are nothing.
    if !has_own {
        found.texts.clear();
    }
    Ok(found)
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn names(directory: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries
            .take(MAX_ENTRIES)
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn units_are_read_as_systemd_reads_them() {
        let ours = countersign_imds::advise::unit();
        let late = ours.replace("kubelet.service ", "");
        let late = late.as_str();
        /// Text, mask, link, drop-in, a unit that runs kubelet.
        type Row<'t> = (
            Option<&'t str>,
            bool,
            Option<&'t str>,
            Option<&'t str>,
            &'t str,
            Unit,
        );
        let wants = "multi-user.target.wants";
        let requires = "kubelet.service.requires";
        let rows: [Row<'_>; 8] = [
            (None, false, None, None, "kubelet.service", Unit::Missing),
            (
                None,
                false,
                Some(wants),
                Some("[Unit]\nBefore=kubelet.service"),
                "kubelet.service",
                Unit::Missing,
            ),
            (
                Some(&ours),
                false,
                None,
                None,
                "kubelet.service",
                Unit::Disabled,
            ),
            (
                Some(&ours),
                false,
                Some(wants),
                None,
                "kubelet.service",
                Unit::BeforeKubelet,
            ),
            (
                Some(&ours),
                false,
                Some(requires),
                None,
                "k3s.service",
                Unit::BeforeKubelet,
            ),
            (
                Some(late),
                false,
                Some(wants),
                None,
                "kubelet.service",
                Unit::NotBefore,
            ),
            (
                Some(late),
                false,
                Some(wants),
                Some("[Unit]\nBefore=kubelet.service\n"),
                "kubelet.service",
                Unit::BeforeKubelet,
            ),
            (
                None,
                true,
                Some(wants),
                None,
                "kubelet.service",
                Unit::Masked,
            ),
        ];
        for (at, (own, mask, link, drop_in, kubelet, expected)) in rows.into_iter().enumerate() {
            let root = tempfile::tempdir().unwrap();
            let etc = root.path().join("etc/systemd/system");
            let lib = root.path().join("usr/lib/systemd/system");
            for directory in [&etc, &lib] {
                std::fs::create_dir_all(directory).unwrap();
            }
            std::fs::write(lib.join(kubelet), "[Service]\n").unwrap();
            if let Some(own) = own {
                std::fs::write(etc.join(UNIT), own).unwrap();
            }
            if mask {
                symlink("/dev/null", etc.join(UNIT)).unwrap();
                std::fs::write(lib.join(UNIT), &ours).unwrap();
            }
            if let Some(link) = link {
                std::fs::create_dir_all(etc.join(link)).unwrap();
                symlink(format!("../{UNIT}"), etc.join(link).join(UNIT)).unwrap();
            }
            if let Some(drop_in) = drop_in {
                let directory = etc.join(format!("{UNIT}.d"));
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(directory.join("order.conf"), drop_in).unwrap();
            }
            assert_eq!(unit(Some(root.path())), Ok(expected), "row {at}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(unit(Some(empty.path())).is_err());
    }
}
