//! `countersign verify`: whose token it is, which user it becomes, and why.
//!
//! The same functions as in the webhook decide; this only asks STS and prints.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use countersign_arn::{CallerIdentity, Partition};
use countersign_mapping::config_map::ConfigMap;
use countersign_mapping::{
    Backend, BackendKind, Chain, ChainOptions, Finding, MappingDecision, MappingOptions,
    MappingTable, mounted_file,
};
use countersign_token::sts::{MAX_BODY, Replayed, parse_response};
use countersign_token::{CLUSTER_ID_HEADER, EndpointKind, Options, PresignedToken, Rules};
use countersign_upstream::clock::SystemClock;
use countersign_upstream::http::HttpsClient;
use countersign_upstream::sts::{HttpsSts, StsOptions, StsVerifier};
use http_body_util::{BodyExt, Empty, Limited};
use jiff::Timestamp;
use serde::Serialize;

use super::settings;
use crate::exit::Exit;
use crate::output::{OutputFormat, pairs};
use crate::report::Failure;

/// Longest input read: a token, or an ExecCredential around one.
const MAX_INPUT: u64 = 128 << 10;
/// Time for the whole exchange with STS, as in the webhook.
const STS_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign get-token --cluster-name demo | countersign verify -i demo --explain\n  \
    countersign verify -i demo --token-file token.txt --aws-auth aws-auth.yaml\n\n\
    Without --token and --token-file the token is read from standard input, bare or inside an ExecCredential. A token on the\n\
    command line is visible to other users of the machine.")]
pub(crate) struct VerifyArgs {
    /// The token.
    #[arg(short, long, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the token; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The cluster the token must be made for.
    #[arg(
        short = 'i',
        long = "cluster-id",
        alias = "cluster-name",
        value_name = "ID"
    )]
    cluster_id: String,
    /// Partition of the AWS accounts.
    #[arg(long, default_value = "aws")]
    partition: Partition,
    /// A custom STS endpoint to ask, when the token was made for it.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", value_name = "URL")]
    endpoint_url: Option<String>,
    /// Show which user the caller becomes by the mappings in this configuration file.
    #[arg(long, visible_alias = "map", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show which user the caller becomes by this aws-auth ConfigMap manifest.
    #[arg(long, value_name = "FILE")]
    aws_auth: Option<PathBuf>,
    /// Say what each step decided, and why.
    #[arg(long)]
    explain: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// The identity in the reference's words, and the mapping beside it.
#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    #[serde(rename = "Mapping", skip_serializing_if = "Option::is_none")]
    mapping: Option<Mapping>,
    #[serde(rename = "Error", skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
    #[serde(rename = "Steps", skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Identity {
    #[serde(rename = "ARN")]
    arn: String,
    #[serde(rename = "CanonicalARN")]
    canonical_arn: String,
    #[serde(rename = "AccountID")]
    account_id: String,
    #[serde(rename = "UserID")]
    user_id: String,
    #[serde(rename = "SessionName")]
    session_name: String,
    #[serde(rename = "AccessKeyID")]
    access_key_id: String,
    #[serde(rename = "STSEndpoint")]
    sts_endpoint: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mapping {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    nearest: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    reason: String,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    step: &'static str,
    ok: bool,
    detail: String,
}

impl Report {
    fn step(&mut self, step: &'static str, ok: bool, detail: impl Into<String>) {
        self.steps.push(Step {
            step,
            ok,
            detail: detail.into(),
        });
    }

    fn refuse(mut self, step: &'static str, reason: String, message: String) -> Self {
        self.step(step, false, format!("{reason}: {message}"));
        self.error = Some(Refusal { reason, message });
        self
    }
}

