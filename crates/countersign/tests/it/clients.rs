//! The clients that take credentials by the default chain of their SDK: one table for all tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::harness::{aws_cli, aws_cli_2, client, go_clients, node_modules, python};

/// A client on this machine.
pub struct Client {
    /// What messages of failing tests call it.
    pub name: &'static str,
    program: PathBuf,
    whoami: Vec<String>,
    token: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Client {
    fn new(name: &'static str, program: &Path, whoami: &[&str], token: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().copied().map(str::to_owned).collect();
        Self {
            name,
            program: program.to_owned(),
            whoami: owned(whoami),
            token: owned(token),
            environment: BTreeMap::new(),
        }
    }

    /// Asks STS who the credentials of this environment make it; the ARN is part of what it prints.
    pub fn whoami(&self, environment: &BTreeMap<String, String>) -> Output {
        self.run(&self.whoami, environment)
    }

    /// Its token for the cluster `demo`, or nothing for a client that makes none by itself.
    pub fn token(&self, environment: &BTreeMap<String, String>) -> Option<String> {
        if self.token.is_empty() {
            return None;
        }
        let output = self.run(&self.token, environment);
        let (stdout, stderr) = texts(&output);
        let at = stdout.find("k8s-aws-v1.");
        let token = at.map(|at| {
            let end = |character: char| character == '"' || character.is_whitespace();
            let token = stdout[at..].split(end).next();
            token.unwrap_or_default().to_owned()
        });
        assert!(token.is_some(), "{}: {stdout}{stderr}", self.name);
        token
    }

    fn run(&self, args: &[String], environment: &BTreeMap<String, String>) -> Output {
        let mut environment = environment.clone();
        environment.extend(self.environment.clone());
        // The AWS CLI keeps sessions of roles in the home directory; those of another test are of another server.
        let home = tempfile::tempdir().unwrap();
        environment.insert("HOME".into(), home.path().display().to_string());
        // The SDK for Go v2 asks for a role where this variable says, and in some versions not where `AWS_ENDPOINT_URL` does.
        if let Some(url) = environment.get("AWS_ENDPOINT_URL").cloned() {
            environment.insert("AWS_ENDPOINT_URL_STS".into(), url);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        client(&self.program, &args, &environment)
    }
}

/// What a program wrote to stdout and stderr.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// AWS CLI 1 and 2, boto3, and the AWS SDKs for JavaScript and Go; those that are missing are skipped loudly.
pub fn clients(test: &str) -> Vec<Client> {
    let whoami = ["sts", "get-caller-identity", "--output", "json"];
    let token = ["eks", "get-token", "--cluster-name", "demo"];
    let mut all = Vec::new();
    all.extend(aws_cli(test).map(|aws| Client::new("AWS CLI 1", &aws, &whoami, &token)));
    all.extend(aws_cli_2(test).map(|aws| Client::new("AWS CLI 2", &aws, &whoami, &token)));
    let script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    all.extend(python(test).map(|python| Client::new("boto3", &python, &["-c", script], &[])));
    if let Some(modules) = node_modules(test) {
        let script = format!(
            "const {{STSClient, GetCallerIdentityCommand}} = require('{}');\
             new STSClient({{}}).send(new GetCallerIdentityCommand({{}})).then(who => console.log(who.Arn), error => {{ console.error(error); process.exit(1); }});",
            modules.join("@aws-sdk/client-sts").display()
        );
        let name = "the AWS SDK for JavaScript";
        let mut javascript = Client::new(name, Path::new("node"), &["-e", &script], &[]);
        let modules = modules.display().to_string();
        javascript.environment.insert("NODE_PATH".into(), modules);
        all.push(javascript);
    }
    if let Some(folder) = go_clients(test) {
        for (name, program) in [
            ("the AWS SDK for Go v1", "aws-sdk-go-v1"),
            ("the AWS SDK for Go v2", "aws-sdk-go-v2"),
        ] {
            let program = folder.join(program);
            all.push(Client::new(name, &program, &["whoami"], &["token", "demo"]));
        }
    }
    all
}

/// Runs every client in this environment; STS must tell each that it is `expected`.
pub fn every_client_is(test: &str, environment: &BTreeMap<String, String>, expected: &str) {
    for client in clients(test) {
        let (stdout, stderr) = texts(&client.whoami(environment));
        assert!(
            stdout.contains(expected),
            "{}: {stdout}{stderr}",
            client.name
        );
    }
}
