//! What is done about objects and associations, as tables.

use std::collections::BTreeMap;

use countersign_arn::{AccountId, Partition};
use countersign_pods::{AllowRule, AssociationSpec};
use countersign_store::NewPodIdentityAssociation;
use countersign_store::records::{
    AuthenticationMode, Cluster, ClusterSettings, Creator, PodIdentityAssociation, object_owner,
};
use serde_json::json;

use super::*;
use crate::aws::ObjectRefusal;

const CART: &str = "arn:aws:iam::111122223333:role/pods/shop/cart";
const TILL: &str = "arn:aws:iam::111122223333:role/pods/shop/till";
const ADMIN: &str = "arn:aws:iam::111122223333:role/admin";
const UNTRUSTING: &str = "arn:aws:iam::111122223333:role/pods/shop/untrusting";
const MADE: &str = "a-0123456789abcdefg";

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn cluster() -> Cluster {
    Cluster {
        account: account(),
        partition: Partition::Aws,
        region: "us-east-1".into(),
        name: "demo".into(),
        id: "0123456789ABCDEF0123456789ABCDEF".into(),
        authentication_mode: AuthenticationMode::Api,
        bootstrap_creator_admin: true,
        creator: Creator {
            principal_arn: "arn:aws:iam::111122223333:user/ana".into(),
            principal_id: "AIDAANA0000000000001".into(),
        },
        endpoint: None,
        certificate_authority: None,
        role_arn: None,
        version: None,
        tags: Vec::new(),
        deletion_protection: false,
        settings: ClusterSettings::default(),
        created: Timestamp::UNIX_EPOCH,
        settles: None,
        update: None,
        deleting: None,
    }
}

/// An association for `shop/ACCOUNT`, of an object if one is named.
fn made(
    id: &str,
    service_account: &str,
    role: &str,
    object: Option<&str>,
) -> PodIdentityAssociation {
    PodIdentityAssociation {
        account: account(),
        cluster_id: cluster().id,
        id: id.into(),
        namespace: "shop".into(),
        service_account: service_account.into(),
        role_arn: role.into(),
        target_role_arn: None,
        disable_session_tags: None,
        policy: None,
        owner_arn: object.map(|name| object_owner(&cluster(), "shop", name).into()),
        sessions: Default::default(),
        tags: Vec::new(),
        created: Timestamp::UNIX_EPOCH,
        modified: Timestamp::UNIX_EPOCH,
    }
}

/// An object in `shop`, made at this second.
fn object(name: &str, created: i64, service_account: &str, role: &str) -> AssociationObject {
    let written = json!({"serviceAccount": service_account, "roleArn": role});
    AssociationObject {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid of {name}").into(),
        version: "7".into(),
        generation: Some(1),
        created,
        deleting: false,
        is_labelled_mirror: false,
        spec: AssociationSpec::parse(&written),
        written,
        status: Value::Null,
    }
}

fn with(
    object: AssociationObject,
    change: impl FnOnce(&mut AssociationObject),
) -> AssociationObject {
    let mut object = object;
    change(&mut object);
    object
}

/// The plan, line by line.
fn planned(
    associations: &[PodIdentityAssociation],
    objects: &[AssociationObject],
    mirror: bool,
) -> Vec<String> {
    let allow = AllowList::new(vec![AllowRule {
        namespaces: vec!["shop".into()],
        roles: vec!["arn:aws:iam::111122223333:role/pods/${namespace}/*".into()],
        ..AllowRule::default()
    }])
    .unwrap();
    let objects: BTreeMap<_, _> = objects
        .iter()
        .map(|object| (object.key(), Arc::new(object.clone())))
        .collect();
    let cluster = cluster();
    let check = |new: &NewPodIdentityAssociation| match &*new.role_arn {
        UNTRUSTING => Err(ObjectRefusal::new("RoleNotTrusting", "no")),
        _ => Ok(()),
    };
    let plan = plan::plan(&Inputs {
        cluster: &cluster,
        associations: &associations.iter().collect::<Vec<_>>(),
        objects: &objects,
        allow: &allow,
        mirror,
        check: &check,
    });
    let mut lines = Vec::new();
    for (key, verdict) in &plan.verdicts {
        let said = match verdict {
            Verdict::Accepted { id, .. } => format!("accepted as {id}"),
            Verdict::Pending => "pending".to_owned(),
            Verdict::Mirrored { id, .. } => format!("mirror of {id}"),
            Verdict::Conflict { with } => format!("conflict with {with}"),
            Verdict::Refused(refusal) => format!("refused {}", refusal.reason),
        };
        lines.push(format!("{}: {said}", key.1));
    }
    let role = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
    for put in &plan.puts {
        let (account, role) = (&put.new.service_account, role(&put.new.role_arn));
        lines.push(format!("put {account} {role} by {}", put.object.name));
    }
    for gone in &plan.gone {
        lines.push(format!("delete {} of {}", gone.id, gone.object.1));
    }
    for (key, spec) in &plan.new_mirrors {
        lines.push(format!("show {} {spec}", key.1));
    }
    for (object, patch) in &plan.edited_mirrors {
        let patch = patch.as_ref().map(Value::to_string).unwrap_or_default();
        lines.push(format!("put back {} {patch}", object.name));
    }
    for object in &plan.old_mirrors {
        lines.push(format!("take away {}", object.name));
    }
    lines
}

