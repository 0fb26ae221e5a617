//! A lookup allocates nothing, whether it hits or misses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helper functions of tests"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use countersign_arn::CallerIdentity;
use countersign_mapping::config_map::ConfigMap;
use countersign_mapping::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(
    unsafe_code,
    reason = "an allocator that counts needs the unsafe trait"
)]
// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn caller(arn: &str, id: &str) -> CallerIdentity {
    let account = arn.split(':').nth(4).unwrap();
    CallerIdentity::new(arn, account, id, "ASIAEXAMPLE", "sts.amazonaws.com").unwrap()
}

#[test]
fn a_lookup_allocates_nothing() {
    let options = MappingOptions::default();
    let text = "- {rolearn: 'arn:aws:iam::444455556666:role/Ops', username: 'ops:{{SessionNameRaw}}', groups: [ops]}\n\
                - {sso: {permissionSetName: Data, accountID: '444455556666'}, username: 'data:{{SessionNameRaw}}'}\n\
                - {roleMatch: {accountID: '444455556666', name: 'team-*'}, username: '{{RoleName}}'}\n\
                - {rolearn: 'arn:aws:iam::444455556666:role/Node', username: 'system:node:{{EC2PrivateDNSName}}'}\n";
    let data = BTreeMap::from([
        ("mapRoles".to_owned(), text.to_owned()),
        ("mapAccounts".to_owned(), "['111122223333']".to_owned()),
    ]);
    let (entries, _) = ConfigMap::parse(&data, &options).in_force(None, OnParseError::KeepLastGood);
    let table = MappingTable::new(BackendKind::EksConfigMap, entries, &options);
    let chain = Chain::new(vec![table.into()], ChainOptions::default());
    for (role, account, mapped) in [
        ("OPS/ana", "444455556666", true),
        (
            "AWSReservedSSO_data_0123456789abcdef/ana",
            "444455556666",
            true,
        ),
        ("team-x/ana", "444455556666", true),
        ("Node/i-0123abcd", "444455556666", true),
        ("nobody/ana", "444455556666", false),
        ("nobody/ana", "111122223333", true),
        ("nobody/ana", "000000000000", false),
    ] {
        let session = role.rsplit('/').next().unwrap();
        let caller = caller(
            &format!("arn:aws:sts::{account}:assumed-role/{role}"),
            &format!("AROAEXAMPLE:{session}"),
        );
        let before = ALLOCATIONS.get();
        let decision = chain.map(&caller);
        let allocated = ALLOCATIONS.get() - before;
        assert_eq!(allocated, 0, "{role}");
        assert_eq!(
            !matches!(decision, MappingDecision::Denied(_)),
            mapped,
            "{role}"
        );
    }
}

/// A path of 512 characters and a name of 64 are the longest that IAM has.
#[test]
fn the_longest_user_arn_is_compared_on_the_stack() {
    let options = MappingOptions::default();
    let arn = format!(
        "arn:aws-us-gov:iam::444455556666:user/{}/{}",
        "p".repeat(510),
        "n".repeat(64)
    );
    let data = BTreeMap::from([(
        "mapUsers".to_owned(),
        format!("- {{userarn: '{arn}', username: kim}}"),
    )]);
    let (entries, _) = ConfigMap::parse(&data, &options).in_force(None, OnParseError::KeepLastGood);
    let table = MappingTable::new(BackendKind::EksConfigMap, entries, &options);
    let chain = Chain::new(vec![table.into()], ChainOptions::default());
    let caller = caller(&arn, "AIDAEXAMPLE");
    let before = ALLOCATIONS.get();
    assert!(matches!(chain.map(&caller), MappingDecision::Mapped(_)));
    assert_eq!(ALLOCATIONS.get() - before, 0);
    // Beyond that it works all the same.
    let long = format!("arn:aws:iam::444455556666:user/{}", "n".repeat(1500));
    let long = self::caller(&long, "AIDAEXAMPLE");
    assert!(matches!(chain.map(&long), MappingDecision::Denied(_)));
}
