//! Mapping rules of a cluster: options from the configuration, sources started, health and metrics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_arn::Partition;
use countersign_mapping::{
    Authority, BackendKind, BackendModes, ChainOptions, MappingOptions, NodeUsernames,
    OnParseError, ReservedPrefixes, SsoSuffix, VerifyInstanceRole,
};
use countersign_server::config::{Config, OneOrMany, OwnConfig};
use countersign_server::health::{Report, State};
use countersign_sources::files::{BackendModeFile, DynamicFile, MountedFile, POLL_INTERVAL};
use countersign_sources::{Health, Mappings, MappingsOptions};
use countersign_store::records::AuthenticationMode;
use jiff::Timestamp;

use super::kubernetes;
use crate::report::Failure;

/// Where a cluster's rules come from.
pub(super) struct Sources<'a> {
    /// The cluster's name, for reports.
    pub(super) cluster: String,
    pub(super) config: &'a Config,
    /// The file with `server.mapRoles` and the like, if there is one.
    pub(super) mounted_file: Option<&'a Path>,
    pub(super) partition: Partition,
    pub(super) authority: Authority,
    /// Whether the cluster's authentication mode decides: the sources are what it reads in the place of aws-auth.
    pub(super) registered: bool,
    /// Flags win over the file.
    pub(super) backend_modes: Vec<String>,
    pub(super) kubeconfig: Option<&'a Path>,
    pub(super) master: Option<&'a str>,
    /// Where the last state of aws-auth is kept for a start without an API server.
    pub(super) state_dir: &'a Path,
}

/// Starts every source the backends name.
pub(super) async fn start(sources: Sources<'_>) -> Result<Arc<Mappings>, Failure> {
    let now = Timestamp::now();
    let modes = backend_modes(&sources)?;
    let server = &sources.config.server;
    modes
        .check_dynamic_file(server.dynamic_file_path.is_some())
        .map_err(Failure::usage)?;
    let options = options(&sources)?;
    let mappings = Mappings::new(modes.modes(), options);
    // The backend mode file may name any backend later.
    let every = [
        BackendKind::MountedFile,
        BackendKind::DynamicFile,
        BackendKind::EksConfigMap,
        BackendKind::Crd,
    ];
    let optional = server.dynamic_backend_mode_path.is_some();
    for kind in every
        .iter()
        .filter(|kind| optional || modes.modes().contains(kind))
    {
        match kind {
            BackendKind::MountedFile => match sources.mounted_file {
                None => {
                    mappings.set_entries(BackendKind::MountedFile, Default::default(), "none", now)
                }
                Some(path) => {
                    let file = MountedFile::load(path, &mappings, now).map_err(Failure::usage)?;
                    tokio::spawn(file.run(POLL_INTERVAL, Timestamp::now));
                }
            },
            BackendKind::DynamicFile => {
                if let Some(path) = &server.dynamic_file_path {
                    tokio::spawn(
                        DynamicFile::new(path, &mappings).run(POLL_INTERVAL, Timestamp::now),
                    );
                }
            }
            BackendKind::EksConfigMap | BackendKind::Crd => {
                match kubernetes::start(*kind, &sources, &mappings).await {
                    Err(failure) if modes.modes().contains(kind) => return Err(failure),
                    Err(failure) => {
                        tracing::warn!(backend = %kind, problem = failure.render(), "backend not available")
                    }
                    Ok(()) => {}
                }
            }
            _ => {}
        }
    }
    if let Some(path) = &server.dynamic_backend_mode_path {
        let file = BackendModeFile::new(path, server.dynamic_file_path.is_some(), &mappings);
        tokio::spawn(file.run(POLL_INTERVAL, Timestamp::now));
    }
    tokio::spawn(Arc::clone(&mappings).keep_reporting(Timestamp::now));
    Ok(mappings)
}

fn backend_modes(sources: &Sources<'_>) -> Result<BackendModes, Failure> {
    let from_file = sources
        .config
        .server
        .backend_mode
        .as_ref()
        .map(OneOrMany::items);
    let names = if sources.backend_modes.is_empty() {
        from_file
    } else {
        Some(sources.backend_modes.clone())
    };
    let modes = match names {
        None if sources.registered => return Ok(in_place_of_aws_auth(sources)),
        None => BackendModes::default(),
        Some(names) => {
            BackendModes::parse(names.iter().map(String::as_str)).map_err(Failure::usage)?
        }
    };
    for name in modes.deprecated() {
        tracing::warn!(name, "backend mode name is deprecated");
    }
    Ok(modes)
}

/// aws-auth where the Kubernetes API can be read, and the rules of the configuration file where it has any.
fn in_place_of_aws_auth(sources: &Sources<'_>) -> BackendModes {
    let mut names = Vec::new();
    if sources.kubeconfig.is_some() || sources.master.is_some() {
        names.push("EKSConfigMap");
    }
    names.push("MountedFile");
    BackendModes::parse(names).unwrap_or_default()
}