pub(crate) fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let token = read_token(args)?;
    let chain = mapping_chain(args)?;
    let rules = rules(args)?;
    let mut report = settings::block_on(examine(args, &rules, &token, chain.as_ref()))?;
    if !args.explain {
        report.steps.clear();
    }
    args.output.write(out, &report, |out| table(out, &report))?;
    let unmapped = report
        .mapping
        .as_ref()
        .is_some_and(|mapping| mapping.username.is_none());
    if let Some(error) = &report.error {
        return Err(
            Failure::no(anyhow::anyhow!("could not verify token: {}", error.message))
                .hint(hint(&error.reason)),
        );
    }
    Ok(if unmapped { Exit::No } else { Exit::Fine })
}

async fn examine(
    args: &VerifyArgs,
    rules: &Rules,
    text: &str,
    chain: Option<&Chain>,
) -> Result<Report, Failure> {
    let mut report = Report::default();
    let now = Timestamp::now();
    let token = match PresignedToken::parse(text, rules, now) {
        Ok(token) => token,
        Err(error) => {
            let message = format!("input token was not properly formatted: {}", error.text());
            return Ok(report.refuse("local rules", error.reason().as_str().to_owned(), message));
        }
    };
    let age = now.duration_since(token.signed_at()).as_secs();
    report.step(
        "local rules",
        true,
        format!(
            "signed {age} s ago for {}, valid until {}",
            token.host(),
            token.expires_at()
        ),
    );
    let identity = match token.endpoint() {
        EndpointKind::Aws => ask_aws(args, &token).await?,
        EndpointKind::Trusted => ask_endpoint(args, &token).await?,
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err((reason, message)) => return Ok(report.refuse("signature", reason, message)),
    };
    report.step(
        "signature",
        true,
        format!(
            "{} signed for cluster `{}`",
            identity.arn(),
            args.cluster_id
        ),
    );
    if let Some(chain) = chain {
        let mapping = map(chain, &identity);
        match (&mapping.username, &mapping.rule, &mapping.reason) {
            (Some(username), Some(rule), _) => {
                report.step("mapping", true, format!("{username} by {rule}"))
            }
            (_, _, reason) => report.step("mapping", false, reason.clone().unwrap_or_default()),
        }
        report.mapping = Some(mapping);
    }
    report.identity = Some(Identity {
        arn: identity.arn().to_owned(),
        canonical_arn: identity.canonical_arn().to_owned(),
        account_id: identity.account().to_string(),
        user_id: identity.user_id().to_owned(),
        session_name: identity.session_name().to_owned(),
        access_key_id: identity.access_key_id().to_owned(),
        sts_endpoint: identity.sts_endpoint().to_owned(),
    });
    Ok(report)
}

type Verdict = Result<Arc<CallerIdentity>, (String, String)>;

async fn ask_aws(args: &VerifyArgs, token: &PresignedToken) -> Result<Verdict, Failure> {
    let options = StsOptions {
        partition: args.partition,
        ..StsOptions::default()
    };
    let client = HttpsClient::builder().build()?;
    let verifier = StsVerifier::start(options, Arc::new(HttpsSts(client)), Arc::new(SystemClock))?;
    Ok(match verifier.verify(token, &args.cluster_id).await {
        Ok(verified) => Ok(verified.identity),
        Err(error) if error.is_outage() => return Err(Failure::unknown(error)),
        Err(error) => Err((error.reason().into_owned(), error.to_string())),
    })
}

/// Asks a custom endpoint: one that the person named, not one that the token chose.
async fn ask_endpoint(args: &VerifyArgs, token: &PresignedToken) -> Result<Verdict, Failure> {
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<bytes::Bytes>> =
        Client::builder(TokioExecutor::new()).build(connector);
    let request = http::Request::get(token.url())
        .header(CLUSTER_ID_HEADER, &args.cluster_id)
        .header(http::header::ACCEPT, "application/json")
        .body(Empty::new())
        .map_err(|_| {
            Failure::usage(anyhow::anyhow!(
                "the token or the cluster id cannot be sent"
            ))
        })?;
    let exchange = async {
        let response = client.request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|_| anyhow::anyhow!("the answer is too large or did not arrive whole"))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    let (status, body) = tokio::time::timeout(STS_DEADLINE, exchange)
        .await
        .map_err(|_| {
            Failure::unknown(anyhow::anyhow!(
                "no answer from {} within 10 s",
                token.host()
            ))
        })?
        .map_err(|error| {
            Failure::unknown(error.context(format!("could not ask {}", token.host())))
        })?;
    let replayed = Replayed {
        partition: args.partition,
        access_key_id: &token.access_key_id(),
        sts_endpoint: token.host(),
        region: token.region_label().as_str(),
    };
    Ok(parse_response(status, &body, &replayed)
        .map(Arc::new)
        .map_err(|error| (error.class().to_string(), error.to_string())))
}

