//! `countersign sessions`: temporary credentials on the server's machine.

use std::io::{self, Write};

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{ArgGroup, Args, Subcommand};
use countersign_arn::AccountId;
use countersign_server::admin::{
    AdminAnswer, AdminOp, Hidden, SessionReport, SessionSelector, SessionState,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::local::{LocalArgs, read_stdin, unexpected};
use super::settings;
use crate::exit::Exit;
use crate::output::{OutputFormat, pairs};
use crate::report::Failure;

/// A session token, or an answer or ExecCredential around one.
const MAX_INPUT: u64 = 64 << 10;
/// The most that a session token has, see `countersign_session`.
const MAX_TOKEN_CHARS: usize = 2400;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Say what a session token says, and whether its session is valid. Never shows a secret.
    Inspect(InspectArgs),
    /// End sessions before their time.
    Revoke(RevokeArgs),
    /// List the revocations in force.
    Revocations(ListArgs),
    /// Make a new key for session tokens, or end every session with `--revoke`.
    #[command(name = "rotate-keys", alias = "rotate")]
    RotateKeys(RotateArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    aws sts assume-role --role-arn … --role-session-name me | countersign sessions inspect -\n  \
    aws eks get-token --cluster-name demo | countersign sessions inspect -\n  \
    countersign sessions inspect --key-id ASIARTX3GSDS7RSUJJ3G - < token.txt\n\n\
    A token opens only together with the access key id it was issued with. JSON of the AWS CLI and Kubernetes tokens carry\n\
    both; beside a bare session token the id is given with --key-id. Exit code 1: it does not open, or the session is not valid.")]
pub(crate) struct InspectArgs {
    /// Session token, Kubernetes token, or the AWS CLI's JSON; `-` reads standard input. On the command line it is visible to other users of the
    /// machine.
    #[arg(value_name = "TOKEN|-")]
    token: String,
    /// The access key id that goes with a bare session token.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "ASIA…")]
    key_id: Option<String>,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("sessions").required(true),
    after_help = "Examples:\n  \
    countersign sessions revoke --role Developer\n  \
    countersign sessions revoke --role Developer --before 2026-03-14T09:00:00Z\n  \
    countersign sessions revoke --source-identity alice@example.com\n\n\
    Sessions die at once on this server, and on others as soon as they have seen the change. Their holders get ExpiredToken, so that SDKs fetch new\n\
    credentials: take away the right to do so first. A single key gets InvalidClientTokenId. Sessions chained from these are sessions\n\
    of their own; --source-identity names all of a chain."
)]
pub(crate) struct RevokeArgs {
    /// All sessions of this role: its name or ARN.
    #[arg(long, group = "sessions", value_name = "ROLE")]
    role: Option<String>,
    /// The session with this access key id.
    #[arg(long, group = "sessions", value_name = "ASIA…", conflicts_with_all = ["before", "account"])]
    key: Option<String>,
    /// All sessions of this pod identity association.
    #[arg(
        long,
        group = "sessions",
        value_name = "a-…",
        conflicts_with = "account"
    )]
    association: Option<String>,
    /// All sessions issued to workloads of this cluster: its name or ARN.
    #[arg(long, group = "sessions", value_name = "CLUSTER")]
    cluster: Option<String>,
    /// All sessions with this source identity.
    #[arg(long, group = "sessions", value_name = "NAME")]
    source_identity: Option<String>,
    /// The account of role, cluster or source identity, where there are several.
    #[arg(long, value_name = "12 DIGITS")]
    account: Option<AccountId>,
    /// Only sessions issued before this time (RFC 3339); now by default.
    #[arg(long, value_name = "TIME")]
    before: Option<Timestamp>,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  countersign sessions revocations -o json")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    countersign sessions rotate-keys\n  \
    countersign sessions rotate-keys --revoke\n\n\
    Keys rotate by themselves every 7 days. A new key seals after 60 s, when every replica has it; the ones before it open what they sealed for 36 hours\n\
    and 15 minutes. With --revoke all keys are retired this moment and every session of every account dies.")]
pub(crate) struct RotateArgs {
    /// End every session at once.
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    local: LocalArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) fn run(command: &SessionsCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        SessionsCommand::Inspect(args) => inspect(args, out),
        SessionsCommand::Revoke(args) => revoke(args, out),
        SessionsCommand::Revocations(args) => revocations(args, out),
        SessionsCommand::RotateKeys(args) => rotate(args, out),
    }
}

fn inspect(args: &InspectArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let text = if args.token == "-" {
        read_stdin(MAX_INPUT)?
    } else {
        Zeroizing::new(args.token.clone())
    };
    let (token, access_key_id) = credentials(text.trim(), args.key_id.as_deref())?;
    let op = AdminOp::InspectSession {
        token,
        access_key_id,
    };
    let AdminAnswer::Session(report) = settings::block_on(args.local.run(&op))? else {
        return Err(unexpected());
    };
    args.output
        .write(out, &report, |out| session_table(out, &report))?;
    Ok(match report.state {
        SessionState::Valid => Exit::Fine,
        SessionState::Expired | SessionState::Revoked | SessionState::PrincipalGone => Exit::No,
    })
}

