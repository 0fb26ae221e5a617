//! Rules of kube2iam and kiam on this node, in both kinds of iptables and in nft: found, and taken away by the program that listed
//! them. Neither of the two takes its rule away itself, and two that translate the same packets are one too many.

use countersign_imds::predecessors::nft_shadows;
use countersign_imds::rules::shadows;

use super::program::{Program, ProgramError};

/// Kinds of iptables under their own names, and what goes by the plain one.
const IPTABLES: [(&str, Family); 6] = [
    ("iptables-nft", Family::Four),
    ("iptables-legacy", Family::Four),
    ("iptables", Family::Four),
    ("ip6tables-nft", Family::Six),
    ("ip6tables-legacy", Family::Six),
    ("ip6tables", Family::Six),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Four,
    Six,
}

/// A rule that sends instance metadata to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredecessorRule {
    /// The rule as it was listed.
    pub rule: String,
    program: Program,
    arguments: Vec<String>,
    again: String,
}

/// What a node has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Predecessors {
    /// The rules.
    pub rules: Vec<PredecessorRule>,
    /// Why something could not be read, one line each.
    pub unread: Vec<String>,
}

impl PredecessorRule {
    /// The command that takes it away.
    #[must_use]
    pub fn removal(&self) -> String {
        format!("{} {}", self.program, self.arguments.join(" "))
    }

    /// The command that puts it back.
    #[must_use]
    pub fn undo(&self) -> String {
        format!("{} {}", self.program, self.again)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When the program fails, as when somebody else was faster.
    pub async fn remove(&self) -> Result<(), ProgramError> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.program.run(&arguments, "").await.map(drop)
    }
}

/// Looks for them.
pub async fn predecessors() -> Predecessors {
    let mut found = Predecessors::default();
    // Families whose tables of nft were read through iptables.
    let mut covered = Vec::new();
    for (name, family) in IPTABLES {
        let Ok(program) = Program::of_iptables(name, "nat") else {
            continue;
        };
        let list = ["-w", "5", "-t", "nat", "-S", "PREROUTING"];
        match program.run(&list, "").await {
            Ok(listing) => {
                if name.ends_with("-nft") || program.is_of_nft().await {
                    covered.push(family);
                }
                for shadow in shadows(&listing) {
                    let plain = !name.contains('-');
                    if plain && found.rules.iter().any(|other| other.rule == shadow.rule) {
                        continue;
                    }
                    let mut arguments = ["-w", "5", "-t", "nat"].map(str::to_owned).to_vec();
                    arguments.extend(shadow.delete);
                    found.rules.push(PredecessorRule {
                        again: format!("-w 5 -t nat {}", shadow.rule),
                        rule: shadow.rule,
                        program: program.clone(),
                        arguments,
                    });
                }
            }
            Err(error) if error.is_nothing_there() || error.is_for_nft() => {}
            Err(error) => found.unread.push(error.to_string()),
        }
    }
    for (family, table) in [(Family::Four, "ip"), (Family::Six, "ip6")] {
        if !covered.contains(&family) {
            of_nft(table, &mut found).await;
        }
    }
    found
}

/// Rules that iptables wrote by way of nft, where it cannot list them itself.
async fn of_nft(table: &str, found: &mut Predecessors) {
    let Ok(nft) = Program::find("nft") else {
        return;
    };
    let list = ["-a", "list", "chain", table, "nat", "PREROUTING"];
    match nft.run(&list, "").await {
        Ok(listing) => {
            for shadow in nft_shadows(&listing) {
                let handle = shadow.handle.to_string();
                let delete = [
                    "delete",
                    "rule",
                    table,
                    "nat",
                    "PREROUTING",
                    "handle",
                    &handle,
                ];
                found.rules.push(PredecessorRule {
                    again: format!("'add rule {table} nat PREROUTING {}'", shadow.rule),
                    rule: shadow.rule,
                    program: nft.clone(),
                    arguments: delete.map(str::to_owned).to_vec(),
                });
            }
        }
        Err(error) if error.is_nothing_there() => {}
        Err(error) => found.unread.push(error.to_string()),
    }
}
