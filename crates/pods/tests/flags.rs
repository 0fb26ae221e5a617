//! The command line (webhook spec, section 2): every flag of the reference, and what is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use countersign_pods::*;

fn parse(arguments: &[&str]) -> Result<Flags, FlagsError> {
    Flags::parse(arguments.iter().copied())
}

#[test]
fn defaults_are_those_of_the_reference() {
    let flags = parse(&[]).unwrap();
    assert_eq!(flags, Flags::default());
    let (options, serving) = (&flags.options, &flags.serving);
    assert_eq!(
        (
            serving.port,
            serving.metrics_port,
            serving.in_cluster,
            serving.resync_period
        ),
        (443, 9999, true, Duration::from_secs(60))
    );
    assert_eq!(
        serving.tls_cert.to_str(),
        Some("/etc/webhook/certs/tls.crt")
    );
    assert_eq!(serving.tls_key.to_str(), Some("/etc/webhook/certs/tls.key"));
    assert_eq!(
        [
            &serving.service_name,
            &serving.namespace,
            &serving.tls_secret
        ],
        ["pod-identity-webhook", "eks", "pod-identity-webhook"]
    );
    assert_eq!(serving.lookup_grace_period, Duration::ZERO);
    assert_eq!(options.annotation_prefix, "eks.amazonaws.com");
    assert_eq!(options.token_audience, "sts.amazonaws.com");
    assert_eq!(options.token_expiration, 86_400);
    assert_eq!(
        options.container_full_uri,
        "http://169.254.170.23/v1/credentials"
    );
    // The default selector is what its own text reads as.
    let selector = options.no_agent_node_selectors.first().unwrap();
    assert_eq!(
        selector.as_str().parse::<NodeSelector>().as_ref(),
        Ok(selector)
    );
}

#[test]
fn every_flag_of_the_reference_is_taken() {
    let flags = parse(&[
        "--port=8443",
        "--metrics-port",
        "9998",
        "--kubeconfig=/k",
        "--kube-api=https://k",
        "--tls-cert=/c",
        "--tls-key=/d",
        "--tls-cipher-suites=TLS_AES_128_GCM_SHA256, ,TLS_RSA_WITH_RC4_128_SHA",
        "--tls-min-version=VersionTLS13",
        "--in-cluster=false",
        "--service-name=s",
        "--namespace=n",
        "--tls-secret=t",
        "--annotation-prefix=iam.example",
        "--token-audience=a",
        "--token-mount-path=/m",
        "--token-expiration=3600",
        "--aws-default-region=eu-west-1",
        "--sts-regional-endpoint",
        "--watch-config-map",
        "--compose-role-arn",
        "--watch-container-credentials-config=/i.json",
        "--container-credentials-audience=ca",
        "--container-credentials-token-mount-path=/cm",
        "--container-credentials-token-volume-name=cv",
        "--container-credentials-token-path=cp",
        "--container-credentials-full-uri=http://[fd00:ec2::23]/v1/credentials",
        "--service-account-lookup-grace-period=100ms",
        "--resync-period=1m30s",
        "--enable-debugging-handlers",
        "--version",
        "--v=4",
        "--logtostderr",
        "--vmodule",
        "a=1",
        "--stderrthreshold=2",
        "--alsologtostderr=true",
    ])
    .unwrap();
    let Flags {
        options,
        serving,
        ignored,
    } = flags;
    assert_eq!(
        ignored,
        [
            "logtostderr",
            "vmodule",
            "stderrthreshold",
            "alsologtostderr"
        ]
    );
    let expected = Serving {
        port: 8443,
        metrics_port: 9998,
        kubeconfig: Some("/k".into()),
        kube_api: Some("https://k".to_owned()),
        tls_cert: "/c".into(),
        tls_key: "/d".into(),
        tls_cipher_suites: vec!["TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA"],
        tls_min_version: TlsVersion::V1_3,
        in_cluster: false,
        service_name: "s".to_owned(),
        namespace: "n".to_owned(),
        tls_secret: "t".to_owned(),
        watch_config_map: true,
        compose_role_arn: true,
        identities_file: Some("/i.json".into()),
        lookup_grace_period: Duration::from_millis(100),
        resync_period: Duration::from_secs(90),
        debugging_handlers: true,
        verbosity: 4,
        version: true,
        ..Serving::default()
    };
    assert_eq!(serving, expected);
    let expected = Options {
        annotation_prefix: "iam.example".to_owned(),
        token_audience: "a".to_owned(),
        token_mount_path: "/m".to_owned(),
        token_expiration: 3600,
        default_region: Some("eu-west-1".to_owned()),
        regional_sts: true,
        container_audience: "ca".to_owned(),
        container_mount_path: "/cm".to_owned(),
        container_volume_name: "cv".to_owned(),
        container_token_path: "cp".to_owned(),
        container_full_uri: "http://[fd00:ec2::23]/v1/credentials".to_owned(),
        ..Options::default()
    };
    assert_eq!(options, expected);
}

