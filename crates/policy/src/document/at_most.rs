//! What a document comes to at most, before a request is there.

use super::{ConditionBlock, ConditionKey, Document, Effect, Statement};

impl Document {
    /// The document for somebody who knows some condition keys of the requests to come and nothing of the others: what
    /// allowing statements test of other keys is left out, and denying statements that test another key are left out.
    ///
    /// What the result denies, the document denies whatever the unknown keys are; what the result allows, the document allows
    /// for some of their values or for none. `is_known` is asked with the key in lower case. A test against a policy
    /// variable counts as one of an unknown key.
    ///
    /// Statements lose their places by it, so that the principal ids of [`compile_with_ids`](crate::Policy::compile_with_ids)
    /// do not fit the result.
    #[must_use]
    pub fn at_most(&self, is_known: impl Fn(&str) -> bool) -> Self {
        let known = |tested: &ConditionKey| {
            is_known(&crate::fold::lower(&tested.key.value))
                && !tested.values.iter().any(|value| value.value.contains("${"))
        };
        let statements = self
            .statements
            .iter()
            .filter_map(|statement| match statement.effect {
                Effect::Allow => Some(without_unknown(statement, &known)),
                Effect::Deny => {
                    let mut tested = statement.conditions.iter().flat_map(|block| &block.keys);
                    tested.all(&known).then(|| statement.clone())
                }
            })
            .collect();
        Self {
            statements,
            ..self.clone()
        }
    }
}

fn without_unknown(statement: &Statement, known: &impl Fn(&ConditionKey) -> bool) -> Statement {
    let block = |block: &ConditionBlock| {
        let keys: Vec<ConditionKey> = block
            .keys
            .iter()
            .filter(|key| known(key))
            .cloned()
            .collect();
        (!keys.is_empty()).then(|| ConditionBlock {
            keys,
            ..block.clone()
        })
    };
    Statement {
        conditions: statement.conditions.iter().filter_map(block).collect(),
        ..statement.clone()
    }
}
