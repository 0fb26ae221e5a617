//! Every flag: its name, what it takes, its default, and what `--help` says about it. The same table reads and explains.

use std::fmt::Write as _;

/// A flag of the command line, and in camel case a key of the settings.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// What stands behind `=`; empty for a switch, which stands alone as well as with `=true` or `=false`.
    pub(super) takes: &'static str,
    /// As it would be written; empty for none.
    pub(super) default: &'static str,
    help: &'static str,
}

impl Flag {
    pub(super) fn is_switch(&self) -> bool {
        self.takes.is_empty()
    }
}

const fn value(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        takes,
        default,
        help,
    }
}

const fn switch(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    value(name, "", default, help)
}

/// By what they are about.
pub(super) const GROUPS: &[(&str, &[Flag])] = &[
    (
        "Listening",
        &[
            value(
                "port",
                "PORT",
                "443",
                "where AdmissionReviews are answered, over TLS",
            ),
            value(
                "metrics-port",
                "PORT",
                "9999",
                "where metrics and readiness are, without TLS",
            ),
            switch(
                "enable-debugging-handlers",
                "false",
                "/debug/alpha/cache and /debug/alpha/cache/clear beside the metrics, /debug/alpha/deny and /debug/alpha/500 beside /mutate",
            ),
            switch(
                "in-cluster",
                "true",
                "make and renew the certificate by itself, and keep it in --tls-secret; false: use --tls-cert and --tls-key",
            ),
            value(
                "tls-cert",
                "FILE",
                "/etc/webhook/certs/tls.crt",
                "certificate in PEM with --in-cluster=false; a new one is used without a restart",
            ),
            value("tls-key", "FILE", "/etc/webhook/certs/tls.key", "its key"),
            value(
                "tls-secret",
                "NAME",
                "pod-identity-webhook",
                "Secret in --namespace that all replicas have the certificate from",
            ),
            value(
                "service-name",
                "NAME",
                "pod-identity-webhook",
                "Service in front of the webhook, whose names the certificate is for",
            ),
            value(
                "webhook-configuration",
                "NAME",
                "",
                "MutatingWebhookConfiguration whose caBundle is kept up to date; with --in-cluster it is that of the name of --service-name unless another is said",
            ),
            value(
                "tls-min-version",
                "VERSION",
                "1.2",
                "1.2 or 1.3, also as VersionTLS12; older versions are broken and refused",
            ),
            value(
                "tls-cipher-suites",
                "NAMES",
                "",
                "suites of TLS 1.2 by their names in Go, with commas between; all good ones unless said",
            ),
        ],
    ),
    (
        "Kubernetes API",
        &[
            value(
                "kubeconfig",
                "FILE",
                "",
                "outside of a cluster; inside, the pod's service account is used",
            ),
            value(
                "kube-api",
                "URL",
                "",
                "URL of the API server in the place of the one found",
            ),
            value(
                "namespace",
                "NAME",
                "eks",
                "where the ConfigMap, the Secret and the Service are",
            ),
            value(
                "resync-period",
                "TIME",
                "60s",
                "how often pods are looked through for those that lack their credentials",
            ),
            value(
                "service-account-lookup-grace-period",
                "TIME",
                "0s",
                "time for the one read of a service account that the watch has not told about; 0 is 500ms",
            ),
            switch(
                "reconcile",
                "true",
                "tell by Events about pods that came out without their credentials",
            ),
            switch(
                "restart-unmutated",
                "false",
                "evict such pods one by one, under their disruption budgets",
            ),
        ],
    ),
    (
        "Roles of service accounts (IRSA)",
        &[
            value(
                "annotation-prefix",
                "PREFIX",
                "eks.amazonaws.com",
                "prefix of every annotation",
            ),
            value(
                "token-audience",
                "TEXT",
                "sts.amazonaws.com",
                "audience of the token",
            ),
            value(
                "token-mount-path",
                "PATH",
                "/var/run/secrets/eks.amazonaws.com/serviceaccount",
                "where containers have it",
            ),
            value(
                "token-expiration",
                "SECONDS",
                "86400",
                "lifetime of the token, unless the account or the pod says another; at least 600",
            ),
            value(
                "max-token-expiration",
                "SECONDS",
                "86400",
                "the longest lifetime that anybody may ask for",
            ),
            switch(
                "watch-config-map",
                "false",
                "roles also by the ConfigMap pod-identity-webhook in --namespace",
            ),
            switch(
                "compose-role-arn",
                "false",
                "complete short names of roles; with the account of instance metadata, unless --compose-account says it",
            ),
            value(
                "compose-account",
                "ACCOUNT",
                "",
                "account of roles that are named shortly",
            ),
            value(
                "compose-partition",
                "PARTITION",
                "",
                "their partition, such as aws-cn; otherwise that of --aws-default-region",
            ),
            switch(
                "strict-arn",
                "false",
                "refuse pods whose role is no ARN, in the place of a warning",
            ),
            switch(
                "role-profiles",
                "false",
                "annotations PREFIX/role-arn.PROFILE of the account become profiles of an AWS configuration file in the pod",
            ),
            switch(
                "inject-session-name",
                "false",
                "AWS_ROLE_SESSION_NAME: the pod's name",
            ),
        ],
    ),
    (
        "EKS Pod Identity",
        &[
            value(
                "watch-container-credentials-config",
                "FILE",
                "",
                "absolute path of the identities file",
            ),
            value(
                "associations-from",
                "SOURCE",
                "embedded",
                "embedded: our own EKS API, where there is one; eks: the EKS API of AWS, or another Countersign's; crd: PodIdentityAssociation objects of the cluster; file: the identities file alone",
            ),
            value(
                "association-refresh",
                "TIME",
                "5s",
                "how often associations are asked for with --associations-from=eks; at least 1s",
            ),
            value(
                "associations-cluster",
                "NAME",
                "",
                "cluster whose associations are asked for, by its name in the EKS API; the one that is served unless said",
            ),
            value(
                "associations-region",
                "REGION",
                "",
                "region of that EKS API; that of the AWS SDKs unless said",
            ),
            value(
                "associations-endpoint",
                "URL",
                "",
                "URL of that EKS API, https, or http on this machine; that of the region unless said",
            ),
            value(
                "wait-for-association",
                "TIME",
                "0s",
                "how long a pod waits whose account has PREFIX/expect-association: \"true\" and no association yet",
            ),
            value(
                "container-credentials-audience",
                "TEXT",
                "pods.eks.amazonaws.com",
                "audience of the token",
            ),
            value(
                "container-credentials-token-mount-path",
                "PATH",
                "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount",
                "where containers have it",
            ),
            value(
                "container-credentials-token-volume-name",
                "NAME",
                "eks-pod-identity-token",
                "name of its volume",
            ),
            value(
                "container-credentials-token-path",
                "FILE",
                "eks-pod-identity-token",
                "its file in the mount",
            ),
            value(
                "container-credentials-full-uri",
                "URL",
                "http://169.254.170.23/v1/credentials",
                "where the agent answers; http://[fd00:ec2::23]/v1/credentials in a cluster of IPv6 alone",
            ),
            value(
                "no-agent-node-selectors",
                "SELECTOR",
                "eks.amazonaws.com/compute-type in (fargate)",
                "nodes without an agent, whose pods use their role by IRSA; may be repeated",
            ),
            switch(
                "disable-imds-env",
                "false",
                "AWS_EC2_METADATA_DISABLED=true besides",
            ),
        ],
    ),
    (
        "Pods",
        &[
            value(
                "aws-default-region",
                "REGION",
                "",
                "AWS_DEFAULT_REGION and AWS_REGION of containers that have neither",
            ),
            switch(
                "sts-regional-endpoint",
                "false",
                "AWS_STS_REGIONAL_ENDPOINTS=regional, unless the account says otherwise",
            ),
            value(
                "extra-env",
                "NAME=VALUE",
                "",
                "a variable for every container that lacks it, such as AWS_ENDPOINT_URL_STS; may be repeated",
            ),
            value(
                "exclude-namespaces",
                "NAMES",
                "",
                "namespaces whose pods are left alone, with commas between; * stands for any text",
            ),
            switch(
                "mutate-ephemeral-containers",
                "false",
                "also debug containers of pods that have the token",
            ),
            value(
                "failure-mode",
                "MODE",
                "ignore",
                "pods whose account cannot be read: ignore lets them in without credentials, fail refuses them",
            ),
            switch("warnings", "true", "say in the answer what looks wrong"),
            value(
                "patch-style",
                "STYLE",
                "additive",
                "additive, or replace: whole lists of containers, as the reference writes them",
            ),
        ],
    ),
    (
        "Besides",
        &[
            value(
                "v",
                "LEVEL",
                "0",
                "log: 0 to 2 is info, 3 and 4 debug, from 5 on trace; also -v",
            ),
            switch("version", "false", "print the version and leave"),
        ],
    ),
];

