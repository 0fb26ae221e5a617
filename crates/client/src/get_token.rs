//! `get-token`, `token` and `eks get-token`: the credential plugin of kubectl.
//!
//! One set of flags serves all three names: the union of `aws eks get-token` and `aws-iam-authenticator token`, so that a kubeconfig
//! written for either works after changing nothing but `command`. What differs is in [`Style`].

use std::path::PathBuf;

use countersign_token::exec_credential::{ExecCredential, ExecInfo, Spec};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cache::{CacheError, CacheKey, CredentialCache, TokenCache, TokenKey};
use crate::chain::{self, ChainError, RequestedRole, Resolved};
use crate::credentials::{self, Credentials, CredentialsError, Plan};
use crate::endpoint::EndpointError;
use crate::env::Environment;
use crate::http::{HttpClient, HttpError, chain as causes};
use crate::output::{self, Format};
use crate::presign::presigned_token;
use crate::profile::{ProfileError, Profiles};
use crate::query::{Query, UnsupportedQuery};
use crate::session::{FALLBACK_REGION, Io, Session};
use crate::sts::StsError;
use crate::yaml;

/// Clients are told to come back this long after signing, a minute before the token ends.
const ANNOUNCED: SignedDuration = SignedDuration::from_mins(14);
/// A token is announced to end this long before the credentials that signed it.
const CREDENTIALS_MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// Cached credentials that would announce less than a minute are refreshed first.
const MIN_CREDENTIALS_LEFT: SignedDuration = SignedDuration::from_secs(120);

/// Which tool the caller takes us for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `get-token` and `token`, like `aws-iam-authenticator token`: `DEFAULT_ROLE` and `KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID` are
    /// read, `spec` is `{"interactive":false}`, every failure exits with 1.
    Authenticator,
    /// `eks get-token`, like `aws eks get-token`: `AWS_DEFAULT_OUTPUT` and the profile's `output` are read, `spec` is `{}`, a failure
    /// exits with 255 and wrong flags with 252.
    AwsCli,
}

impl Style {
    /// The exit code of a failure.
    #[must_use]
    pub const fn failure(self) -> u8 {
        match self {
            Self::Authenticator => 1,
            Self::AwsCli => 255,
        }
    }

    /// The exit code when the command line itself does not parse.
    #[must_use]
    pub const fn usage_failure(self) -> u8 {
        match self {
            Self::Authenticator => 1,
            Self::AwsCli => 252,
        }
    }
}

/// Get a token for kubectl
///
/// Prints an ExecCredential with a presigned token for one cluster.
/// Example: countersign get-token --cluster-name demo --region eu-west-1
#[derive(Debug, Clone, Default, clap::Args)]
pub struct GetTokenArgs {
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Id of the cluster; the same as its name, except for local clusters on Outposts
    #[arg(short = 'i', long, value_name = "ID")]
    pub cluster_id: Option<String>,
    /// Assume this role first
    #[arg(
        short = 'r',
        long = "role-arn",
        visible_alias = "role",
        value_name = "ARN"
    )]
    pub role_arn: Option<String>,
    /// External id for --role-arn
    #[arg(short = 'e', long, value_name = "ID")]
    pub external_id: Option<String>,
    /// Session name for --role-arn; by default your own session or user name, which is a label and proves nothing
    #[arg(short = 's', long, value_name = "NAME")]
    pub session_name: Option<String>,
    /// Take the session name of your own session for --role-arn, fail if it cannot be found out
    #[arg(long)]
    pub forward_session_name: bool,
    /// Region of STS
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Profile of the shared configuration files; keys in the environment are ignored then
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Print the bare token
    #[arg(long)]
    pub token_only: bool,
    /// Keep credentials that expire, and tokens, in ~/.kube/cache
    #[arg(long)]
    pub cache: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub output: Option<Format>,
    /// Print this part of the output, such as status.token
    #[arg(long, value_name = "PATH")]
    pub query: Option<String>,
    /// Configuration file with `clusterID` and `role`
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[doc(hidden)]
    pub ignored: IgnoredArgs,
}