fn options(sources: &Sources<'_>) -> Result<MappingsOptions, Failure> {
    let server = &sources.config.server;
    let own = &sources.config.countersign;
    let wrong = |key: &str, value: &str, allowed: &str| {
        Failure::usage(anyhow::anyhow!(
            "`countersign.mapping.{key}` is `{value}`; it is {allowed}"
        ))
    };
    let sso_suffix = match own.mapping.sso_suffix.as_deref() {
        None | Some("exact") => SsoSuffix::Exact,
        Some("any") => SsoSuffix::Any,
        Some(other) => return Err(wrong("ssoSuffix", other, "`exact` or `any`")),
    };
    let node_usernames = match own.mapping.node_usernames.as_deref() {
        None | Some("lint") => NodeUsernames::Lint,
        Some("require") => NodeUsernames::Require,
        Some(other) => return Err(wrong("nodeUsernames", other, "`lint` or `require`")),
    };
    let on_parse_error = match own.mapping.on_parse_error.as_deref() {
        None | Some("keepLastGood") => OnParseError::KeepLastGood,
        Some("dropSection") => OnParseError::DropSection,
        Some(other) => {
            return Err(wrong(
                "onParseError",
                other,
                "`keepLastGood` or `dropSection`",
            ));
        }
    };
    let mapping = MappingOptions {
        partition: sources.partition,
        authority: sources.authority,
        strict_role_path: own.mapping.strict_role_path,
        sso_suffix,
        dynamic_file_user_id_strict: server.dynamic_file_user_id_strict.unwrap_or(false),
    };
    let chain = ChainOptions {
        reserved_prefixes: reserved_prefixes(sources.config)?,
        node_usernames,
        privileged_groups: privileged_groups(own)?,
        verify_instance_role: match own.upstream.verify_instance_role {
            None => VerifyInstanceRole::WhatIsKnown,
            Some(true) => VerifyInstanceRole::Require,
            Some(false) => VerifyInstanceRole::Off,
        },
        scrubbed_accounts: server
            .scrubbed_accounts
            .iter()
            .map(|text| {
                text.parse().map_err(|error| {
                    Failure::usage(
                        anyhow::Error::new(error)
                            .context(format!("`{text}` in `scrubbedAccounts`")),
                    )
                })
            })
            .collect::<Result<_, _>>()?,
        mapping_extras: false,
    };
    let max_stale = Duration::from_secs(own.mapping.max_stale.unwrap_or(24 * 3600));
    Ok(MappingsOptions {
        mapping,
        chain,
        on_parse_error,
        max_stale,
    })
}

fn reserved_prefixes(config: &Config) -> Result<Vec<ReservedPrefixes>, Failure> {
    let mut reserved = Vec::new();
    for entry in &config.server.reserved_prefix_config {
        reserved.push(ReservedPrefixes {
            backend: one_backend(&entry.backend_mode)?,
            prefixes: entry.username_prefix_reserve_list.clone(),
        });
    }
    Ok(reserved)
}

fn privileged_groups(own: &OwnConfig) -> Result<BTreeMap<String, Vec<BackendKind>>, Failure> {
    let mut groups = BTreeMap::new();
    for entry in &own.mapping.privileged_groups {
        let backends = entry
            .backends
            .iter()
            .map(|name| one_backend(name))
            .collect::<Result<Vec<_>, _>>()?;
        groups.insert(entry.group.clone(), backends);
    }
    Ok(groups)
}

fn one_backend(name: &str) -> Result<BackendKind, Failure> {
    let modes = BackendModes::parse([name]).map_err(Failure::usage)?;
    match modes.modes() {
        [backend] => Ok(*backend),
        _ => Err(Failure::usage(anyhow::anyhow!(
            "`{name}` is not one backend mode"
        ))),
    }
}

/// What `/readyz?verbose` says about a cluster's sources. Only a source that was never read makes it unready. `mode` is that of a
/// registered cluster, none if it is not there (any more).
pub(super) fn report_health(
    report: &mut Report,
    cluster: &str,
    mode: Option<Option<AuthenticationMode>>,
    health: &Health,
) {
    let backends: Vec<&str> = health
        .backends
        .iter()
        .map(|backend| backend.name())
        .collect();
    let mut detail = format!(
        "backends {}, generation {}",
        backends.join(", "),
        health.generation
    );
    match mode {
        None => {}
        Some(Some(AuthenticationMode::Api)) => {
            report.add(
                format!("cluster {cluster}"),
                State::Ok,
                "authentication mode API",
            );
            return;
        }
        Some(Some(mode)) => detail = format!("authentication mode {mode}, {detail}"),
        Some(None) => {
            report.add(
                format!("cluster {cluster}"),
                State::Warning,
                "not registered with the EKS API, so that nobody gets in",
            );
            return;
        }
    }
    report.add(format!("cluster {cluster}"), State::Ok, detail);
    for source in &health.sources {
        let name = format!("cluster {cluster} {}", source.source);
        if source.in_use && !source.synced {
            let why = source
                .failing
                .as_ref()
                .map_or_else(|| "not synced".to_owned(), |p| format!("not synced: {p}"));
            report.add(name, State::Failed, why);
        } else if let Some(problem) = &source.failing {
            report.add(
                name,
                State::Warning,
                format!("cannot be reached: {problem}"),
            );
        } else if let Some(stale) = source.stale.first() {
            let detail = format!(
                "stale since {}, {} in force: {}",
                stale.since, stale.in_force, stale.problem
            );
            report.add(name, State::Warning, detail);
        } else {
            let entries = source.entries;
            let mut detail = format!(
                "version {}, {} roles, {} users, {} accounts",
                source.version, entries.roles, entries.users, entries.accounts
            );
            if let Some(note) = &source.note {
                detail.push_str(&format!(", {note}"));
            }
            report.add(name, State::Ok, detail);
        }
    }
}
