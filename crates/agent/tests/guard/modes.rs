//! `block` and `audit`.

use std::sync::Arc;

use countersign_agent::guard::capture::FilterKind;
use countersign_imds::decision::Mode;

use crate::common::namespace::inside;
use crate::node::{FOUR, LIST, Node, programs};
use crate::world::{at, redirected, runtime, show, world};

#[test]
fn block_gives_no_credentials_and_audit_tells_who_uses_the_nodes() {
    let name = "modes::block_gives_no_credentials_and_audit_tells_who_uses_the_nodes";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    let blocked = node
        .directory
        .path()
        .join(countersign_agent::guard::BLOCKED_FILE);
    runtime().block_on(async {
        let world = world(&node, Mode::Block, FilterKind::Nft, Arc::default(), false).await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        let token = node.token(1, FOUR, "60");
        for (path, expected) in [
            (LIST.to_owned(), 404),
            (format!("{LIST}node-role"), 404),
            ("/latest/user-data".into(), 403),
            ("/latest/meta-data/instance-id".into(), 200),
        ] {
            assert_eq!(node.get(1, FOUR, &token, &path).0, expected, "{path}");
        }
        assert_eq!(world.auth.count(), 0);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
    let list: Vec<countersign_agent::guard::BlockedWorkload> =
        serde_json::from_slice(&std::fs::read(&blocked).unwrap()).unwrap();
    assert_eq!(
        (
            list[0].service_account.as_str(),
            list[0].credentials,
            list[0].secrets
        ),
        ("picker-1", 2, 1)
    );
    runtime().block_on(async {
        let world = world(&node, Mode::Audit, FilterKind::Nft, Arc::default(), false).await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        // As without a guard: version 2, version 1, secrets.
        let token = node.token(1, FOUR, "60");
        assert_eq!(node.get(1, FOUR, &token, LIST), (200, "node-role".into()));
        assert_eq!(
            node.curl(1, &[&format!("{FOUR}/latest/user-data")]),
            (200, "join-token".into())
        );
        world.agent.stop().await;
    });
    let list: Vec<countersign_agent::guard::BlockedWorkload> =
        serde_json::from_slice(&std::fs::read(&blocked).unwrap()).unwrap();
    assert!(list[0].passed_on && list[0].credentials == 3);
}