#[test]
fn objects_become_associations() {
    let cart = object("cart", 5, "cart", CART);
    let of_cart = made("a-1", "cart", CART, Some("cart"));
    let by_api = made(MADE, "cart", TILL, None);
    let younger = object("other", 9, "cart", TILL);
    for (what, associations, objects, expected) in [
        (
            "a new object",
            vec![],
            vec![cart.clone()],
            &["cart: pending", "put cart cart by cart"] as &[&str],
        ),
        (
            "nothing to do",
            vec![of_cart.clone()],
            vec![cart.clone()],
            &["cart: accepted as a-1"],
        ),
        (
            "a changed object",
            vec![of_cart.clone()],
            vec![object("cart", 5, "cart", TILL)],
            &["cart: pending", "put cart till by cart"],
        ),
        (
            "another service account",
            vec![of_cart.clone()],
            vec![object("cart", 5, "till", CART)],
            &[
                "cart: pending",
                "put till cart by cart",
                "delete a-1 of cart",
            ],
        ),
        (
            "the object is gone",
            vec![of_cart.clone()],
            vec![],
            &["delete a-1 of cart"],
        ),
        (
            "the object is going",
            vec![of_cart.clone()],
            vec![with(cart.clone(), |object| object.deleting = true)],
            &["delete a-1 of cart"],
        ),
        (
            "the role is not on the operator's list any more",
            vec![made("a-1", "cart", ADMIN, Some("cart"))],
            vec![object("cart", 5, "cart", ADMIN)],
            &["cart: refused RoleNotAllowed", "delete a-1 of cart"],
        ),
        (
            "a role that does not trust the service",
            vec![],
            vec![object("cart", 5, "cart", UNTRUSTING)],
            &["cart: refused RoleNotTrusting"],
        ),
        (
            "a role that trusted when the association was made",
            vec![made("a-1", "cart", UNTRUSTING, Some("cart"))],
            vec![object("cart", 5, "cart", UNTRUSTING)],
            &["cart: accepted as a-1"],
        ),
        (
            "what cannot be read",
            vec![],
            vec![with(cart.clone(), |object| object.spec = Err("x".into()))],
            &["cart: refused InvalidSpec"],
        ),
        (
            "two for one service account",
            vec![],
            vec![younger.clone(), cart.clone()],
            &[
                "cart: pending",
                "other: conflict with the older object cart",
                "put cart cart by cart",
            ],
        ),
        (
            "an older one comes to sense",
            vec![made("a-1", "cart", TILL, Some("other"))],
            vec![younger.clone(), cart.clone()],
            &[
                "cart: pending",
                "other: conflict with the older object cart",
                "put cart cart by cart",
            ],
        ),
        (
            "an older one that gives nothing",
            vec![],
            vec![younger, object("cart", 5, "cart", ADMIN)],
            &[
                "cart: refused RoleNotAllowed",
                "other: pending",
                "put cart till by other",
            ],
        ),
        (
            "the EKS API was first",
            vec![by_api.clone()],
            vec![cart.clone()],
            &["cart: conflict with the association a-0123456789abcdefg of the EKS API"],
        ),
        (
            "an add-on was first",
            vec![PodIdentityAssociation {
                owner_arn: Some("arn:aws:eks:us-east-1:111122223333:addon/demo/vpc-cni/x".into()),
                ..by_api
            }],
            vec![cart.clone()],
            &[
                "cart: conflict with the association a-0123456789abcdefg of \
                 arn:aws:eks:us-east-1:111122223333:addon/demo/vpc-cni/x",
            ],
        ),
        (
            "a label makes no mirror",
            vec![],
            vec![with(cart, |object| object.is_labelled_mirror = true)],
            &["cart: pending", "put cart cart by cart"],
        ),
    ] {
        assert_eq!(planned(&associations, &objects, false), expected, "{what}");
    }
}

