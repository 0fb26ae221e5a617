//! Entry points for fuzzing; none may panic.

/// ARN and caller parsing.
pub fn arn(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = crate::Arn::parse(text);
    let _ = crate::unique_id::account_of(text);
    let _ = crate::Partition::of_region(text);
    if let Ok(caller) = crate::CallerArn::parse(text) {
        assert_eq!(
            crate::CallerArn::parse(&caller.to_string()).as_ref(),
            Ok(&caller)
        );
    }
}