fn map(chain: &Chain, identity: &CallerIdentity) -> Mapping {
    let denied = |reason: String, nearest: Vec<String>| Mapping {
        username: None,
        groups: Vec::new(),
        rule: None,
        reason: Some(reason),
        nearest,
    };
    match chain.map(identity) {
        MappingDecision::Mapped(mapped) => match mapped.required_lookup() {
            Some(instance) => denied(
                format!(
                    "{} needs the name of instance {instance}, which only the server looks up",
                    mapped.rule()
                ),
                Vec::new(),
            ),
            None => match mapped.render(identity, None) {
                Ok(user) => Mapping {
                    username: Some(user.username),
                    groups: user.groups,
                    rule: Some(mapped.rule().to_string()),
                    reason: None,
                    nearest: Vec::new(),
                },
                Err(error) => denied(
                    error.text,
                    error.nearest.iter().map(ToString::to_string).collect(),
                ),
            },
        },
        MappingDecision::AccountAllowed(allowed) => Mapping {
            username: Some(allowed.render(identity).username),
            groups: Vec::new(),
            rule: Some(allowed.rule().to_string()),
            reason: None,
            nearest: Vec::new(),
        },
        MappingDecision::Denied(refused) => {
            let error = refused.explain(identity);
            denied(
                error.text,
                error.nearest.iter().map(ToString::to_string).collect(),
            )
        }
    }
}

fn mapping_chain(args: &VerifyArgs) -> Result<Option<Chain>, Failure> {
    if args.config.is_none() && args.aws_auth.is_none() {
        return Ok(None);
    }
    let options = MappingOptions {
        partition: args.partition,
        ..MappingOptions::default()
    };
    let mut backends: Vec<Backend> = Vec::new();
    if let Some(path) = &args.config {
        let text = settings::read_config(Some(path))?.text;
        let loaded = mounted_file::parse(&text, &options).map_err(|refused| {
            warn(&refused.findings);
            Failure::usage(anyhow::anyhow!(
                "`{}` cannot be used: {refused}",
                path.display()
            ))
        })?;
        warn(&loaded.findings);
        backends.push(MappingTable::new(BackendKind::MountedFile, loaded.entries, &options).into());
    }
    if let Some(path) = &args.aws_auth {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(
                anyhow::Error::new(error).context(format!("could not read `{}`", path.display())),
            )
        })?;
        let map = ConfigMap::parse_manifest(&text, &options).map_err(|error| {
            Failure::usage(anyhow::anyhow!(
                "`{}` cannot be used: {error}",
                path.display()
            ))
        })?;
        warn(&map.findings);
        backends.push(
            MappingTable::new(
                BackendKind::EksConfigMap,
                map.in_force(None, countersign_mapping::OnParseError::KeepLastGood)
                    .0,
                &options,
            )
            .into(),
        );
    }
    Ok(Some(Chain::new(backends, ChainOptions::default())))
}

/// Findings go to stderr: the answer on stdout stays what a program can read.
fn warn(findings: &[Finding]) {
    let mut stderr = std::io::stderr().lock();
    for finding in findings {
        let _ = writeln!(stderr, "{finding}");
    }
}

