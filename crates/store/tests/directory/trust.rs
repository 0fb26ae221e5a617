//! Trust policies mean the principals that had the names when they were written.

use countersign_policy::PolicyKind;
use countersign_policy::validate::validate;
use countersign_store::records::TrustPolicy;
use countersign_store::{Directory, NewRole};

use crate::{account, new_role, new_user, now, with_account};

fn naming(principal: &str) -> String {
    format!(
        " \n{{\"Version\": \"2012-10-17\",\t\"Statement\": [{{\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": {principal}}}, \
         \"Action\": \"sts:AssumeRole\"}}]}} \r\n"
    )
}

fn checked(directory: &Directory, text: &str) -> Result<TrustPolicy, String> {
    let snapshot = directory.snapshot();
    match validate(text, PolicyKind::Trust, &*snapshot) {
        Ok(valid) => Ok(TrustPolicy::new(text, &valid.principal_ids)),
        Err(rejection) => Err(rejection.message),
    }
}

#[tokio::test]
async fn a_principal_that_goes_is_shown_as_its_id_and_does_not_come_back() {
    let (_, directory) = with_account().await;
    let user = directory.create_user(new_user("ana"), now()).await.unwrap();
    let role = NewRole {
        path: "/team/".into(),
        ..new_role("ops")
    };
    let role = directory.create_role(role, now()).await.unwrap();
    let (user_arn, role_arn) = (user.arn(), role.arn());
    let text = naming(&format!(
        "[\"{user_arn}\",\n \"arn:aws:iam::111122223333:root\", \"{role_arn}\", \"{}\"]",
        user.id
    ));
    let trust = checked(&directory, &text).unwrap();
    assert_eq!(trust.principals.len(), 2);
    let shown = |trust: &TrustPolicy| directory.snapshot().shown_trust_policy(trust).into_owned();
    let id_as_arn = text.replace(&format!("\"{}\"", user.id), &format!("\"{user_arn}\""));
    assert_eq!(shown(&trust), id_as_arn);
    directory.delete_user(account(0), "ana").await.unwrap();
    let gone = text.replace(&user_arn, &user.id);
    assert_eq!(shown(&trust), gone);
    directory.create_user(new_user("ana"), now()).await.unwrap();
    assert_eq!(shown(&trust), gone);
    directory.delete_role(account(0), "ops").await.unwrap();
    assert_eq!(shown(&trust), gone.replace(&role_arn, &role.id));
}

#[tokio::test]
async fn a_policy_whose_principals_are_as_written_is_shown_byte_for_byte() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    for principal in [
        "\"arn:aws:iam::111122223333:user/ana\"",
        "\"arn:aws:\\u0069am::111122223333:user/ana\"",
        "\"arn:aws:iam::999999999999:root\"",
        "[\"111122223333\",\"*\"]",
        "\"arn:aws:sts::111122223333:assumed-role/ops/session\"",
    ] {
        let text = naming(principal);
        let trust = checked(&directory, &text).unwrap();
        assert_eq!(directory.snapshot().shown_trust_policy(&trust), text);
    }
}

#[tokio::test]
async fn principals_that_do_not_exist_are_refused() {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    for principal in [
        "arn:aws:iam::111122223333:user/bo",
        "arn:aws:iam::111122223333:user/Ana",
        "arn:aws:iam::111122223333:user/team/ana",
        "arn:aws-cn:iam::111122223333:user/ana",
        "arn:aws:iam::999999999999:user/ana",
        "arn:aws:iam::111122223333:role/ana",
        "arn:aws:iam::111122223333:group/ana",
        "AIDAAAAAAAAAAAAAAAAAA",
        "ana",
    ] {
        let refused = checked(&directory, &naming(&format!("\"{principal}\"")));
        assert_eq!(
            refused.unwrap_err(),
            format!("Invalid principal in policy: \"AWS\":\"{principal}\"")
        );
    }
}
