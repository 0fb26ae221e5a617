//! From the tree to a document: the grammar of the policy language spec, section 1.2.

use std::sync::Arc;

use super::{
    ConditionBlock, ConditionKey, Document, Effect, ListElement, MAX_STATEMENTS, MAX_VALUES,
    PrincipalElement, PrincipalEntry, PrincipalKind, Statement, Text, Version,
};
use crate::condition::Operator;
use crate::nearest;
use crate::problem::{Gravity, Problem};
use crate::text::{Member, Node, Path, SourceText, Span, Value};

const TOP_ELEMENTS: [&str; 3] = ["Version", "Id", "Statement"];
const STATEMENT_ELEMENTS: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];
const PRINCIPAL_KINDS: [(&str, PrincipalKind); 4] = [
    ("AWS", PrincipalKind::Aws),
    ("Service", PrincipalKind::Service),
    ("Federated", PrincipalKind::Federated),
    ("CanonicalUser", PrincipalKind::CanonicalUser),
];

pub(super) fn document(node: &Node<'_>, source: &Arc<SourceText>) -> (Document, Vec<Problem>) {
    let mut reader = Reader {
        problems: Vec::new(),
        values: 0,
    };
    let mut document = Document {
        source: Arc::clone(source),
        span: node.span,
        version: Version::V2008,
        version_span: None,
        id: None,
        statements: Vec::new(),
        statement_is_object: false,
        statements_span: node.span,
        reported: Vec::new(),
    };
    reader.top(node, &mut document);
    if reader.values > MAX_VALUES {
        reader.problems.push(Problem::new(
            "DOCUMENT_TOO_LARGE",
            Gravity::Syntax,
            &Path::Root,
            node.span,
            format!("the document holds more than {MAX_VALUES} values"),
        ));
    }
    (document, reader.problems)
}

struct Reader {
    problems: Vec<Problem>,
    values: usize,
}

impl Reader {
    fn top(&mut self, node: &Node<'_>, document: &mut Document) {
        let root = Path::Root;
        let Value::Object(members) = &node.value else {
            self.problems.push(
                Problem::wrong_type(&root, node, "a policy document, which is a JSON object")
                    .hint("a policy begins {\"Version\": \"2012-10-17\", \"Statement\": ["),
            );
            return;
        };
        let mut has_statement = false;
        for member in members {
            let path = root.key(&member.key);
            match &*member.key {
                "Version" => {
                    document.version_span = Some(member.node.span);
                    document.version = self.version(&member.node, &path);
                }
                "Id" => document.id = self.text(&member.node, &path, "a string"),
                "Statement" => {
                    has_statement = true;
                    document.statements_span = member.node.span;
                    document.statement_is_object = matches!(member.node.value, Value::Object(_));
                    document.statements = self.statements(&member.node, &path);
                }
                _ => self.unknown_element(member, &path, &TOP_ELEMENTS),
            }
        }
        if !has_statement {
            self.problems.push(
                Problem::new(
                    "MISSING_STATEMENT",
                    Gravity::Syntax,
                    &root,
                    node.span,
                    "the document has no `Statement`",
                )
                .hint("add \"Statement\": [{\"Effect\": ..., \"Action\": ..., \"Resource\": ...}]"),
            );
        }
    }

    fn version(&mut self, node: &Node<'_>, path: &Path<'_>) -> Version {
        match node.as_str() {
            Some("2012-10-17") => Version::V2012,
            Some("2008-10-17") => Version::V2008,
            _ => {
                self.problems.push(
                    Problem::new(
                        "INVALID_VERSION",
                        Gravity::Syntax,
                        path,
                        node.span,
                        "`Version` is the version of the language, \"2012-10-17\" or \"2008-10-17\"",
                    )
                    .hint("write \"Version\": \"2012-10-17\"; it is not the date of your policy"),
                );
                Version::V2008
            }
        }
    }

