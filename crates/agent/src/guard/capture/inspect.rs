//! What the rules of this node do, whoever set them; and the drop that a node begins with.

use countersign_imds::node::Rules;
use countersign_imds::rules::TABLE;
use jiff::Timestamp;

use super::filter::Filter;
use super::program::{Program, ProgramError};

/// `iptables` and `ip6tables` in each of their kinds.
const IPTABLES: [(&str, &str); 3] = [
    ("iptables-nft", "ip6tables-nft"),
    ("iptables", "ip6tables"),
    ("iptables-legacy", "ip6tables-legacy"),
];

/// Reads the rules of nft and of all kinds of iptables. Rules that hold in one of them hold: what one drops no other sees.
///
/// # Errors
/// When none of the programs is there, or those that are may not list rules.
pub async fn inspect() -> Result<Rules, ProgramError> {
    let mut failed = None;
    let mut broken = None;
    let mut is_read = false;
    let mut look = |rules: Result<Rules, ProgramError>| {
        match rules {
            Ok(rules) if rules.hold() => return Some(rules),
            Ok(rules @ Rules::Broken { .. }) => {
                broken.get_or_insert(rules);
            }
            Ok(_) => is_read = true,
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
        None
    };
    if let Some(rules) = look(of_nft().await) {
        return Ok(rules);
    }
    for (four, six) in IPTABLES {
        if let Some(rules) = look(of_iptables(four, six).await) {
            return Ok(rules);
        }
    }
    match (broken, is_read, failed) {
        (Some(broken), ..) => Ok(broken),
        (None, false, Some(error)) => Err(error),
        // One that cannot be read beside one that can is one that is not used here.
        (None, ..) => Ok(Rules::Missing),
    }
}

async fn of_nft() -> Result<Rules, ProgramError> {
    let nft = Program::find("nft")?;
    match nft.run(&["-s", "list", "table", "inet", TABLE], "").await {
        Ok(listing) => Ok(Rules::of_nft(&listing)),
        Err(error) if error.is_nothing_there() => Ok(Rules::Missing),
        Err(error) => Err(error),
    }
}

async fn of_iptables(four: &'static str, six: &'static str) -> Result<Rules, ProgramError> {
    let mut listings = Vec::new();
    for name in [four, six] {
        let program = Program::of_iptables(name, "mangle")?;
        listings.push(
            match program.run(&["-w", "5", "-t", "mangle", "-S"], "").await {
                Ok(listing) => listing,
                Err(error) if error.is_nothing_there() => String::new(),
                Err(error) => return Err(error),
            },
        );
    }
    let [four, six] = listings.as_slice() else {
        return Ok(Rules::Missing);
    };
    Ok(Rules::of_iptables(four, six, Timestamp::now()))
}

/// Drops pods' requests until an agent answers them (imds spec, section 5.1): what a node does before kubelet starts. Doing it twice
/// is doing it once, and a guard that answers already is left alone. Returns whether something was set.
///
/// # Errors
/// When the rules cannot be set, or do not hold afterwards.
pub async fn drop_until_answered(mut filter: Filter) -> Result<bool, ProgramError> {
    if inspect().await.ok() == Some(Rules::Redirected) {
        return Ok(false);
    }
    filter.install(None, None).await?;
    match inspect().await? {
        Rules::Dropped | Rules::Redirected => Ok(true),
        Rules::Missing => Err(ProgramError::NotInForce("they are not there".into())),
        Rules::Broken { reason } => Err(ProgramError::NotInForce(reason)),
    }
}