#[test]
fn associations_become_objects_that_stay_what_they_are() {
    let by_api = made(MADE, "cart", ADMIN, None);
    let mirror = with(object(MADE, 9, "cart", ADMIN), |object| {
        object.is_labelled_mirror = true;
    });
    let line = format!("{MADE}: mirror of {MADE}");
    let edited = |written: Value| {
        with(mirror.clone(), |object| {
            object.spec = AssociationSpec::parse(&written);
            object.written = written;
        })
    };
    for (what, associations, objects, expected) in [
        (
            "one without an object",
            vec![by_api.clone()],
            vec![],
            vec![format!(
                r#"show {MADE} {{"roleArn":"{ADMIN}","serviceAccount":"cart"}}"#
            )],
        ),
        (
            "nothing to do",
            vec![by_api.clone()],
            vec![mirror.clone()],
            vec![line.clone()],
        ),
        (
            "an edited role, and a member too many",
            vec![by_api.clone()],
            vec![edited(
                json!({"serviceAccount": "cart", "roleArn": CART, "disableSessionTags": true}),
            )],
            vec![
                line.clone(),
                format!(r#"put back {MADE} {{"disableSessionTags":null,"roleArn":"{ADMIN}"}}"#),
            ],
        ),
        (
            "a label that was taken away",
            vec![by_api.clone()],
            vec![with(mirror.clone(), |object| {
                object.is_labelled_mirror = false;
            })],
            vec![line, format!("put back {MADE} ")],
        ),
        (
            "the association is gone",
            vec![],
            vec![mirror],
            vec![format!("take away {MADE}")],
        ),
        (
            "one of an object, and one for a pattern",
            vec![
                made("a-1", "cart", CART, Some("cart")),
                made("a-2", "till-*", CART, None),
            ],
            vec![object("cart", 5, "cart", CART)],
            vec!["cart: accepted as a-1".to_owned()],
        ),
    ] {
        assert_eq!(planned(&associations, &objects, true), expected, "{what}");
    }
    let without = planned(
        &[made(MADE, "cart", ADMIN, None)],
        &[with(object(MADE, 9, "cart", ADMIN), |object| {
            object.is_labelled_mirror = true;
        })],
        false,
    );
    assert_eq!(
        without,
        [format!("take away {MADE}")],
        "`read` shows nothing"
    );
}

#[test]
fn a_status_is_written_when_it_says_something_new() {
    let mut cart = object("cart", 5, "cart", CART);
    cart.status = json!({"conditions": [{"type": "Mine", "status": "True"}]});
    let accepted = Verdict::Accepted {
        id: "a-1".into(),
        arn: "arn".into(),
    };
    let refused = Verdict::Refused(ObjectRefusal::new("RoleNotAllowed", "no".repeat(1_000)));
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(status::render(&cart, &Verdict::Pending, at(0)), None);
    let first = status::render(&cart, &accepted, at(0)).unwrap();
    let kinds = |status: &Value| -> Vec<String> {
        let conditions = status["conditions"].as_array().unwrap();
        let said = conditions.iter().map(|condition| {
            let part = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", part("type"), part("status"), part("reason"))
        });
        said.collect()
    };
    assert_eq!(
        kinds(&first),
        [
            "Mine True ",
            "Accepted True InForce",
            "Conflict False No",
            "Refused False No"
        ]
    );
    assert_eq!(first["associationId"], "a-1");
    cart.status = first;
    assert_eq!(
        status::render(&cart, &accepted, at(60)),
        None,
        "only the time"
    );
    let second = status::render(&cart, &refused, at(60)).unwrap();
    assert_eq!(
        kinds(&second),
        [
            "Mine True ",
            "Accepted False RoleNotAllowed",
            "Conflict False No",
            "Refused True RoleNotAllowed"
        ]
    );
    assert_eq!(second["associationId"], Value::Null);
    let times: Vec<_> = second["conditions"].as_array().unwrap()[1..]
        .iter()
        .map(|condition| condition["lastTransitionTime"].as_str().unwrap())
        .collect();
    let (before, now) = ("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z");
    assert_eq!(times, [now, before, now]);
    let message = second["conditions"][3]["message"].as_str().unwrap();
    assert_eq!(message.len(), 512);
}