    fn statements(&mut self, node: &Node<'_>, path: &Path<'_>) -> Vec<Statement> {
        match &node.value {
            Value::Object(_) => vec![self.statement(node, path)],
            Value::Array(items) if items.is_empty() => {
                self.problems.push(Problem::new(
                    "MISSING_STATEMENT",
                    Gravity::Syntax,
                    path,
                    node.span,
                    "`Statement` is an empty list",
                ));
                Vec::new()
            }
            Value::Array(items) if items.len() > MAX_STATEMENTS => {
                self.problems.push(Problem::new(
                    "DOCUMENT_TOO_LARGE",
                    Gravity::Syntax,
                    path,
                    node.span,
                    format!("the document has more than {MAX_STATEMENTS} statements"),
                ));
                Vec::new()
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.statement(item, &path.index(index)))
                .collect(),
            _ => {
                self.problems.push(Problem::wrong_type(
                    path,
                    node,
                    "a statement or a list of statements",
                ));
                Vec::new()
            }
        }
    }

    fn statement(&mut self, node: &Node<'_>, path: &Path<'_>) -> Statement {
        let mut statement = Statement {
            span: node.span,
            sid: None,
            effect: Effect::Deny,
            principal: None,
            action: None,
            resource: None,
            conditions: Vec::new(),
            condition_span: None,
        };
        let Value::Object(members) = &node.value else {
            self.problems
                .push(Problem::wrong_type(path, node, "a statement object"));
            return statement;
        };
        let mut has_effect = false;
        for member in members {
            let here = path.key(&member.key);
            let value = &member.node;
            match &*member.key {
                "Sid" => statement.sid = self.text(value, &here, "a string"),
                "Effect" => {
                    has_effect = true;
                    statement.effect = self.effect(value, &here);
                }
                "Action" | "NotAction" => {
                    let list = self.list(member, &here);
                    self.one_of(&mut statement.action, list, &here, ["Action", "NotAction"]);
                }
                "Resource" | "NotResource" => {
                    let list = self.list(member, &here);
                    let names = ["Resource", "NotResource"];
                    self.one_of(&mut statement.resource, list, &here, names);
                }
                "Principal" | "NotPrincipal" => {
                    if statement.principal.is_some() {
                        self.both(&here, member.key_span, ["Principal", "NotPrincipal"]);
                    }
                    statement.principal = Some(self.principal(member, &here));
                }
                "Condition" => {
                    statement.condition_span = Some(value.span);
                    statement.conditions = self.conditions(value, &here);
                }
                _ => self.unknown_element(member, &here, &STATEMENT_ELEMENTS),
            }
        }
        if !has_effect {
            self.problems.push(
                Problem::new(
                    "MISSING_EFFECT",
                    Gravity::Syntax,
                    path,
                    node.span,
                    "the statement has no `Effect`",
                )
                .hint("add \"Effect\": \"Allow\" or \"Effect\": \"Deny\""),
            );
        }
        statement
    }

    fn effect(&mut self, node: &Node<'_>, path: &Path<'_>) -> Effect {
        let text = node.as_str().unwrap_or_default();
        match text {
            "Allow" => return Effect::Allow,
            "Deny" => return Effect::Deny,
            _ => {}
        }
        let other_case = text.eq_ignore_ascii_case("allow") || text.eq_ignore_ascii_case("deny");
        let gravity = if other_case {
            Gravity::LegacyFatal
        } else {
            Gravity::Syntax
        };
        self.problems.push(
            Problem::new(
                "INVALID_EFFECT",
                gravity,
                path,
                node.span,
                "`Effect` is neither \"Allow\" nor \"Deny\"",
            )
            .hint("the two words are case-sensitive"),
        );
        Effect::Deny
    }

    fn one_of(
        &mut self,
        slot: &mut Option<ListElement>,
        list: ListElement,
        path: &Path<'_>,
        names: [&str; 2],
    ) {
        if slot.is_some() {
            self.both(path, list.key_span, names);
        }
        *slot = Some(list);
    }

    fn both(&mut self, path: &Path<'_>, span: Span, [plain, negated]: [&str; 2]) {
        self.problems.push(
            Problem::new(
                "UNSUPPORTED_ELEMENT_COMBINATION",
                Gravity::Syntax,
                path,
                span,
                format!("a statement has either `{plain}` or `{negated}`, not both"),
            )
            .hint("split it into two statements"),
        );
    }

