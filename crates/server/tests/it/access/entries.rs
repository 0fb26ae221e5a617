//! Which source of identities decides, and for whom an entry is.

use super::*;

#[tokio::test]
async fn the_mode_says_which_sources_count_and_an_entry_wins_whole() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let served = Served::new().await;
    let (dev, dev_id) = served.role("Dev", "/team/").await;
    let (ops, _) = served.role("Ops", "/").await;
    let (dev, ops) = (
        (served.session(&dev, "alice@corp").await, dev),
        served.session(&ops, "olga").await,
    );
    let rules = "server:\n  mapRoles:\n\
        \x20 - {rolearn: 'arn:aws:iam::111122223333:role/Dev', username: old-dev, groups: [old]}\n\
        \x20 - {rolearn: 'arn:aws:iam::111122223333:role/Ops', username: 'ops:{{SessionName}}', groups: [ops]}\n";
    let default =
        "arn:aws:sts::111122223333:assumed-role/Dev/alice-corp [devs,more] by AccessEntries";
    let (admin, creator) = (
        "kubernetes-admin [system:masters] by ClusterCreator",
        "arn:aws:iam::111122223333:user/ana [] by AccessEntries",
    );
    for (mode, wanted) in [
        (
            ConfigMap,
            [
                "old-dev [old] by MountedFile",
                "ops:olga [ops] by MountedFile",
                admin,
                "no: not_mapped",
            ],
        ),
        (
            ApiAndConfigMap,
            [
                default,
                "ops:olga [ops] by MountedFile",
                creator,
                "no: not_mapped",
            ],
        ),
        (Api, [default, "no: not_mapped", creator, "no: not_mapped"]),
    ] {
        let name = mode.as_str().to_ascii_lowercase();
        let registered = served.cluster(&name, mode).await;
        if mode != ConfigMap {
            let new = NewAccessEntry {
                groups: vec!["devs".into(), "more".into()],
                ..entry(&dev.1, Some(&dev_id))
            };
            served.create(&name, new).await;
        }
        let cluster = served.configured(registered, &name, rules);
        let callers = [&dev.0, &ops, &served.world.ana, &served.world.bob];
        for (keys, wanted) in callers.into_iter().zip(wanted) {
            let review = cluster.review(&token(keys, &name), now()).await;
            assert_eq!(told(&review), wanted, "{mode}");
            assert_eq!(review.mode, Some(mode));
            let hides = mode == ApiAndConfigMap && keys.id == dev.0.id;
            let hidden = review.hides.unwrap_or_default();
            let is_told = hidden.starts_with("MountedFile mapRoles[0]");
            assert_eq!(is_told, hides, "{mode}: {hidden}");
        }
    }
}

#[tokio::test]
async fn clusters_of_the_api_are_served_from_their_creation_to_their_end() {
    let served = Served::new().await;
    let ana = served.world.ana.clone();
    let gone = served.review("late", &ana).await.err();
    assert_eq!(gone, Some(ClusterNameError::Unknown));
    let Registered::Id(id) = served.cluster("late", AuthenticationMode::ConfigMap).await else {
        panic!("made by id");
    };
    let seen = async |served: &Served| told(&served.review("late", &ana).await.unwrap());
    assert_eq!(
        seen(&served).await,
        "kubernetes-admin [system:masters] by ClusterCreator"
    );
    // The creator keeps what the ConfigMap mode gave, as an entry that can be seen and taken away.
    served
        .change_mode("late", AuthenticationMode::ApiAndConfigMap)
        .await;
    let as_entry = "arn:aws:iam::111122223333:user/ana [] by AccessEntries";
    assert_eq!(seen(&served).await, as_entry);
    served.change_mode("late", AuthenticationMode::Api).await;
    assert_eq!(seen(&served).await, as_entry);
    let by_id = served.review(&id, &ana).await.unwrap();
    assert_eq!(told(&by_id), as_entry);
    let place = place("late", served.world.account);
    let arn = "arn:aws:iam::111122223333:user/ana";
    let deleted = served
        .world
        .directory
        .delete_access_entry(place, arn, now());
    deleted.await.unwrap();
    assert_eq!(seen(&served).await, "no: not_mapped");

    // One name in two regions says nothing; the ids do.
    let other = NewCluster::new(
        served.world.account,
        "eu-west-1",
        "late",
        Creator {
            principal_arn: arn.into(),
            principal_id: "AIDA".into(),
        },
    );
    let other = served
        .world
        .directory
        .create_cluster(other, now())
        .await
        .unwrap();
    let ambiguous = served.review("late", &ana).await.err();
    assert_eq!(ambiguous, Some(ClusterNameError::Ambiguous { count: 2 }));
    assert!(served.review(&id, &ana).await.is_ok());
    assert!(served.review(&other.id, &ana).await.is_ok());

    let cluster = served.clusters.find(&id).unwrap();
    let delete = served
        .world
        .directory
        .delete_cluster(place, SignedDuration::ZERO, now());
    delete.await.unwrap();
    assert_eq!(
        served.clusters.find(&id).err(),
        Some(ClusterNameError::Unknown)
    );
    // Also for a review that found the cluster just before.
    let review = cluster.review(&token(&ana, "late"), now()).await;
    assert_eq!(told(&review), "no: cluster_not_registered");
}