/// Flags of the two tools that change nothing here; accepted so that their command lines work.
#[derive(Debug, Clone, Default, clap::Args)]
#[allow(
    missing_docs,
    reason = "each is another tool's flag, named in its help"
)]
pub struct IgnoredArgs {
    #[arg(short = 'v', long, hide = true)]
    pub log_verbosity: Option<String>,
    #[arg(short = 'l', long, hide = true)]
    pub log_format: Option<String>,
    #[arg(long, hide = true)]
    pub feature_gates: Option<String>,
    #[arg(long, hide = true)]
    pub endpoint_url: Option<String>,
    #[arg(long, hide = true)]
    pub color: Option<String>,
    #[arg(long, hide = true)]
    pub cli_read_timeout: Option<String>,
    #[arg(long, hide = true)]
    pub cli_connect_timeout: Option<String>,
    #[arg(long, hide = true)]
    pub cli_binary_format: Option<String>,
    #[arg(long, hide = true)]
    pub no_cli_pager: bool,
    #[arg(long, hide = true)]
    pub no_cli_auto_prompt: bool,
    #[arg(long, hide = true)]
    pub no_paginate: bool,
}

/// Environment and clock of a run.
pub struct Process<'a> {
    /// Its variables.
    pub env: Environment,
    /// Its clock.
    pub clock: &'a dyn Fn() -> Timestamp,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetTokenError {
    /// No cluster is named.
    #[error("{0}")]
    NoCluster(&'static str),
    /// Two flags that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// `--query` is too much.
    #[error(transparent)]
    Query(#[from] UnsupportedQuery),
    /// The file of `--config` is unusable.
    #[error("could not read {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The shared files are unusable.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// What is configured makes no sense.
    #[error(transparent)]
    Plan(#[from] CredentialsError),
    /// No credentials.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The STS endpoint is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The HTTP client could not be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The role could not be assumed.
    #[error(transparent)]
    Role(#[from] StsError),
    /// The credentials ended already.
    #[error("the credentials from {origin} expired at {at}")]
    Expired {
        /// Where they came from.
        origin: String,
        /// When they ended.
        at: Timestamp,
    },
    /// The cluster id cannot be sent in a header.
    #[error("the cluster id must be printable ASCII")]
    ClusterId,
    /// The token could not be signed.
    #[error("could not sign the token")]
    Sign(#[from] countersign_sigv4::SignError),
}

/// Runs the command; returns the exit code.
pub fn run(args: &GetTokenArgs, style: Style, process: &Process<'_>, io: &mut Io<'_>) -> u8 {
    match print_token(args, style, process, io) {
        Ok(()) => 0,
        Err(error) => {
            let text = causes(&error);
            let lead = match (&error, style) {
                (GetTokenError::NoCluster(_) | GetTokenError::Conflict(_), _) => "error: ",
                (_, Style::Authenticator) => "could not get token: ",
                (_, Style::AwsCli) => "error: ",
            };
            // Nothing is left to be told if stderr is closed.
            let _ = writeln!(io.stderr, "{lead}{text}");
            style.failure()
        }
    }
}

fn print_token(
    args: &GetTokenArgs,
    style: Style,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<(), GetTokenError> {
    let exec_info = ExecInfo::parse(process.env.get("KUBERNETES_EXEC_INFO"));
    if let Some(note) = exec_info.note {
        let _ = writeln!(io.stderr, "{note}");
    }
    let query = args.query.as_deref().map(Query::parse).transpose()?;
    let request = Request::new(args, style, &process.env, &exec_info)?;
    let profiles = Profiles::load(&process.env, args.profile.as_deref())?;
    let session = Session {
        env: &process.env,
        profiles: &profiles,
        clock: process.clock,
    };
    let (token, expires_at) = issue(&request, &session, io)?;
    if args.token_only {
        let _ = writeln!(io.stdout, "{}", *token);
        return Ok(());
    }
    let spec = match style {
        Style::Authenticator => Spec::Interactive,
        Style::AwsCli => Spec::Empty,
    };
    let answer = ExecCredential::new(exec_info.api_version, spec, expires_at, &token).to_json();
    let format = args
        .output
        .unwrap_or_else(|| default_format(style, &session));
    let text = match query {
        None if format == Format::Json => Zeroizing::new(format!("{}\n", *answer)),
        query => {
            let value: Value = serde_json::from_str(&answer).unwrap_or_default();
            let value = query.map_or(value.clone(), |query| query.apply(&value));
            Zeroizing::new(output::render(&value, format))
        }
    };
    // A closed pipe ends quietly.
    let _ = io.stdout.write_all(text.as_bytes());
    let _ = io.stdout.flush();
    Ok(())
}

/// The AWS CLI's own default; a format that makes no sense for a token counts as JSON.
fn default_format(style: Style, session: &Session<'_>) -> Format {
    let configured = match style {
        Style::Authenticator => None,
        Style::AwsCli => session
            .env
            .get("AWS_DEFAULT_OUTPUT")
            .or_else(|| session.profile().get("output")),
    };
    match configured {
        Some("text") => Format::Text,
        Some("yaml" | "yaml-stream") => Format::Yaml,
        _ => Format::Json,
    }
}

/// The flags, with what environment, configuration file and client add to them.
#[derive(Debug)]
struct Request<'a> {
    cluster_id: String,
    role_arn: Option<String>,
    external_id: Option<&'a str>,
    session_name: Option<&'a str>,
    forward_session_name: bool,
    region: Option<&'a str>,
    cache: bool,
}

impl<'a> Request<'a> {
    fn new(
        args: &'a GetTokenArgs,
        style: Style,
        env: &Environment,
        exec_info: &ExecInfo,
    ) -> Result<Self, GetTokenError> {
        fn set(value: &Option<String>) -> Option<&str> {
            value.as_deref().filter(|value| !value.is_empty())
        }
        if set(&args.cluster_name).is_some() && set(&args.cluster_id).is_some() {
            return Err(GetTokenError::Conflict(
                "--cluster-name and --cluster-id exclude each other",
            ));
        }
        if args.forward_session_name && set(&args.session_name).is_some() {
            return Err(GetTokenError::Conflict(
                "cannot specify both --forward-session-name and --session-name parameter",
            ));
        }
        let file = match &args.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let from_env = |name| match style {
            Style::Authenticator => env.get(name).map(str::to_owned),
            Style::AwsCli => None,
        };
        let cluster_id = set(&args.cluster_name)
            .or(set(&args.cluster_id))
            .map(str::to_owned)
            .or_else(|| from_env("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID"))
            .or(file.cluster_id)
            .or_else(|| exec_info.cluster_id.clone())
            .ok_or(GetTokenError::NoCluster(match style {
                Style::Authenticator => {
                    "cluster ID not specified: give -i ID or --cluster-name NAME"
                }
                Style::AwsCli => {
                    "either parameter --cluster-name or --cluster-id must be specified"
                }
            }))?;
        if !cluster_id.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            return Err(GetTokenError::ClusterId);
        }
        let role_arn = set(&args.role_arn)
            .map(str::to_owned)
            .or_else(|| from_env("DEFAULT_ROLE"))
            .or(file.role);
        Ok(Self {
            cluster_id,
            role_arn,
            external_id: set(&args.external_id),
            session_name: set(&args.session_name),
            forward_session_name: args.forward_session_name,
            region: set(&args.region),
            cache: args.cache,
        })
    }
}

/// The two keys of the reference's configuration file that concern a client; keys compare without regard to letter case.
#[derive(Debug, Default)]
struct ConfigFile {
    cluster_id: Option<String>,
    role: Option<String>,
}

impl ConfigFile {
    fn read(path: &std::path::Path) -> Result<Self, GetTokenError> {
        let fail = |reason: String| GetTokenError::Config {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let tree = yaml::parse(&text).map_err(|error| fail(error.to_string()))?;
        let get = |name: &str| {
            tree.pairs()?
                .iter()
                .find(|(key, _)| key.text().is_some_and(|key| key.eq_ignore_ascii_case(name)))
                .and_then(|(_, value)| value.text())
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        Ok(Self {
            cluster_id: get("clusterID"),
            role: get("role").or_else(|| get("defaultRole")),
        })
    }
}

/// Makes the token and says when the client should come back.
fn issue(
    request: &Request<'_>,
    session: &Session<'_>,
    io: &mut Io<'_>,
) -> Result<(Zeroizing<String>, Timestamp), GetTokenError> {
    let plan = credentials::plan(session.env, session.profiles)?;
    let named_region = session.region(request.region);
    let mut caches = Caches::new(request, session, io);
    let Resolved {
        credentials: base,
        region_of_machine,
    } = match caches.base(&plan, session.now()) {
        Some(credentials) => Resolved {
            credentials,
            region_of_machine: None,
        },
        None => {
            let resolved = chain::resolve(session, &plan, named_region.as_deref(), io)?;
            caches.keep_base(&plan, &resolved.credentials, io);
            resolved
        }
    };
    let region = match named_region.or(region_of_machine) {
        Some(region) => region,
        None => {
            let _ = writeln!(
                io.stderr,
                "no region is configured; using {FALLBACK_REGION} (set AWS_REGION or give --region)"
            );
            FALLBACK_REGION.to_owned()
        }
    };
    let endpoint = session.sts_endpoint(&region)?;
    if let Some(at) = base.expires_at.filter(|at| *at <= session.now()) {
        return Err(GetTokenError::Expired {
            origin: base.source.clone(),
            at,
        });
    }
    let key = TokenKey {
        cluster_id: &request.cluster_id,
        endpoint: endpoint.url(),
        access_key_id: &base.access_key_id,
        role_arn: request.role_arn.as_deref().unwrap_or_default(),
        external_id: request.external_id.unwrap_or_default(),
        session_name: match request.forward_session_name {
            true => "(forwarded)",
            false => request.session_name.unwrap_or_default(),
        },
    };
    if let Some(found) = caches.token(&key, session.now(), io) {
        return Ok(found);
    }
    let signing = match &request.role_arn {
        None => base.clone(),
        Some(role_arn) => {
            let http = HttpClient::new(session.env, &session.profile())?;
            let role = RequestedRole {
                role_arn,
                session_name: request.session_name,
                external_id: request.external_id,
                forward_session_name: request.forward_session_name,
            };
            chain::assume_requested(&http, &endpoint, &base, &role, session.now())?
        }
    };
    let signed_at = session.now();
    let token = presigned_token(&request.cluster_id, &endpoint, &signing, signed_at)?;
    let expires_at = announced_end(signed_at, &signing);
    caches.keep_token(&key, &token, expires_at, signed_at, io);
    Ok((token, expires_at))
}

/// The earlier of 14 minutes after signing and one minute before the credentials end, but never before the signing itself.
fn announced_end(signed_at: Timestamp, credentials: &Credentials) -> Timestamp {
    let own_end = signed_at.saturating_add(ANNOUNCED).unwrap_or(signed_at);
    match credentials.expires_at {
        None => own_end,
        Some(end) => own_end
            .min(end.saturating_sub(CREDENTIALS_MARGIN).unwrap_or(signed_at))
            .max(signed_at),
    }
}

/// The caches of `--cache`. A cache that cannot be used is named on stderr once and left alone.
struct Caches<'a> {
    credentials: Option<CredentialCache>,
    tokens: Option<TokenCache>,
    key: CacheKey<'a>,
}

impl<'a> Caches<'a> {
    fn new(request: &'a Request<'_>, session: &Session<'a>, io: &mut Io<'_>) -> Self {
        let (mut credentials, mut tokens) = (None, None);
        if request.cache {
            credentials =
                unless_unusable(CredentialCache::of_environment(session.env).map(Some), io);
            tokens = unless_unusable(TokenCache::of_environment(session.env).map(Some), io);
        }
        Self {
            credentials,
            tokens,
            key: CacheKey {
                cluster_id: &request.cluster_id,
                profile: session.profile().name,
                role_arn: request.role_arn.as_deref().unwrap_or_default(),
            },
        }
    }

    /// Cached base credentials with enough life left. Keys that are at hand anyway are never looked up.
    fn base(&mut self, plan: &Plan<'_>, now: Timestamp) -> Option<Credentials> {
        if matches!(plan, Plan::Found(_)) {
            return None;
        }
        let cached = self.credentials.as_ref()?.get(&self.key);
        cached
            .ok()
            .flatten()
            .filter(|credentials| credentials.outlive(now, MIN_CREDENTIALS_LEFT))
    }

    fn keep_base(&mut self, plan: &Plan<'_>, credentials: &Credentials, io: &mut Io<'_>) {
        if let (Some(cache), false) = (&self.credentials, matches!(plan, Plan::Found(_))) {
            unless_unusable(cache.put(&self.key, credentials).map(Some), io);
        }
    }

    fn token(
        &mut self,
        key: &TokenKey<'_>,
        now: Timestamp,
        io: &mut Io<'_>,
    ) -> Option<(Zeroizing<String>, Timestamp)> {
        match self.tokens.as_ref()?.get(key, now) {
            Ok(found) => found,
            Err(error) => {
                self.tokens = None;
                unless_unusable(Err(error), io)
            }
        }
    }

    fn keep_token(
        &mut self,
        key: &TokenKey<'_>,
        token: &str,
        expires_at: Timestamp,
        now: Timestamp,
        io: &mut Io<'_>,
    ) {
        if let Some(cache) = &self.tokens {
            unless_unusable(cache.put(key, token, expires_at, now).map(Some), io);
        }
    }
}

fn unless_unusable<T>(result: Result<Option<T>, CacheError>, io: &mut Io<'_>) -> Option<T> {
    result.unwrap_or_else(|error| {
        let _ = writeln!(io.stderr, "unable to use cache: {}", causes(&error));
        None
    })
}