#[test]
fn our_own_flags_are_taken() {
    let flags = parse(&[
        "--associations-from=eks",
        "--association-refresh=2s",
        "--associations-cluster=orchard",
        "--associations-region=eu-west-1",
        "--associations-endpoint=https://eks.example",
        "--inject-session-name",
        "--max-token-expiration=43200",
        "--patch-style=replace",
        "--strict-arn",
        "--wait-for-association=10s",
        "--warnings=false",
        "--exclude-namespaces=kube-system, test-*",
        "--exclude-namespaces=x",
        "--extra-env=A=b=c",
        "--extra-env",
        "D=",
        "--no-agent-node-selectors=os in (a, b) , zone=c,bare",
        "--no-agent-node-selectors=x==y",
        "--disable-imds-env",
        "--compose-role-arn",
        "--compose-account=210987654321",
        "--aws-default-region=cn-north-1",
        "--failure-mode=fail",
        "--mutate-ephemeral-containers",
        "--role-profiles",
        "--restart-unmutated",
        "--reconcile=false",
        "--webhook-configuration=w",
        "-v",
        "2",
    ])
    .unwrap();
    let Flags {
        options,
        serving,
        ignored,
    } = flags;
    assert!(ignored.is_empty());
    assert_eq!(
        (serving.associations_from, serving.verbosity),
        (Source::Eks, 2)
    );
    let named = [
        &serving.associations_cluster,
        &serving.associations_region,
        &serving.associations_endpoint,
    ];
    let named: Vec<_> = named.into_iter().map(Option::as_deref).collect();
    assert_eq!(
        named,
        [
            Some("orchard"),
            Some("eu-west-1"),
            Some("https://eks.example")
        ]
    );
    assert_eq!(
        (serving.association_refresh, serving.wait_for_association),
        (Duration::from_secs(2), Duration::from_secs(10))
    );
    assert_eq!(options.exclude_namespaces, ["kube-system", "test-*", "x"]);
    let extra: Vec<_> = options
        .extra_env
        .iter()
        .map(|extra| (extra.name(), extra.value()))
        .collect();
    assert_eq!(extra, [("A", "b=c"), ("D", "")]);
    let selectors: Vec<_> = options
        .no_agent_node_selectors
        .iter()
        .map(NodeSelector::as_str)
        .collect();
    assert_eq!(selectors, ["os in (a, b) , zone=c,bare", "x==y"]);
    let composition = options.composition.unwrap();
    assert_eq!(
        (composition.account.as_str(), composition.partition.id()),
        ("210987654321", "aws-cn")
    );
    assert!(
        options.inject_session_name
            && options.strict_arn
            && options.disable_imds_env
            && options.ephemeral_containers
            && options.role_profiles
    );
    assert!(serving.restart_unmutated && !serving.reconcile);
    assert_eq!(serving.webhook_configuration.as_deref(), Some("w"));
    assert_eq!(
        (options.patch_style, options.failure_mode),
        (PatchStyle::Replace, FailureMode::Fail)
    );
    assert_eq!(
        (options.max_token_expiration, options.warnings),
        (43_200, false)
    );

    let partition = |arguments: &[&str]| {
        parse(arguments)
            .unwrap()
            .options
            .composition
            .map(|c| c.partition.id())
    };
    let account = "--compose-account=210987654321";
    assert_eq!(
        partition(&[
            "--compose-role-arn",
            account,
            "--compose-partition=aws-eusc"
        ]),
        Some("aws-eusc")
    );
    assert_eq!(partition(&["--compose-role-arn"]), None);
    assert_eq!(partition(&[account]), None);
}