    fn list(&mut self, member: &Member<'_>, path: &Path<'_>) -> ListElement {
        let mut entries = Vec::new();
        let node = &member.node;
        match &node.value {
            Value::String(text) => entries.push(own(text, node.span)),
            Value::Array(items) => {
                entries.reserve(items.len());
                for (index, item) in items.iter().enumerate() {
                    match &item.value {
                        Value::String(text) => entries.push(own(text, item.span)),
                        // IAM stores such lists and ignores the entry.
                        Value::Null => {}
                        _ => self.problems.push(Problem::wrong_type(
                            &path.index(index),
                            item,
                            "a string",
                        )),
                    }
                }
            }
            _ => self.problems.push(Problem::wrong_type(
                path,
                node,
                "a string or a list of strings",
            )),
        }
        self.values += entries.len();
        ListElement {
            negated: member.key.starts_with("Not"),
            key_span: member.key_span,
            span: node.span,
            is_list: matches!(node.value, Value::Array(_)),
            entries,
        }
    }

    fn principal(&mut self, member: &Member<'_>, path: &Path<'_>) -> PrincipalElement {
        let node = &member.node;
        let mut entries = Vec::new();
        let mut is_star = false;
        match &node.value {
            Value::String(text) if text == "*" => {
                is_star = true;
                entries.push(PrincipalEntry {
                    kind: PrincipalKind::Star,
                    text: own(text, node.span),
                });
            }
            Value::Object(kinds) => {
                for kind in kinds {
                    self.principal_kind(kind, &path.key(&kind.key), &mut entries);
                }
            }
            _ => self.problems.push(
                Problem::new(
                    "INVALID_PRINCIPAL_FORMAT",
                    Gravity::Syntax,
                    path,
                    node.span,
                    "a principal is \"*\" or an object such as {\"AWS\": \"arn:...\"}",
                )
                .hint("name the kind: AWS, Service, Federated or CanonicalUser"),
            ),
        }
        self.values += entries.len();
        PrincipalElement {
            negated: member.key.starts_with("Not"),
            key_span: member.key_span,
            span: node.span,
            is_star,
            entries,
        }
    }

