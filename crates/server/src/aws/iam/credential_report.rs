//! The credential report (IAM API spec, section 5.3): one line of CSV for the root user and for every user.

use std::borrow::Cow;

use countersign_arn::AccountId;
use countersign_store::records::{AccessKeyStatus, LastUsed, PasswordPolicy};
use countersign_store::{AccessKeyEntry, AccountEntry, UserEntry};
use jiff::{SignedDuration, Timestamp};

use super::error::no_such;
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;

/// A report younger than this is used again.
const FRESH: SignedDuration = SignedDuration::from_hours(4);

const COLUMNS: [&str; 22] = [
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    "access_key_1_active",
    "access_key_1_last_rotated",
    "access_key_1_last_used_date",
    "access_key_1_last_used_region",
    "access_key_1_last_used_service",
    "access_key_2_active",
    "access_key_2_last_rotated",
    "access_key_2_last_used_date",
    "access_key_2_last_used_region",
    "access_key_2_last_used_service",
    "cert_1_active",
    "cert_1_last_rotated",
    "cert_2_active",
    "cert_2_last_rotated",
];

/// Starts a report, or says that there is one. It is made when it is read, so that it is never `INPROGRESS`.
pub(super) async fn generate(call: &Call<'_>) -> Result<Member, ApiError> {
    let started = call
        .directory
        .start_credential_report(call.account()?, FRESH, call.now)
        .await?;
    let state = if started { "STARTED" } else { "COMPLETE" };
    let mut members = vec![("State", Member::Text(state.to_owned()))];
    if started {
        let text = "No report exists. Starting a new report generation task";
        members.push(("Description", Member::Text(text.to_owned())));
    }
    Ok(Member::Structure(members))
}

/// The report. It shows the account as it is when it is read; `GeneratedTime` is when it was asked for, which is never later.
pub(super) fn get(call: &Call<'_>) -> Result<Member, ApiError> {
    let id = call.account()?;
    let account = call
        .snapshot
        .account(id)
        .ok_or_else(|| no_such(format!("The account {id} cannot be found.")))?;
    // AWS sends these two without a message.
    let generated = account
        .record
        .credential_report
        .ok_or_else(|| ApiError::new(410, "ReportNotPresent", ""))?;
    if call.now.duration_since(generated) > FRESH {
        return Err(ApiError::new(410, "ReportExpired", ""));
    }
    let mut report = COLUMNS.join(",");
    push(&mut report, &root(call, account));
    let policy = account.record.password_policy.as_ref();
    for user in call.snapshot.users(id, None) {
        push(&mut report, &row(call, user, policy));
    }
    Ok(Member::Structure(vec![
        ("Content", Member::Blob(report.into_bytes())),
        ("ReportFormat", Member::Text("text/csv".to_owned())),
        ("GeneratedTime", Member::Time(generated)),
    ]))
}

type Row = Vec<Cow<'static, str>>;

fn push(report: &mut String, row: &Row) {
    for (index, value) in row.iter().enumerate() {
        report.push(if index == 0 { '\n' } else { ',' });
        // Paths may have commas and quotes.
        if value.contains([',', '"']) {
            report.push('"');
            report.push_str(&value.replace('"', "\"\""));
            report.push('"');
        } else {
            report.push_str(value);
        }
    }
}

fn root(call: &Call<'_>, account: &AccountEntry) -> Row {
    let record = &account.record;
    let used = call.last_used(record.id.as_str());
    let password = used.and_then(|used| used.password);
    let mut row: Row = vec![
        "<root_account>".into(),
        format!("arn:{}:iam::{}:root", record.partition, record.id).into(),
        time(record.created),
        "not_supported".into(),
        password.map_or("no_information".into(), time),
        "not_supported".into(),
        "not_supported".into(),
        truth(has_root_mfa(call, record.id)),
    ];
    let keys = record
        .root_keys
        .iter()
        .filter_map(|id| Some(call.snapshot.access_key(id)?.key));
    credentials(call, keys, &mut row);
    row
}

fn has_root_mfa(call: &Call<'_>, account: AccountId) -> bool {
    call.snapshot.mfa_devices(account, None).any(|device| {
        let enabled = device.record.enabled.as_ref();
        enabled.is_some_and(|enabled| *enabled.user_id == *account.as_str())
    })
}

fn row(call: &Call<'_>, user: &UserEntry, policy: Option<&PasswordPolicy>) -> Row {
    let record = &user.record;
    let mut row: Row = vec![
        record.name.to_string().into(),
        user.arn.to_string().into(),
        time(record.created),
        truth(record.login.is_some()),
    ];
    match &record.login {
        None => row.extend(["N/A".into(), "N/A".into(), "N/A".into()]),
        Some(login) => {
            let used = call.last_used(&record.id).and_then(|used| used.password);
            let next = policy
                .and_then(|policy| policy.max_age_days)
                .and_then(|days| {
                    let age = SignedDuration::from_hours(i64::from(days) * 24);
                    login.changed.checked_add(age).ok()
                });
            row.push(used.map_or("no_information".into(), time));
            row.push(time(login.changed));
            row.push(next.map_or("N/A".into(), time));
        }
    }
    row.push(truth(!record.mfa_devices.is_empty()));
    let keys = call.snapshot.access_keys_of(user).map(|key| &**key);
    credentials(call, keys, &mut row);
    row
}

/// The columns of two access keys, and of certificates, which nobody has.
fn credentials<'a>(
    call: &Call<'_>,
    mut keys: impl Iterator<Item = &'a AccessKeyEntry>,
    row: &mut Row,
) {
    for _ in 0..2 {
        let key = keys.next();
        let used = key.and_then(|key| call.last_used(&key.id));
        let latest = used.as_ref().and_then(LastUsed::latest);
        let na = || Cow::from("N/A");
        row.push(truth(
            key.is_some_and(|key| key.status == AccessKeyStatus::Active),
        ));
        row.push(key.map_or_else(na, |key| time(key.created)));
        row.push(latest.map_or_else(na, |(_, used)| time(used.at)));
        row.push(latest.map_or_else(na, |(_, used)| used.region.to_string().into()));
        row.push(latest.map_or_else(na, |(service, _)| service.to_owned().into()));
    }
    for _ in 0..2 {
        row.push("false".into());
        row.push("N/A".into());
    }
}

fn truth(value: bool) -> Cow<'static, str> {
    Cow::Borrowed(if value { "true" } else { "false" })
}

fn time(at: Timestamp) -> Cow<'static, str> {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string().into()
}
