//! An association that is removed while its credentials are in use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign_agent::guard::capture::FilterKind;
use countersign_agent::{
    AccountName, AssociationState, Associations, AssociationsUnreadable, FinalCode,
};
use countersign_imds::decision::Mode;
use countersign_upstream::clock::Clock;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::common::namespace::inside;
use crate::common::{Answer, START};
use crate::node::{FOUR, LIST, Node, curl, programs};
use crate::world::{at, redirected, show, world_with};

/// The control plane's list: all that are asked for, until they are removed.
#[derive(Default)]
struct Listed {
    removed: AtomicBool,
    looks: AtomicUsize,
}

impl Associations for Listed {
    fn states<'a>(
        &'a self,
        ids: &'a [Box<str>],
    ) -> BoxFuture<'a, Result<HashMap<Box<str>, AssociationState>, AssociationsUnreadable>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let state = AssociationState {
            modified: Timestamp::from_second(START - 86_400).unwrap(),
            session_tags: true,
            has_patterns: false,
        };
        let mut all: HashMap<_, _> = ids.iter().map(|id| (id.clone(), state)).collect();
        if self.removed.load(Ordering::SeqCst) {
            all.clear();
        }
        Box::pin(std::future::ready(Ok(all)))
    }

    fn in_force<'a>(
        &'a self,
        _: &'a [AccountName],
    ) -> BoxFuture<'a, Result<HashMap<AccountName, Box<str>>, AssociationsUnreadable>> {
        unreachable!("asked for patterns alone")
    }
}

/// Row 27. The 30 s between two looks pass by moving the clock; everything else takes its time.
#[test]
fn a_removed_association_is_not_found_within_35_seconds() {
    let name = "associations::a_removed_association_is_not_found_within_35_seconds";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listed = Arc::new(Listed::default());
        let kind = FilterKind::Nft;
        let associations = Arc::clone(&listed);
        let world = world_with(&node, Mode::Serve, kind, Arc::default(), true, |config| {
            config.associations = Some(associations);
        })
        .await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        let get = async || {
            let pod = node.names[1].clone();
            let url = format!("{FOUR}{LIST}");
            tokio::task::spawn_blocking(move || curl(Some(&pod), &[&url]))
                .await
                .unwrap()
        };
        let look = async || {
            let before = listed.looks.load(Ordering::SeqCst);
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(30)).await;
            tokio::time::resume();
            while listed.looks.load(Ordering::SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert_eq!(get().await, (200, "orchard-reader".into()));
        // As long as it is listed, looking changes nothing.
        look().await;
        let calls = world.auth.count();
        assert_eq!(get().await, (200, "orchard-reader".into()));
        assert_eq!(world.auth.count(), calls);

        let removed = world.clock.now();
        listed.removed.store(true, Ordering::SeqCst);
        world.auth.set(Answer::Refuse(FinalCode::ResourceNotFound));
        assert_eq!(get().await.0, 200, "nobody has looked yet");
        look().await;
        let limit = SignedDuration::from_secs(35);
        while get().await.0 != 404 {
            assert!(world.clock.now().duration_since(removed) < limit);
        }
        let took = world.clock.now().duration_since(removed);
        assert!(took <= limit, "{took:?}");
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}
