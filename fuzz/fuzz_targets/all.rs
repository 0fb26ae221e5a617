//! Every fuzz target of the project in one binary, so that it is built once.
//!
//! `COUNTERSIGN_FUZZ_TARGET` names the target; `./fuzz/run` sets it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

/// Names as `crate.function`.
const TARGETS: &[(&str, Target)] = &[
    ("access.caller", countersign_access::fuzz::caller),
    ("access.file", countersign_access::fuzz::file),
    ("access.values", countersign_access::fuzz::values),
    ("agent.answer", countersign_agent::fuzz::answer),
    ("agent.handover", countersign_agent::fuzz::handover),
    ("agent.request", countersign_agent::fuzz::request),
    ("agent.socket", countersign_agent::fuzz::socket),
    ("agent.token", countersign_agent::fuzz::token),
    ("arn.arn", countersign_arn::fuzz::arn),
    ("client.kubeconfig", countersign_client::fuzz::kubeconfig),
    ("client.query", countersign_client::fuzz::query),
    ("client.shared_config", countersign_client::fuzz::shared_config),
    ("mapping.config_map", countersign_mapping::fuzz::config_map),
    ("mapping.dynamic_file", countersign_mapping::fuzz::dynamic_file),
    ("mapping.template", countersign_mapping::fuzz::template),
    ("imds.annotations", countersign_imds::fuzz::annotations),
    ("imds.answer", countersign_imds::fuzz::answer),
    ("imds.cgroup", countersign_imds::fuzz::cgroup),
    ("imds.documents", countersign_imds::fuzz::documents),
    ("imds.request", countersign_imds::fuzz::request),
    ("oidc.claims", countersign_oidc::fuzz::claims),
    ("oidc.documents", countersign_oidc::fuzz::documents),
    ("oidc.token", countersign_oidc::fuzz::token),
    ("server.admin_request", countersign_server::fuzz::admin_request),
    ("server.assume_role", countersign_server::fuzz::assume_role),
    ("podreview.pod", countersign_podreview::fuzz::pod),
    ("podreview.trust", countersign_podreview::fuzz::trust),
    ("pods.association_object", countersign_pods::fuzz::association_object),
    ("pods.flags", countersign_pods::fuzz::flags),
    ("pods.profiles", countersign_pods::fuzz::profiles),
    ("pods.review", countersign_pods::fuzz::review),
    ("pods.sources", countersign_pods::fuzz::sources),
    ("policy.condition", countersign_policy::fuzz::condition),
    ("policy.document", countersign_policy::fuzz::document),
    ("policy.pattern", countersign_policy::fuzz::pattern),
    ("policy.simulate_file", countersign_policy::fuzz::simulate_file),
    ("policy.variable", countersign_policy::fuzz::variable),
    ("rbac.http", countersign_rbac::fuzz::http),
    ("rbac.objects", countersign_rbac::fuzz::objects),
    ("rbac.review", countersign_rbac::fuzz::review),
    ("server.audit_record", countersign_server::fuzz::audit_record),
    ("saml.canonical", countersign_saml::fuzz::canonical),
    ("saml.metadata", countersign_saml::fuzz::metadata),
    ("saml.response", countersign_saml::fuzz::response),
    ("saml.role_pair", countersign_saml::fuzz::role_pair),
    ("server.audit_record", countersign_server::fuzz::audit_record),
    ("server.configuration", countersign_server::fuzz::configuration),
    ("server.query", countersign_server::fuzz::query),
    ("server.rest_request", countersign_server::fuzz::rest_request),
    ("server.token_review", countersign_server::fuzz::token_review),
    ("session.key_ring", countersign_session::fuzz::key_ring),
    ("session.record", countersign_session::fuzz::record),
    ("session.revocation_target", countersign_session::fuzz::revocation_target),
    ("session.session_name_template", countersign_session::fuzz::session_name_template),
    ("session.token", countersign_session::fuzz::token),
    ("sigv4.capture", countersign_sigv4::fuzz::capture),
    ("sigv4.date", countersign_sigv4::fuzz::date),
    ("sigv4.header_signature", countersign_sigv4::fuzz::header_signature),
    ("sigv4.presigned_query", countersign_sigv4::fuzz::presigned_query),
    ("sources.annotations", countersign_sources::fuzz::annotations),
    ("sources.aws_auth_versions", countersign_sources::fuzz::aws_auth_versions),
    ("sources.manifests", countersign_sources::fuzz::manifests),
    ("sources.object_status", countersign_sources::fuzz::object_status),
    ("sources.remembered", countersign_sources::fuzz::remembered),
    ("store.backup", countersign_store::fuzz::backup),
    ("store.etcd_key", countersign_store::fuzz::etcd_key),
    ("store.etcd_url", countersign_store::fuzz::etcd_url),
    ("store.record", countersign_store::fuzz::record),
    ("store.root_key", countersign_store::fuzz::root_key),
    ("store.sealed_secret", countersign_store::fuzz::sealed_secret),
    ("token.exec_info", countersign_token::fuzz::exec_info),
    ("token.sts_response", countersign_token::fuzz::sts_response),
    ("token.token", countersign_token::fuzz::token),
    ("upstream.associations", countersign_upstream::fuzz::associations),
    ("upstream.node_name", countersign_upstream::fuzz::node_name),
    ("upstream.xml", countersign_upstream::fuzz::xml),
];

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("COUNTERSIGN_FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|(known, _)| *known == name) {
            Some((_, target)) => *target,
            None => {
                eprintln!("no fuzz target `{name}`");
                std::process::exit(2);
            }
        }
    });
    target(data);
});