/// Switches of the reference's log library: taken, and of no effect.
pub(super) const LOG_SWITCHES: &[&str] = &[
    "add_dir_header",
    "alsologtostderr",
    "legacy_stderr_threshold_behavior",
    "logtostderr",
    "one_output",
    "skip_headers",
    "skip_log_headers",
];
/// Its flags with a value.
pub(super) const LOG_VALUES: &[&str] = &[
    "alsologtostderrthreshold",
    "log_backtrace_at",
    "log_dir",
    "log_file",
    "log_file_max_size",
    "stderrthreshold",
    "vmodule",
];

pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|(_, flags)| flags.iter())
}

/// One flag after the other with what it does.
pub(super) fn help() -> String {
    let mut text = String::new();
    for (title, flags) in GROUPS {
        let _ = writeln!(text, "\n{title}:");
        for flag in *flags {
            let takes = match flag.takes {
                "" => String::new(),
                takes => format!("={takes}"),
            };
            let default = match flag.default {
                "" | "false" => String::new(),
                default => format!(" [default: {default}]"),
            };
            let _ = writeln!(text, "  --{}{takes}{default}", flag.name);
            wrap(&mut text, flag.help);
        }
    }
    text.push_str("\nTaken, and of no effect, as they are the log library's of Go:\n");
    let names: Vec<_> = LOG_SWITCHES.iter().chain(LOG_VALUES).copied().collect();
    wrap(&mut text, &names.join(", "));
    text
}

/// Lines of at most 110 characters, indented.
fn wrap(text: &mut String, words: &str) {
    const INDENT: &str = "          ";
    let mut line = INDENT.to_owned();
    for word in words.split(' ') {
        if line.len() > INDENT.len() {
            if line.len() + 1 + word.len() > 110 {
                let _ = writeln!(text, "{line}");
                line.truncate(INDENT.len());
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}
