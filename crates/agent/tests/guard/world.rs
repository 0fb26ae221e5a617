//! The agent with its guard, and Kubernetes as far as the guard asks it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_agent::AgentConfig;
use countersign_agent::guard::capture::{Filter, FilterKind};
use countersign_agent::guard::{GuardApi, GuardApiError, GuardConfig, PodEvent};
use countersign_agent::pods::{Pod, PodTable};
use countersign_imds::decision::{Mode, Settings};
use countersign_imds::harmless::HarmlessPaths;
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use crate::common::{START, World, keys, pod, token};
use crate::node::Node;

/// Kubernetes, as far as the guard asks it.
#[derive(Default)]
pub struct Api {
    pub tokens: AtomicUsize,
    pub events: Mutex<Vec<(String, PodEvent)>>,
    /// What a read of the API sees.
    pub pods: Mutex<Vec<Pod>>,
}

impl GuardApi for Api {
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, GuardApiError>> {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        let number: usize = pod.uid.rsplit('-').next().unwrap().parse().unwrap();
        Box::pin(std::future::ready(Ok(token(number, START).into())))
    }

    fn pods(&self) -> BoxFuture<'_, Result<PodTable, GuardApiError>> {
        let pods = self.pods.lock().unwrap().clone();
        Box::pin(std::future::ready(Ok(PodTable::new(pods, vec![]))))
    }

    fn event<'a>(&'a self, pod: &'a Pod, event: PodEvent) -> BoxFuture<'a, ()> {
        self.events
            .lock()
            .unwrap()
            .push((pod.name.to_string(), event));
        Box::pin(std::future::ready(()))
    }
}

/// Pod `number` of the namespaces, under the uid of the pod `uid` of the tokens.
pub fn at(number: usize, uid: usize) -> Pod {
    Pod {
        addresses: vec![
            IpAddr::from([10, 88, 0, u8::try_from(number).unwrap()]),
            format!("fd88::{number}").parse().unwrap(),
        ],
        ..pod(uid)
    }
}

pub fn show(world: &World, pods: Vec<Pod>) {
    world
        .pods
        .send_replace(Some(Arc::new(PodTable::new(pods, vec![]))));
}

pub async fn world(node: &Node, mode: Mode, kind: FilterKind, api: Arc<Api>, v1: bool) -> World {
    world_with(node, mode, kind, api, v1, |_| {}).await
}

pub async fn world_with(
    node: &Node,
    mode: Mode,
    kind: FilterKind,
    api: Arc<Api>,
    v1: bool,
    change: impl FnOnce(&mut AgentConfig),
) -> World {
    let state = node.directory.path().to_owned();
    World::with(move |mut config, watch| {
        let mut guard = GuardConfig::new(Settings {
            mode,
            v1,
            harmless: HarmlessPaths::default(),
        });
        guard.filter = Some(Filter::new(kind, vec![]));
        guard.state_dir = state;
        guard.api = Some(api);
        config.guard = Some(guard);
        config.pods = Some(watch);
        config.keys = Some(keys());
        change(&mut config);
        config
    })
    .await
}

pub async fn redirected(world: &World) {
    for _ in 0..200 {
        if world
            .agent
            .metrics()
            .render()
            .contains("countersign_imds_guard_state 2")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "the guard does not get the requests: {}",
        world.agent.metrics().render()
    );
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
