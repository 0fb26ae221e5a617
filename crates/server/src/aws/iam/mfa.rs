//! MFA devices (IAM API spec, section 4.17).

use countersign_arn::CallerKind;
use countersign_store::{MfaDeviceEntry, MfaOwner, NewMfaDevice, Principal};

use super::error::{no_such, no_such_user};
use super::{new_tags, qr_code, tag_list, users};
use crate::aws::ApiError;
use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::kinds::{
    ASSIGNMENT_STATUS, AUTHENTICATION_CODE, MARKER, MAX_ITEMS, NAME_64, NAME_128, NAME_ANY, PATH,
    SERIAL_NUMBER, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateVirtualMFADevice",
        &[
            optional("Path", PATH),
            required("VirtualMFADeviceName", NAME_ANY),
            optional("Tags", TAGS),
        ],
        creates(Target::MfaName("VirtualMFADeviceName")).tagging("iam:TagMFADevice"),
        Answer::Write(|call| Box::pin(create_virtual_device(call))),
    ),
    iam(
        "EnableMFADevice",
        &[
            required("UserName", NAME_128),
            required("SerialNumber", SERIAL_NUMBER),
            required("AuthenticationCode1", AUTHENTICATION_CODE),
            required("AuthenticationCode2", AUTHENTICATION_CODE),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(enable_device(call))),
    ),
    iam(
        "ResyncMFADevice",
        &[
            required("UserName", NAME_128),
            required("SerialNumber", SERIAL_NUMBER),
            required("AuthenticationCode1", AUTHENTICATION_CODE),
            required("AuthenticationCode2", AUTHENTICATION_CODE),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(resync_device(call))),
    ),
    iam(
        "DeactivateMFADevice",
        &[
            optional("UserName", NAME_128),
            required("SerialNumber", SERIAL_NUMBER),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(deactivate_device(call))),
    ),
    iam(
        "DeleteVirtualMFADevice",
        &[required("SerialNumber", SERIAL_NUMBER)],
        on(Target::Serial("SerialNumber")),
        Answer::Write(|call| Box::pin(delete_virtual_device(call))),
    ),
    iam(
        "ListMFADevices",
        &[
            optional("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::Read(list_devices),
    ),
    iam(
        "ListVirtualMFADevices",
        &[
            optional("AssignmentStatus", ASSIGNMENT_STATUS),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::Read(list_virtual_devices),
    ),
    iam(
        "GetMFADevice",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            optional("UserName", NAME_64),
        ],
        on(Target::User("UserName")),
        Answer::Read(get_device),
    ),
];

async fn create_virtual_device(call: &Call<'_>) -> Result<Member, ApiError> {
    let account = call.account()?;
    let new = NewMfaDevice {
        account,
        name: call.input.required("VirtualMFADeviceName").into(),
        path: call.input.text("Path").unwrap_or("/").into(),
        tags: new_tags(call)?,
    };
    let created = call.directory.create_mfa_device(new, call.now).await?;
    let record = &created.record;
    let alias = call
        .snapshot
        .account(account)
        .and_then(|account| account.record.alias.as_deref())
        .unwrap_or(account.as_str());
    let seed = created.seed.expose();
    let picture = qr_code::png(&qr_code::key_uri(&record.name, alias, seed))?;
    let mut members = vec![
        ("SerialNumber", Member::Text(record.arn())),
        ("Base32StringSeed", Member::Blob(seed.as_bytes().to_vec())),
        ("QRCodePNG", Member::Blob(picture)),
    ];
    if !record.tags.is_empty() {
        members.push(("Tags", tag_list(&record.tags)));
    }
    Ok(Member::Structure(vec![(
        "VirtualMFADevice",
        Member::Structure(members),
    )]))
}

async fn enable_device(call: &Call<'_>) -> Result<Member, ApiError> {
    let (serial, codes) = (call.input.required("SerialNumber"), codes(call));
    call.directory
        .enable_mfa_device(call.account()?, owner(call)?, serial, codes, call.now)
        .await?;
    Ok(Member::None)
}

async fn resync_device(call: &Call<'_>) -> Result<Member, ApiError> {
    let (serial, codes) = (call.input.required("SerialNumber"), codes(call));
    call.directory
        .resync_mfa_device(call.account()?, owner(call)?, serial, codes, call.now)
        .await?;
    Ok(Member::None)
}

async fn deactivate_device(call: &Call<'_>) -> Result<Member, ApiError> {
    let serial = call.input.required("SerialNumber");
    call.directory
        .deactivate_mfa_device(call.account()?, owner(call)?, serial)
        .await?;
    Ok(Member::None)
}

async fn delete_virtual_device(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_mfa_device(call.account()?, call.input.required("SerialNumber"))
        .await?;
    Ok(Member::None)
}

fn list_devices(call: &Call<'_>) -> Result<Member, ApiError> {
    let (name, id) = named_owner(call)?;
    let page = PageRequest::of(call)?;
    let devices = call
        .snapshot
        .mfa_devices(call.account()?, page.after())
        .filter(|device| is_of(device, &id));
    let page = page.page(call, devices, |device| device.record.name.to_string())?;
    Ok(page.answer("MFADevices", |device| {
        let mut members = vec![
            ("UserName", Member::Text(name.clone())),
            ("SerialNumber", Member::Text(device.arn.to_string())),
        ];
        members.extend(enable_date(device));
        Member::Structure(members)
    }))
}

/// Devices of the account; neither seeds nor tags are shown.
fn list_virtual_devices(call: &Call<'_>) -> Result<Member, ApiError> {
    let assigned = match call.input.text("AssignmentStatus") {
        Some("Assigned") => Some(true),
        Some("Unassigned") => Some(false),
        _ => None,
    };
    let page = PageRequest::of(call)?;
    let devices = call
        .snapshot
        .mfa_devices(call.account()?, page.after())
        .filter(|device| assigned.is_none_or(|wanted| device.record.enabled.is_some() == wanted));
    let page = page.page(call, devices, |device| device.record.name.to_string())?;
    Ok(page.answer("VirtualMFADevices", |device| {
        let mut members = vec![("SerialNumber", Member::Text(device.arn.to_string()))];
        members.extend(enable_date(device));
        members.extend(user_of(call, device).map(|user| ("User", user)));
        Member::Structure(members)
    }))
}

fn get_device(call: &Call<'_>) -> Result<Member, ApiError> {
    let serial = call.input.required("SerialNumber");
    let (account, (name, id)) = (call.account()?, named_owner(call)?);
    let device = call
        .snapshot
        .mfa_device_by_serial(serial)
        .filter(|device| device.record.account == account && is_of(device, &id))
        .ok_or_else(|| {
            no_such(format!(
                "MFA Device with serial number {serial} does not exist."
            ))
        })?;
    let mut members = vec![
        ("UserName", Member::Text(name)),
        ("SerialNumber", Member::Text(device.arn.to_string())),
    ];
    members.extend(enable_date(device));
    Ok(Member::Structure(members))
}

fn codes<'p>(call: &Call<'p>) -> [&'p str; 2] {
    [
        call.input.required("AuthenticationCode1"),
        call.input.required("AuthenticationCode2"),
    ]
}