#[test]
fn what_cannot_be_followed_is_refused_with_what_to_do() {
    let cases: &[(&[&str], &str)] = &[
        (&["--help"], "help was asked for"),
        (&["-h"], "help was asked for"),
        (&["--no-such-flag=1"], "unknown flag `--no-such-flag`"),
        (
            &["-port=1"],
            "unexpected argument `-port`: flags begin with `--`",
        ),
        (
            &["false"],
            "unexpected argument `false`: flags begin with `--`",
        ),
        (
            &["--in-cluster", "false"],
            "unexpected argument `false`: flags begin with `--`",
        ),
        (&["--"], "unexpected argument `--`: flags begin with `--`"),
        (&[""], "unexpected argument ``: flags begin with `--`"),
        (&["--port"], "--port needs a value"),
        (&["--vmodule"], "--vmodule needs a value"),
        (&["-v"], "--v needs a value"),
        (
            &["-vmodule=a"],
            "--v `module=a`: expected a number from 0 to 255",
        ),
        (
            &["--role-profiles", "--extra-env=AWS_CONFIG_FILE=x"],
            "--extra-env `AWS_CONFIG_FILE` is set already: each name once, and none of those that carry the credentials",
        ),
        (&["--port=65536"], "--port `65536`: expected a port"),
        (
            &["--in-cluster=yes"],
            "--in-cluster `yes`: expected true or false",
        ),
        (
            &["--token-expiration=1h"],
            "--token-expiration `1h`: expected seconds",
        ),
        (
            &["--resync-period=5"],
            "--resync-period `5`: expected a duration such as 100ms, 5s or 1m30s",
        ),
        (
            &["--tls-min-version=1.1"],
            "--tls-min-version `1.1` is not offered: TLS before 1.2 is broken; give 1.2 or 1.3",
        ),
        (
            &["--tls-min-version=VersionTLS10"],
            "--tls-min-version `VersionTLS10` is not offered: TLS before 1.2 is broken; give 1.2 or 1.3",
        ),
        (
            &["--tls-min-version=2"],
            "--tls-min-version `2`: expected 1.2, 1.3, VersionTLS12 or VersionTLS13",
        ),
        (
            &["--tls-cipher-suites=TLS_NO"],
            "--tls-cipher-suites: unknown cipher suite `TLS_NO`",
        ),
        (
            &["--watch-container-credentials-config=i.json"],
            "--watch-container-credentials-config `i.json` is not an absolute path",
        ),
        (
            &["--patch-style=merge"],
            "--patch-style `merge`: expected additive or replace",
        ),
        (
            &["--compose-account=1"],
            "--compose-account `1`: expected an account id of 12 digits",
        ),
        (
            &["--compose-partition=x"],
            "--compose-partition `x`: expected a partition such as aws or aws-cn",
        ),
        (
            &["--extra-env=SECRET"],
            "--extra-env `SECRET`: expected NAME=VALUE with a name of A-Z, a-z, 0-9 and `_`, not beginning with a digit",
        ),
        (
            &["--extra-env=1A=SECRET"],
            "--extra-env `1A`: expected NAME=VALUE with a name of A-Z, a-z, 0-9 and `_`, not beginning with a digit",
        ),
        (
            &["--extra-env=A=1", "--extra-env=A=2"],
            "--extra-env `A` is set already: each name once, and none of those that carry the credentials",
        ),
        (
            &["--extra-env=AWS_ROLE_ARN=x"],
            "--extra-env `AWS_ROLE_ARN` is set already: each name once, and none of those that carry the credentials",
        ),
        (
            &["--no-agent-node-selectors=a!=b"],
            "--no-agent-node-selectors `a!=b`: expected `key`, `key=value` or `key in (a, b)`, with commas between",
        ),
        (
            &["--no-agent-node-selectors=a notin (b)"],
            "--no-agent-node-selectors `a notin (b)`: expected `key`, `key=value` or `key in (a, b)`, with commas between",
        ),
        (
            &["--no-agent-node-selectors=a in (b"],
            "--no-agent-node-selectors `a in (b`: expected `key`, `key=value` or `key in (a, b)`, with commas between",
        ),
        (
            &["--no-agent-node-selectors=a,"],
            "--no-agent-node-selectors `a,`: expected `key`, `key=value` or `key in (a, b)`, with commas between",
        ),
        (&["--annotation-prefix="], "--annotation-prefix is empty"),
        (
            &["--annotation-prefix=a/b"],
            "--annotation-prefix `a/b` is no DNS name, which prefixes of annotations are",
        ),
        (
            &["--token-mount-path=var"],
            "--token-mount-path `var` is no path for a mount: absolute, without `:` and `..`",
        ),
        (
            &["--token-mount-path=/a/../b"],
            "--token-mount-path `/a/../b` is no path for a mount: absolute, without `:` and `..`",
        ),
        (
            &["--container-credentials-token-path=/a"],
            "--container-credentials-token-path `/a` is no relative path without `:` and `..`",
        ),
        (
            &["--container-credentials-token-volume-name=A"],
            "--container-credentials-token-volume-name `A` is no volume name: up to 63 of a-z, 0-9 and `-`",
        ),
        (
            &["--container-credentials-token-volume-name=aws-iam-token"],
            "--container-credentials-token-volume-name `aws-iam-token` is the name of the IRSA volume",
        ),
        (
            &["--max-token-expiration=599"],
            "--max-token-expiration 599 is below 600 seconds, the least an API server accepts",
        ),
        (&["--v=300"], "--v `300`: expected a number from 0 to 255"),
    ];
    for (arguments, message) in cases {
        let error = parse(arguments).unwrap_err().to_string();
        assert_eq!(error, *message, "{arguments:?}");
    }
}

#[test]
fn levels_of_the_log_are_taken_in_every_form() {
    for arguments in [
        &["--v=3"][..],
        &["--v", "3"],
        &["-v=3"],
        &["-v3"],
        &["-v", "3"],
    ] {
        assert_eq!(
            parse(arguments).unwrap().serving.verbosity,
            3,
            "{arguments:?}"
        );
    }
}

/// What `--help` says is the default is it, and every flag is explained.
#[test]
fn help_tells_the_truth() {
    let help = Flags::help();
    let mut seen = 0;
    for line in help.lines() {
        assert!(line.chars().count() <= 120, "{line}");
        let Some(flag) = line.strip_prefix("  --") else {
            continue;
        };
        seen += 1;
        if let Some((flag, default)) = flag.split_once(" [default: ") {
            let name = flag.split('=').next().unwrap();
            let argument = format!("--{name}={}", default.strip_suffix(']').unwrap());
            assert_eq!(parse(&[&argument]).unwrap(), Flags::default(), "{argument}");
        }
    }
    assert_eq!(seen, Flags::names().count());
}