#[tokio::test]
async fn a_principal_that_was_made_again_does_not_inherit_its_entry() {
    use AuthenticationMode::{Api, ApiAndConfigMap};
    let served = Served::new().await;
    let (arn, first) = served.role("Dev", "/team/").await;
    let rules = "server:\n  mapRoles:\n  - {rolearn: 'arn:aws:iam::111122223333:role/Dev', username: old-dev}\n";
    let mut clusters = Vec::new();
    for (name, mode) in [("both", ApiAndConfigMap), ("api", Api)] {
        let registered = served.cluster(name, mode).await;
        served.create(name, entry(&arn, Some(&first))).await;
        clusters.push((name, served.configured(registered, name, rules)));
    }
    let before = served.session(&arn, "alice").await;
    let account = served.world.account;
    served
        .world
        .directory
        .delete_role(account, "Dev")
        .await
        .unwrap();
    let (again, second) = served.role("Dev", "/team/").await;
    assert_eq!(again, arn);
    assert_ne!(first, second);
    let after = served.session(&arn, "alice").await;
    for (name, cluster) in &clusters {
        let review = cluster.review(&token(&after, name), now()).await;
        let wanted = match *name {
            "both" => "old-dev [] by MountedFile",
            _ => "no: principal_recreated",
        };
        assert_eq!(told(&review), wanted, "{name}");
        if let Err(denial) = review.outcome {
            for part in [&*arn, "countersign access rebind"] {
                assert!(denial.text.contains(part), "{}", denial.text);
            }
        }
        let old = cluster.review(&token(&before, name), now()).await;
        assert!(
            old.outcome.is_err(),
            "the sessions of the first role are over"
        );
    }
    // Deleting and creating the entry helps, and so does an explicit rebind.
    let place = place("api", account);
    let rebound = served
        .world
        .directory
        .rebind_access_entry(place, &arn, &second, now());
    rebound.await.unwrap();
    let review = served.review("api", &after).await.unwrap();
    assert_eq!(
        told(&review),
        "arn:aws:sts::111122223333:assumed-role/Dev/alice [] by AccessEntries"
    );
}