/// Whose device is meant. The root user leaves the name out; where it must be given, it gives the account's id.
fn owner<'c>(call: &'c Call<'_>) -> Result<MfaOwner<'c>, ApiError> {
    let account = call.account()?;
    let root = call.caller()?.identity().caller().kind() == CallerKind::Root;
    match call.input.text("UserName") {
        None if root => Ok(MfaOwner::Root),
        None => Ok(MfaOwner::User(call.own_user_name()?)),
        Some(name)
            if root && name == account.as_str() && call.snapshot.user(account, name).is_none() =>
        {
            Ok(MfaOwner::Root)
        }
        Some(name) => Ok(MfaOwner::User(name)),
    }
}

/// Name and unique id of whose devices are asked for; both are the account's id for the root user.
fn named_owner(call: &Call<'_>) -> Result<(String, String), ApiError> {
    let account = call.account()?;
    match owner(call)? {
        MfaOwner::Root => Ok((account.to_string(), account.to_string())),
        MfaOwner::User(name) => {
            let user = call
                .snapshot
                .user(account, name)
                .ok_or_else(|| no_such_user(name))?;
            Ok((user.record.name.to_string(), user.record.id.to_string()))
        }
    }
}

fn is_of(device: &MfaDeviceEntry, id: &str) -> bool {
    device
        .record
        .enabled
        .as_ref()
        .is_some_and(|enabled| *enabled.user_id == *id)
}

fn enable_date(device: &MfaDeviceEntry) -> Option<(&'static str, Member)> {
    let enabled = device.record.enabled.as_ref()?;
    Some(("EnableDate", Member::Time(enabled.at)))
}

/// Whose a device is; the root user has no name.
fn user_of(call: &Call<'_>, device: &MfaDeviceEntry) -> Option<Member> {
    let id = &device.record.enabled.as_ref()?.user_id;
    if let Some(Principal::User(user)) = call.snapshot.principal(id) {
        return Some(Member::Structure(users::listed(call, &user.record)));
    }
    let account = call.snapshot.account(device.record.account)?;
    let record = &account.record;
    (**id == *record.id.as_str()).then(|| {
        let arn = format!("arn:{}:iam::{}:root", record.partition, record.id);
        Member::Structure(vec![
            ("UserId", Member::Text(record.id.to_string())),
            ("Arn", Member::Text(arn)),
            ("CreateDate", Member::Time(record.created)),
        ])
    })
}