fn session_table(out: &mut dyn Write, report: &SessionReport) -> io::Result<()> {
    let mut rows = vec![("state", report.state.as_str().to_owned())];
    let mut optional = |name, value: &Option<String>| {
        rows.extend(value.iter().map(|value| (name, value.clone())));
    };
    optional("reason", &report.reason);
    rows.extend([
        ("arn", report.arn.clone()),
        ("user id", report.user_id.clone()),
        ("principal", report.principal_arn.clone()),
        ("account", report.account.clone()),
        ("kind", report.kind.clone()),
        ("issued", report.issued.to_string()),
        ("expires", report.expires.to_string()),
        (
            "mfa",
            report
                .mfa_at
                .map_or_else(|| "no".to_owned(), |at| at.to_string()),
        ),
        ("chain depth", report.depth.to_string()),
    ]);
    let mut optional = |name, value: &Option<String>| {
        rows.extend(value.iter().map(|value| (name, value.clone())));
    };
    optional("source identity", &report.source_identity);
    optional("session policy", &report.policy);
    optional("network", &report.network);
    optional("made with key", &report.origin_access_key_id);
    optional("made by request", &report.origin_request_id);
    for arn in &report.policy_arns {
        rows.push(("policy arn", arn.clone()));
    }
    for tag in &report.tags {
        let transitive = if tag.transitive { " (transitive)" } else { "" };
        let inherited = if tag.inherited { " (inherited)" } else { "" };
        rows.push((
            "tag",
            format!("{}={}{transitive}{inherited}", tag.key, tag.value),
        ));
    }
    for (name, object) in [
        ("federation", &report.federation),
        ("bound to", &report.binding),
    ] {
        for (field, value) in object.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), Into::into);
            rows.push((name, format!("{field}={value}")));
        }
    }
    rows.extend([
        ("access key id", report.access_key_id.clone()),
        ("sealed with", report.kid.clone()),
        (
            "token size",
            format!("{} of {MAX_TOKEN_CHARS} characters", report.token_chars),
        ),
    ]);
    pairs(out, &rows)
}

fn revoke(args: &RevokeArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let account = args.account;
    let sessions = match args {
        RevokeArgs {
            role: Some(role), ..
        } => SessionSelector::Role {
            account,
            role: role.clone(),
        },
        RevokeArgs { key: Some(key), .. } => SessionSelector::AccessKey {
            access_key_id: key.clone(),
        },
        RevokeArgs {
            association: Some(id),
            ..
        } => SessionSelector::Association {
            association_id: id.clone(),
        },
        RevokeArgs {
            cluster: Some(cluster),
            ..
        } => SessionSelector::Cluster {
            account,
            cluster: cluster.clone(),
        },
        RevokeArgs {
            source_identity: Some(source_identity),
            ..
        } => SessionSelector::SourceIdentity {
            account,
            source_identity: source_identity.clone(),
        },
        _ => {
            return Err(Failure::usage(anyhow!(
                "nothing says which sessions: give one of --role, --key, --association, --cluster, --source-identity"
            )));
        }
    };
    let op = AdminOp::RevokeSessions {
        sessions,
        before: args.before,
    };
    let AdminAnswer::Revoked { row, until } = settings::block_on(args.local.run(&op))? else {
        return Err(unexpected());
    };
    let value = json!({ "revocation": row, "until": until });
    args.output.write(out, &value, |out| {
        pairs(
            out,
            &[
                ("revoked", row.target.id()),
                ("issued before", row.before.to_string()),
                ("kept until", until.to_string()),
            ],
        )
    })?;
    Ok(Exit::Fine)
}

fn revocations(args: &ListArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let answer = settings::block_on(args.local.run(&AdminOp::ListRevocations {}))?;
    let AdminAnswer::Revocations { rows } = answer else {
        return Err(unexpected());
    };
    args.output
        .write(out, &json!({ "revocations": rows }), |out| {
            for row in &rows {
                writeln!(out, "{}  issued before {}", row.target.id(), row.before)?;
            }
            if rows.is_empty() {
                writeln!(out, "Nothing is revoked.")?;
            }
            Ok(())
        })?;
    Ok(Exit::Fine)
}