#[tokio::test]
async fn an_unbound_entry_belongs_to_the_first_principal_that_uses_it() {
    let served = Served::new().await;
    served.cluster("c", AuthenticationMode::Api).await;
    let (dev, id) = served.role("Dev", "/team/").await;
    let (_, ops_id) = served.role("Ops", "/real/").await;
    served.create("c", entry(&dev, None)).await;
    served
        .create(
            "c",
            entry("arn:aws:iam::111122223333:role/claimed/Ops", None),
        )
        .await;
    let cluster_id = match served.clusters.find("c").unwrap().registered() {
        Some(Registered::Id(id)) => id.clone(),
        other => panic!("{other:?}"),
    };
    let bound = |arn: &str| {
        let snapshot = served.world.directory.snapshot();
        let entry = snapshot.access_entry(&cluster_id, arn).unwrap();
        entry.record.principal_id.as_deref().map(str::to_owned)
    };
    assert_eq!(bound(&dev), None);
    let keys = served.session(&dev, "alice").await;
    let mapped = "arn:aws:sts::111122223333:assumed-role/Dev/alice [] by AccessEntries";
    for _ in 0..2 {
        let review = served.review("c", &keys).await.unwrap();
        assert_eq!(told(&review), mapped);
        assert_eq!(bound(&dev).as_deref(), Some(&*id));
    }
    // Where paths are known, an entry under another path is not for this principal.
    let keys = served
        .session("arn:aws:iam::111122223333:role/real/Ops", "olga")
        .await;
    let review = served.review("c", &keys).await.unwrap();
    assert_eq!(told(&review), "no: not_mapped");
    assert_eq!(bound("arn:aws:iam::111122223333:role/claimed/Ops"), None);

    // Real AWS tells no path, and then account, kind and name are what counts.
    let caller = |arn: &str, id: &str| {
        let account = arn.split(':').nth(4).unwrap();
        CallerIdentity::new(arn, account, id, "ASIAEXAMPLE", "sts.amazonaws.com").unwrap()
    };
    let ops = format!("{ops_id}:olga");
    let at = "arn:aws:sts::111122223333:assumed-role";
    let snapshot = served.world.directory.snapshot();
    let cluster = snapshot.cluster_by_id(&cluster_id).unwrap();
    for (arn, id, binding, wanted) in [
        (
            format!("{at}/Ops/olga"),
            &*ops,
            PrincipalBinding::FirstUse,
            "mapped",
        ),
        (
            format!("{at}/Ops/olga"),
            &*ops,
            PrincipalBinding::Strict,
            "principal_not_bound",
        ),
        (
            "arn:aws-cn:sts::111122223333:assumed-role/Ops/olga".into(),
            &*ops,
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            "arn:aws:sts::444455556666:assumed-role/Ops/olga".into(),
            &*ops,
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            "arn:aws:iam::111122223333:user/Ops".into(),
            "AIDAOPS",
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            "arn:aws:sts::111122223333:federated-user/Ops".into(),
            "111122223333:Ops",
            PrincipalBinding::FirstUse,
            "not_mapped",
        ),
        (
            format!("{at}/Dev/eve"),
            "AROAOTHER:eve",
            PrincipalBinding::FirstUse,
            "principal_recreated",
        ),
    ] {
        let chain = chain_of(
            &snapshot,
            cluster,
            &Chain::new(Vec::new(), ChainOptions::default()),
            &MappingOptions::default(),
            binding,
            &arc_swap::Guard::into_inner(AccessPolicies::builtin().current()),
        );
        let identity = caller(&arn, id);
        let said = match chain.map(&identity) {
            MappingDecision::Mapped(_) => "mapped",
            MappingDecision::AccountAllowed(_) => "account",
            MappingDecision::Denied(denied) => denied.reason().code(),
        };
        assert_eq!(said, wanted, "{arn} {binding:?}");
    }
}

#[tokio::test]
async fn every_type_has_its_username_and_groups() {
    let served = Served::new().await;
    served.cluster("c", AuthenticationMode::Api).await;
    let instance = "i-0123456789abcdef0";
    for (n, (kind, session, wanted)) in [
        (
            EntryType::FargateLinux,
            "fargate-1",
            "system:node:fargate-1 [system:nodes,system:node-proxier] by AccessEntries",
        ),
        (
            EntryType::HybridLinux,
            "mi-1",
            "system:node:mi-1 [system:nodes] by AccessEntries",
        ),
        (
            EntryType::HyperpodLinux,
            "hp-1",
            "system:node:hp-1 [system:nodes] by AccessEntries",
        ),
        (
            EntryType::Ec2,
            instance,
            "system:node:i-0123456789abcdef0 [system:nodes] by AccessEntries",
        ),
        (EntryType::Ec2, "person", "no: not_an_instance"),
        (EntryType::Ec2Linux, "person", "no: not_an_instance"),
        (EntryType::Ec2Linux, instance, "no: node_lookup_unavailable"),
        (
            EntryType::Ec2Windows,
            instance,
            "no: node_lookup_unavailable",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (arn, id) = served.role(&format!("Node{n}"), "/").await;
        let new = NewAccessEntry {
            entry_type: kind,
            ..entry(&arn, Some(&id))
        };
        served.create("c", new).await;
        let keys = served.session(&arn, session).await;
        let review = served.review("c", &keys).await.unwrap();
        assert_eq!(told(&review), wanted, "{kind}");
    }
    // Usernames are templates, and groups are not: a session name must not become a group.
    let (arn, id) = served.role("Dev", "/").await;
    let new = NewAccessEntry {
        username: Some("ops:{{SessionNameRaw}}".into()),
        groups: vec!["team:{{SessionName}}".into()],
        ..entry(&arn, Some(&id))
    };
    served.create("c", new).await;
    let keys = served.session(&arn, "a@b").await;
    let review = served.review("c", &keys).await.unwrap();
    assert_eq!(
        told(&review),
        "ops:a@b [team:{{SessionName}}] by AccessEntries"
    );
    // A federated user of the creator's is not the creator.
    let root = served.world.root().await;
    let place = "arn:aws:iam::111122223333:root";
    served.create("c", entry(place, Some("111122223333"))).await;
    let review = served.review("c", &root).await.unwrap();
    assert_eq!(
        told(&review),
        "arn:aws:iam::111122223333:root [] by AccessEntries"
    );
}
