//! Tags (IAM API spec, section 4.11).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, MARKER, MAX_ITEMS, NAME_64, NAME_128, SERIAL_NUMBER, TAG_KEYS, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use countersign_store::{Taggable, Thing};

use super::{NOT_YOURS_TO_UPDATE, tag_member, visible_policy};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "TagUser",
        &[required("UserName", NAME_128), required("Tags", TAGS)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(tag(call, Kind::User))),
    ),
    iam(
        "UntagUser",
        &[
            required("UserName", NAME_128),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(untag(call, Kind::User))),
    ),
    iam(
        "ListUserTags",
        &[
            required("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::Read(|call| list(call, Kind::User)),
    ),
    iam(
        "TagRole",
        &[required("RoleName", NAME_64), required("Tags", TAGS)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(tag(call, Kind::Role))),
    ),
    iam(
        "UntagRole",
        &[required("RoleName", NAME_64), required("TagKeys", TAG_KEYS)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(untag(call, Kind::Role))),
    ),
    iam(
        "ListRoleTags",
        &[
            required("RoleName", NAME_64),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::Read(|call| list(call, Kind::Role)),
    ),
    iam(
        "TagPolicy",
        &[required("PolicyArn", ARN), required("Tags", TAGS)],
        on(Target::Arn("PolicyArn")),
        Answer::Write(|call| Box::pin(tag(call, Kind::Policy))),
    ),
    iam(
        "UntagPolicy",
        &[required("PolicyArn", ARN), required("TagKeys", TAG_KEYS)],
        on(Target::Arn("PolicyArn")),
        Answer::Write(|call| Box::pin(untag(call, Kind::Policy))),
    ),
    iam(
        "ListPolicyTags",
        &[
            required("PolicyArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::Read(|call| list(call, Kind::Policy)),
    ),
    iam(
        "TagInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("Tags", TAGS),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::Write(|call| Box::pin(tag(call, Kind::InstanceProfile))),
    ),
    iam(
        "UntagInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::Write(|call| Box::pin(untag(call, Kind::InstanceProfile))),
    ),
    iam(
        "ListInstanceProfileTags",
        &[
            required("InstanceProfileName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::Read(|call| list(call, Kind::InstanceProfile)),
    ),
    iam(
        "TagOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("Tags", TAGS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Write(|call| Box::pin(tag(call, Kind::OidcProvider))),
    ),
    iam(
        "UntagOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Write(|call| Box::pin(untag(call, Kind::OidcProvider))),
    ),
    iam(
        "ListOpenIDConnectProviderTags",
        &[
            required("OpenIDConnectProviderArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Read(|call| list(call, Kind::OidcProvider)),
    ),
    iam(
        "TagSAMLProvider",
        &[required("SAMLProviderArn", ARN), required("Tags", TAGS)],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Write(|call| Box::pin(tag(call, Kind::SamlProvider))),
    ),
    iam(
        "UntagSAMLProvider",
        &[
            required("SAMLProviderArn", ARN),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Write(|call| Box::pin(untag(call, Kind::SamlProvider))),
    ),
    iam(
        "ListSAMLProviderTags",
        &[
            required("SAMLProviderArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Read(|call| list(call, Kind::SamlProvider)),
    ),
    iam(
        "TagMFADevice",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            required("Tags", TAGS),
        ],
        on(Target::Serial("SerialNumber")),
        Answer::Write(|call| Box::pin(tag(call, Kind::MfaDevice))),
    ),
    iam(
        "UntagMFADevice",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::Serial("SerialNumber")),
        Answer::Write(|call| Box::pin(untag(call, Kind::MfaDevice))),
    ),
    iam(
        "ListMFADeviceTags",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Serial("SerialNumber")),
        Answer::Read(|call| list(call, Kind::MfaDevice)),
    ),
    iam(
        "TagServerCertificate",
        &[
            required("ServerCertificateName", NAME_128),
            required("Tags", TAGS),
        ],
        on(Target::ServerCertificate("ServerCertificateName")),
        Answer::NotOffered,
    ),
    iam(
        "UntagServerCertificate",
        &[
            required("ServerCertificateName", NAME_128),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::ServerCertificate("ServerCertificateName")),
        Answer::NotOffered,
    ),
    iam(
        "ListServerCertificateTags",
        &[
            required("ServerCertificateName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::ServerCertificate("ServerCertificateName")),
        Answer::NotOffered,
    ),
];

/// What has tags.
#[derive(Debug, Clone, Copy)]
enum Kind {
    User,
    Role,
    Policy,
    InstanceProfile,
    OidcProvider,
    SamlProvider,
    MfaDevice,
}

impl Kind {
    fn named<'a>(self, call: &Call<'a>) -> Taggable<'a> {
        let input = &call.input;
        match self {
            Self::User => Taggable::User(input.required("UserName")),
            Self::Role => Taggable::Role(input.required("RoleName")),
            Self::Policy => Taggable::Policy(input.required("PolicyArn")),
            Self::InstanceProfile => {
                Taggable::InstanceProfile(input.required("InstanceProfileName"))
            }
            Self::OidcProvider => {
                Taggable::OidcProvider(input.required("OpenIDConnectProviderArn"))
            }
            Self::SamlProvider => Taggable::SamlProvider(input.required("SAMLProviderArn")),
            Self::MfaDevice => Taggable::MfaDevice(input.required("SerialNumber")),
        }
    }

    /// Policies of AWS have no tags, and nobody gives them any.
    fn check_owner(self, call: &Call<'_>) -> Result<(), ApiError> {
        match self {
            Self::Policy => super::own_policy_arn(call, NOT_YOURS_TO_UPDATE).map(|_| ()),
            Self::User
            | Self::Role
            | Self::InstanceProfile
            | Self::OidcProvider
            | Self::SamlProvider
            | Self::MfaDevice => Ok(()),
        }
    }
}

async fn tag(call: &Call<'_>, kind: Kind) -> Result<Member, ApiError> {
    let tags = match kind {
        Kind::Policy => super::new_policy_tags(call)?,
        _ => super::new_tags(call)?,
    };
    kind.check_owner(call)?;
    call.directory
        .tag(call.account()?, kind.named(call), &tags)
        .await?;
    Ok(Member::None)
}

async fn untag(call: &Call<'_>, kind: Kind) -> Result<Member, ApiError> {
    kind.check_owner(call)?;
    call.directory
        .untag(
            call.account()?,
            kind.named(call),
            &call.input.texts("TagKeys"),
        )
        .await?;
    Ok(Member::None)
}

fn list(call: &Call<'_>, kind: Kind) -> Result<Member, ApiError> {
    let tags = match kind.named(call) {
        Taggable::Policy(arn) if visible_policy(call, arn, Thing::ManagedPolicy)?.is_aws() => {
            Vec::new()
        }
        what => what.tags(&call.snapshot, call.account()?)?,
    };
    let page = PageRequest::of(call)?.positions(call, tags.iter())?;
    Ok(page.answer("Tags", tag_member))
}