    fn principal_kind(
        &mut self,
        member: &Member<'_>,
        path: &Path<'_>,
        entries: &mut Vec<PrincipalEntry>,
    ) {
        let Some((_, kind)) = PRINCIPAL_KINDS
            .into_iter()
            .find(|(name, _)| *name == member.key)
        else {
            let problem = Problem::new(
                "INVALID_PRINCIPAL_KEY",
                Gravity::Syntax,
                path,
                member.key_span,
                format!("`{}` is not a kind of principal", member.key),
            );
            let names = PRINCIPAL_KINDS.map(|(name, _)| name);
            self.problems
                .push(match nearest(&member.key, names.into_iter()) {
                    Some(name) => problem.hint(format!("did you mean `{name}`?")),
                    None => problem.hint("use AWS, Service, Federated or CanonicalUser"),
                });
            return;
        };
        let node = &member.node;
        match &node.value {
            Value::String(text) => entries.push(PrincipalEntry {
                kind,
                text: own(text, node.span),
            }),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    match &item.value {
                        Value::String(text) => entries.push(PrincipalEntry {
                            kind,
                            text: own(text, item.span),
                        }),
                        _ => self.problems.push(
                            Problem::wrong_type(&path.index(index), item, "a string")
                                .hint("account ids stand in quotes"),
                        ),
                    }
                }
            }
            _ => self.problems.push(
                Problem::wrong_type(path, node, "a string or a list of strings")
                    .hint("account ids stand in quotes"),
            ),
        }
    }

    fn conditions(&mut self, node: &Node<'_>, path: &Path<'_>) -> Vec<ConditionBlock> {
        let Value::Object(members) = &node.value else {
            self.problems.push(Problem::wrong_type(
                path,
                node,
                "an object of operators, such as {\"StringEquals\": {...}}",
            ));
            return Vec::new();
        };
        members
            .iter()
            .map(|member| self.condition_block(member, &path.key(&member.key)))
            .collect()
    }

    fn condition_block(&mut self, member: &Member<'_>, path: &Path<'_>) -> ConditionBlock {
        let mut keys = Vec::new();
        match &member.node.value {
            Value::Object(members) => {
                self.operator(member, members.is_empty(), path);
                self.case_duplicates(members, path);
                keys.reserve(members.len());
                for key in members {
                    keys.push(self.condition_key(key, &path.key(&key.key)));
                }
            }
            _ => self.problems.push(
                Problem::wrong_type(path, &member.node, "an object of condition keys")
                    .hint("an operator holds {\"key\": \"value\"}"),
            ),
        }
        ConditionBlock {
            operator: own(&member.key, member.key_span),
            span: member.node.span,
            keys,
        }
    }

    fn operator(&mut self, member: &Member<'_>, is_empty: bool, path: &Path<'_>) {
        if is_empty || Operator::parse_exact(&member.key).is_some() {
            return;
        }
        let null_if_exists = member.key.ends_with("NullIfExists");
        let problem = Problem::new(
            if null_if_exists {
                "NULL_WITH_IF_EXISTS"
            } else {
                "INVALID_CONDITION_OPERATOR"
            },
            Gravity::Operator,
            path,
            member.key_span,
            if null_if_exists {
                "`Null` asks whether the key exists and takes no `IfExists`".to_owned()
            } else {
                format!("`{}` is not a condition operator", member.key)
            },
        );
        self.problems.push(match Operator::suggestion(&member.key) {
            _ if null_if_exists => problem.hint("write `Null`"),
            Some(name) => problem.hint(format!("did you mean `{name}`?")),
            None => problem.hint("the condition is false until this is corrected"),
        });
    }

    /// Key names compare without case, so two spellings in one block test one key twice: IAM refuses that.
    fn case_duplicates(&mut self, members: &[Member<'_>], path: &Path<'_>) {
        if members.len() < 2 {
            return;
        }
        let mut folded: Vec<(String, &Member<'_>)> = members
            .iter()
            .map(|member| (member.key.to_lowercase(), member))
            .collect();
        folded.sort_by(|left, right| left.0.cmp(&right.0));
        for pair in folded.windows(2) {
            if let [(left, _), (right, member)] = pair
                && left == right
            {
                self.problems.push(Problem::new(
                    "DUPLICATE_KEYS_WITH_DIFFERENT_CASE",
                    Gravity::Syntax,
                    &path.key(&member.key),
                    member.key_span,
                    format!("key `{}` appears twice, in different case", member.key),
                ));
            }
        }
    }

    fn condition_key(&mut self, member: &Member<'_>, path: &Path<'_>) -> ConditionKey {
        let node = &member.node;
        let mut values = Vec::new();
        if let Value::Array(items) = &node.value {
            values.reserve(items.len());
            for (index, item) in items.iter().enumerate() {
                match item.scalar_text() {
                    Some(text) => values.push(own(text, item.span)),
                    None => self.problems.push(Problem::wrong_type(
                        &path.index(index),
                        item,
                        "a string, number or boolean",
                    )),
                }
            }
        } else {
            match node.scalar_text() {
                Some(text) => values.push(own(text, node.span)),
                None => self.problems.push(Problem::wrong_type(
                    path,
                    node,
                    "a value or a list of values",
                )),
            }
        }
        self.values += values.len();
        ConditionKey {
            key: own(&member.key, member.key_span),
            span: node.span,
            is_list: matches!(node.value, Value::Array(_)),
            values,
        }
    }

    fn text(&mut self, node: &Node<'_>, path: &Path<'_>, expected: &str) -> Option<Text> {
        match &node.value {
            Value::String(text) => Some(own(text, node.span)),
            _ => {
                self.problems
                    .push(Problem::wrong_type(path, node, expected));
                None
            }
        }
    }

    fn unknown_element(&mut self, member: &Member<'_>, path: &Path<'_>, known: &[&'static str]) {
        let problem = Problem::new(
            "INVALID_POLICY_ELEMENT",
            Gravity::Syntax,
            path,
            member.key_span,
            format!("`{}` is not an element of the policy language", member.key),
        );
        self.problems
            .push(match nearest(&member.key, known.iter().copied()) {
                Some(name) => problem.hint(format!("did you mean `{name}`?")),
                None => problem.hint(format!("known here: {}", known.join(", "))),
            });
    }
}

fn own(text: &str, span: Span) -> Text {
    Text {
        value: text.into(),
        span,
    }
}