fn rotate(args: &RotateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let op = AdminOp::RotateSessionKeys {
        revoke: args.revoke,
    };
    let AdminAnswer::SessionKeys { keys } = settings::block_on(args.local.run(&op))? else {
        return Err(unexpected());
    };
    args.output.write(out, &json!({ "keys": keys }), |out| {
        for key in &keys {
            write!(
                out,
                "{}  {}  made {}  seals from {}",
                key.kid, key.state, key.created, key.seals_from
            )?;
            if let Some(until) = key.opens_until {
                write!(out, "  opens until {until}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    })?;
    Ok(Exit::Fine)
}

/// Session token and access key id, from whatever carries them.
fn credentials(text: &str, key_id: Option<&str>) -> Result<(Hidden, String), Failure> {
    if text.starts_with('{') {
        let found: Carrier = serde_json::from_str(text).map_err(|_| {
            Failure::usage(anyhow!(
                "the JSON is none of the AWS CLI's and no ExecCredential"
            ))
        })?;
        if let Some(token) = found.status.and_then(|status| status.token) {
            return of_kubernetes_token(token.expose());
        }
        let flat = Some(Keys {
            access_key_id: found.access_key_id,
            session_token: found.session_token,
        });
        return match found.credentials.or(flat) {
            Some(Keys {
                access_key_id: Some(id),
                session_token: Some(token),
            }) => Ok((token, id)),
            _ => Err(Failure::usage(anyhow!(
                "the JSON has no `AccessKeyId` and `SessionToken`; those of long-term keys have none"
            ))),
        };
    }
    if text.starts_with(countersign_token::PREFIX) {
        return of_kubernetes_token(text);
    }
    match key_id {
        Some(id) => Ok((Hidden::new(text), id.to_owned())),
        None => Err(Failure::usage(anyhow!(
            "a session token opens only with the access key id it was issued with"
        ))
        .hint("give it with `--key-id ASIA…`")),
    }
}

/// An answer of STS, the credential process form, or an ExecCredential.
#[derive(Deserialize)]
struct Carrier {
    #[serde(rename = "Credentials")]
    credentials: Option<Keys>,
    #[serde(rename = "AccessKeyId")]
    access_key_id: Option<String>,
    #[serde(rename = "SessionToken")]
    session_token: Option<Hidden>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Keys {
    #[serde(rename = "AccessKeyId")]
    access_key_id: Option<String>,
    #[serde(rename = "SessionToken")]
    session_token: Option<Hidden>,
}

#[derive(Deserialize)]
struct Status {
    token: Option<Hidden>,
}

/// What a Kubernetes token was presigned with. Whether the token itself is any good is asked of `countersign verify`.
fn of_kubernetes_token(text: &str) -> Result<(Hidden, String), Failure> {
    let malformed = || Failure::usage(anyhow!("the Kubernetes token is not a presigned URL"));
    let body = text
        .strip_prefix(countersign_token::PREFIX)
        .ok_or_else(malformed)?;
    let url = Zeroizing::new(
        URL_SAFE_NO_PAD
            .decode(body.trim_end_matches('='))
            .map_err(|_| malformed())?,
    );
    let url = std::str::from_utf8(&url).map_err(|_| malformed())?;
    let (_, query) = url.split_once('?').ok_or_else(malformed)?;
    let parameter = |wanted: &str| {
        query.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.eq_ignore_ascii_case(wanted)
                .then(|| unescaped(value))
                .flatten()
        })
    };
    let credential = parameter("X-Amz-Credential").ok_or_else(malformed)?;
    let id = credential.split('/').next().unwrap_or_default().to_owned();
    match parameter("X-Amz-Security-Token") {
        Some(token) => Ok((Hidden::new(token), id)),
        None => Err(Failure::usage(anyhow!(
            "the Kubernetes token was made with the long-term key `{}`, not with a session",
            id.escape_debug()
        ))),
    }
}

/// Percent-decoded text.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_in_whatever_carries_them() {
        let url = "https://sts.example/?Action=GetCallerIdentity&X-Amz-Credential=ASIAX%2F20260314%2Fus-east-1&\
                   X-Amz-Security-Token=CS1.k.a%2Db";
        let kubernetes = format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url));
        let exec = json!({"kind": "ExecCredential", "status": {"token": kubernetes}}).to_string();
        for (text, key_id) in [
            ("CS1.k.a-b", Some("ASIAX")),
            (kubernetes.as_str(), None),
            (kubernetes.as_str(), Some("AKIAOTHER")),
            (exec.as_str(), None),
            (
                r#"{"Credentials": {"AccessKeyId": "ASIAX", "SecretAccessKey": "s", "SessionToken": "CS1.k.a-b"}, "x": 1}"#,
                None,
            ),
            (
                r#"{"Version": 1, "AccessKeyId": "ASIAX", "SecretAccessKey": "s", "SessionToken": "CS1.k.a-b"}"#,
                None,
            ),
        ] {
            let (token, id) = credentials(text, key_id).unwrap();
            assert_eq!(
                (token.expose(), id.as_str()),
                ("CS1.k.a-b", "ASIAX"),
                "{text}"
            );
        }
        let long_term = url.replace("&X-Amz-Security-Token=CS1.k.a%2Db", "");
        let long_term = format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(long_term));
        for text in [
            "CS1.k.a-b",
            "{}",
            "{\"Credentials\": 7}",
            "{\"AccessKeyId\": \"ASIAX\"}",
            "k8s-aws-v1.!",
            "k8s-aws-v1.aGVsbG8",
            &long_term,
        ] {
            let refused = credentials(text, None).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{text}");
        }
    }
}
