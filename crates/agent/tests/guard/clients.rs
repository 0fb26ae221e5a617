//! Many clients in one pod's namespace, each from an address of its own: a process there that gets requests in batches.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::node::Node;
use crate::world::runtime;

const CLIENTS: &str = "COUNTERSIGN_TEST_GUARD_CLIENTS";
const SERVICE: &str = "169.254.169.254:80";

/// A request on a connection of its own.
#[derive(Serialize, Deserialize)]
pub struct Ask {
    from: IpAddr,
    to: SocketAddr,
    text: String,
}

impl Ask {
    pub fn put_token(from: IpAddr) -> Self {
        Self::new(
            from,
            "PUT /latest/api/token",
            "x-aws-ec2-metadata-token-ttl-seconds: 600",
        )
    }

    pub fn get(from: IpAddr, path: &str, token: &str) -> Self {
        let header = format!("x-aws-ec2-metadata-token: {token}");
        Self::new(from, &format!("GET {path}"), &header)
    }

    fn new(from: IpAddr, line: &str, header: &str) -> Self {
        Self {
            from,
            to: SERVICE.parse().unwrap(),
            text: format!(
                "{line} HTTP/1.1\r\nhost: 169.254.169.254\r\n{header}\r\nconnection: close\r\n\r\n"
            ),
        }
    }

    /// Status and body; 0 and the reason when there was no answer.
    async fn answer(self) -> (u16, String) {
        let exchange = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(self.from, 0))?;
            let mut stream = socket.connect(self.to).await?;
            stream.write_all(self.text.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match tokio::time::timeout(Duration::from_secs(10), exchange).await {
            Ok(Ok(answer)) => {
                let status = answer.get(9..12).and_then(|status| status.parse().ok());
                let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                (status.unwrap_or(0), body.to_owned())
            }
            Ok(Err(error)) => (0, error.to_string()),
            Err(_) => (0, "no answer in 10 s".to_owned()),
        }
    }
}

/// The process in the namespace.
pub struct Clients {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Clients {
    pub fn start(node: &Node, pod: usize) -> Self {
        let mut child = node
            .again(pod, "clients::clients")
            .env(CLIENTS, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// All at once; the answers are in the order of the requests.
    pub fn ask(&mut self, all: &[Ask]) -> Vec<(u16, String)> {
        let mut text = serde_json::to_vec(all).unwrap();
        text.push(b'\n');
        self.input.as_mut().unwrap().write_all(&text).unwrap();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "the clients are gone"
            );
            // What the test harness says of itself comes before.
            if line.starts_with('[') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Not a test of its own: the process in the namespace.
#[test]
fn clients() {
    if std::env::var_os(CLIENTS).is_none() {
        return;
    }
    let runtime = runtime();
    println!();
    for line in std::io::stdin().lock().lines() {
        let all: Vec<Ask> = serde_json::from_str(&line.unwrap()).unwrap();
        let answers = runtime.block_on(async {
            let tasks: Vec<_> = all
                .into_iter()
                .map(|ask| tokio::spawn(ask.answer()))
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            answers
        });
        println!("{}", serde_json::to_string(&answers).unwrap());
    }
}
