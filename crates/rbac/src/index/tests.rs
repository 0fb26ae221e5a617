use std::sync::Arc;

use super::{Change, Index, ObjectKey};
use crate::object::{
    Binding, BindingKind, Metadata, Object, PolicyRule, Role, RoleKind, RoleRef, Subject,
};

fn role(namespace: &str, name: &str, resource: &str, verbs: &[&str]) -> Object {
    let kind = if namespace.is_empty() {
        RoleKind::ClusterRole
    } else {
        RoleKind::Role
    };
    Object::Role(Role {
        kind,
        metadata: Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        },
        rules: vec![Arc::new(PolicyRule {
            verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
            api_groups: vec![format!("{resource}.example")],
            resources: vec![resource.to_owned(), format!("{resource}/status")],
            ..PolicyRule::default()
        })],
        aggregation: None,
        origin: None,
    })
}

fn binding(namespace: &str, name: &str, role: &str, subjects: Vec<Subject>) -> Object {
    let kind = if namespace.is_empty() {
        BindingKind::ClusterRoleBinding
    } else {
        BindingKind::RoleBinding
    };
    Object::Binding(Binding {
        kind,
        metadata: Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        },
        role_ref: RoleRef {
            api_group: crate::RBAC_GROUP.into(),
            kind: "ClusterRole".into(),
            name: role.into(),
        },
        subjects,
        origin: None,
    })
}

fn delete(object: &Object) -> Change {
    let metadata = object.metadata();
    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
    Change::Delete(match object {
        Object::Role(role) => ObjectKey::Role {
            kind: role.kind,
            namespace,
            name,
        },
        Object::Binding(binding) => ObjectKey::Binding {
            kind: binding.kind,
            namespace,
            name,
        },
    })
}

#[test]
fn objects_that_come_and_go_leave_nothing_behind() {
    let mut index = Index::default();
    for round in 0..20 {
        let mut objects = Vec::new();
        for at in 0..30 {
            let resource = format!("things{}", at * 7 + round);
            objects.push(role(
                "",
                &format!("role{at}"),
                &resource,
                &["get", "frobnicate"],
            ));
            let subjects = (0..12).map(|n| Subject::user(format!("user{}", (at + n) % 20)));
            let namespace = if at % 3 == 0 {
                String::new()
            } else {
                format!("ns{at}")
            };
            objects.push(binding(
                &namespace,
                &format!("b{at}"),
                &format!("role{}", at % 9),
                subjects.collect(),
            ));
        }
        for object in &objects {
            index.apply(Change::Put(object.clone())).unwrap();
        }
        assert!(index.symbols.len() > 0 && index.subjects.len() == 20);
        if round % 2 == 0 {
            objects.reverse();
        }
        for object in &objects {
            index.apply(delete(object)).unwrap();
        }
        assert_eq!(index.symbols.len(), 0);
        assert_eq!(index.subjects.len(), 0);
        assert_eq!((index.binding_count(), index.role_count()), (0, 0));
        assert_eq!(index.role_numbers.len(), 0);
        assert_eq!(index.free_slots.len(), index.issued_slots as usize);
        assert_eq!(index.slots.iter().flatten().count(), 0);
    }
    assert!(index.issued_slots <= 40, "numbers are used again");
}

#[test]
fn a_subject_with_thousands_of_roles_and_namespaces_keeps_its_order() {
    let mut index = Index::default();
    let mut objects = Vec::new();
    for at in 0..700_u32 {
        // An order of insertion that is neither that of names nor its reverse.
        let at = at.wrapping_mul(263) % 701;
        objects.push(role(
            "",
            &format!("role{at:04}"),
            &format!("things{at}"),
            &["get"],
        ));
        let group = vec![Subject::group("devs")];
        objects.push(binding(
            "",
            &format!("b{at:04}"),
            &format!("role{at:04}"),
            group.clone(),
        ));
        objects.push(binding(
            &format!("ns{at}"),
            "b",
            &format!("role{at:04}"),
            group.clone(),
        ));
        // A later binding of the same role changes nothing until the first one goes.
        objects.push(binding(
            "",
            &format!("c{at:04}"),
            &format!("role{at:04}"),
            group,
        ));
    }
    for object in &objects {
        index.apply(Change::Put(object.clone())).unwrap();
    }
    let check = |index: &Index, at: u32, expected: Option<String>| {
        let (resource, group) = (format!("things{at}"), format!("things{at}.example"));
        let request = crate::Request {
            user: crate::User::new("dana", &["devs"]),
            action: crate::ResourceAction {
                verb: "get",
                group: &group,
                resource: &resource,
                ..Default::default()
            }
            .into(),
        };
        let decision = index.authorize(&request);
        let binding = decision
            .chain()
            .map(|chain| chain.binding.metadata.name.clone());
        assert_eq!(binding, expected, "{at}");
    };
    for at in [0, 1, 31, 32, 33, 350, 699] {
        let name = format!("{:04}", at);
        check(&index, at, Some(format!("b{name}")));
        let kind = BindingKind::ClusterRoleBinding;
        let gone = |name: String| {
            Change::Delete(ObjectKey::Binding {
                kind,
                namespace: String::new(),
                name,
            })
        };
        index.apply(gone(format!("b{name}"))).unwrap();
        check(&index, at, Some(format!("c{name}")));
        index.apply(gone(format!("c{name}"))).unwrap();
        check(&index, at, None);
    }
    for object in &objects {
        index.apply(delete(object)).unwrap();
    }
    assert_eq!((index.symbols.len(), index.subjects.len()), (0, 0));
}