fn rules(args: &VerifyArgs) -> Result<Rules, Failure> {
    let mut trusted_endpoints = Vec::new();
    let from_environment = || {
        std::env::var("AWS_ENDPOINT_URL")
            .ok()
            .filter(|url| !url.is_empty())
    };
    if let Some(url) = args.endpoint_url.clone().or_else(from_environment) {
        let bare = url.trim_end_matches('/').to_owned();
        trusted_endpoints.push(format!("{bare}/"));
        trusted_endpoints.push(bare);
    }
    let options = Options {
        partition: args.partition,
        trusted_endpoints,
        allow_insecure_trusted_endpoint: true,
        ..Options::default()
    };
    Rules::new(options).map_err(Failure::usage)
}

fn read_token(args: &VerifyArgs) -> Result<String, Failure> {
    let text = match (&args.token, &args.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) if path.as_os_str() != "-" => {
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_INPUT).read_to_string(&mut text))
                .map_err(|error| {
                    Failure::usage(
                        anyhow::Error::new(error)
                            .context(format!("could not read `{}`", path.display())),
                    )
                })?;
            text
        }
        (None, _) => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(MAX_INPUT)
                .read_to_string(&mut text)
                .map_err(Failure::usage)?;
            text
        }
    };
    let text = text.trim();
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let credential: serde_json::Value = serde_json::from_str(text).map_err(Failure::usage)?;
    match credential
        .pointer("/status/token")
        .and_then(serde_json::Value::as_str)
    {
        Some(token) => Ok(token.to_owned()),
        None => Err(Failure::usage(anyhow::anyhow!(
            "the input is JSON, but no ExecCredential with `status.token`"
        ))),
    }
}

fn table(out: &mut dyn Write, report: &Report) -> std::io::Result<()> {
    for step in &report.steps {
        let sign = if step.ok { "ok  " } else { "FAIL" };
        writeln!(out, "{sign} {:<12} {}", step.step, step.detail)?;
    }
    if !report.steps.is_empty() && report.identity.is_some() {
        writeln!(out)?;
    }
    if let Some(identity) = &report.identity {
        pairs(
            out,
            &[
                ("ARN", identity.arn.clone()),
                ("Canonical ARN", identity.canonical_arn.clone()),
                ("Account ID", identity.account_id.clone()),
                ("User ID", identity.user_id.clone()),
                ("Session name", identity.session_name.clone()),
                ("Access key ID", identity.access_key_id.clone()),
                ("STS endpoint", identity.sts_endpoint.clone()),
            ],
        )?;
    }
    let Some(mapping) = &report.mapping else {
        return Ok(());
    };
    match &mapping.username {
        Some(username) => pairs(
            out,
            &[
                ("Username", username.clone()),
                ("Groups", mapping.groups.join(", ")),
                ("Rule", mapping.rule.clone().unwrap_or_default()),
            ],
        ),
        None => {
            writeln!(
                out,
                "Maps to nobody: {}",
                mapping.reason.as_deref().unwrap_or_default()
            )?;
            mapping
                .nearest
                .iter()
                .try_for_each(|miss| writeln!(out, "  nearly: {miss}"))
        }
    }
}

/// What to do about a refusal.
fn hint(reason: &str) -> &'static str {
    match reason {
        "bad_prefix" | "bad_base64" => {
            "a token begins with `k8s-aws-v1.`; was it cut, or is it another kind of token?"
        }
        "bad_host" | "bad_scheme" | "bad_path" => {
            "the token is for another STS: give a custom one with `--endpoint-url`, or another `--partition`"
        }
        "expired" => "tokens live 15 minutes; get a new one",
        "not_yet_valid" => "the clocks of client and server differ",
        "cluster_header_unsigned" => {
            "the token was not made for a cluster; use `get-token`, not a plain presigned URL"
        }
        "sts_rejected:SignatureDoesNotMatch" => {
            "most often the token was made for another cluster id; the secret key may be wrong too"
        }
        "sts_rejected:InvalidClientTokenId" => {
            "the access key is unknown or inactive, or its session token is missing"
        }
        "sts_rejected:ExpiredToken" => "the session behind the token is over; get new credentials",
        "sts_throttled" => "STS throttles; try again in a moment",
        _ => "run again with `--explain`",
    }
}
