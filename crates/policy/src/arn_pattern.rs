//! ARNs with wildcards: resources, and values of the Arn operators (policy language spec, sections 4.3 and 5.3).

use std::borrow::Cow;

use crate::bytes;
use crate::context::Context;
use crate::pattern::{Pattern, Syntax};

/// What an entry of `Resource` matches.
#[derive(Debug, Clone)]
pub(crate) enum ResourcePattern {
    /// `*`: every resource, and the only match for actions that have none.
    Everything,
    /// No resource: the entry is no ARN, or a short one where short ones do not count.
    Nothing,
    Arn(Box<ArnPattern>),
}

/// Six patterns, one per field of an ARN. A wildcard never reaches over one of the first five colons.
#[derive(Debug, Clone)]
pub(crate) struct ArnPattern {
    scheme: Pattern,
    partition: Pattern,
    service: Pattern,
    region: Pattern,
    account: Pattern,
    resource: Pattern,
    /// Everything before the resource part, when it holds no wildcard: one comparison instead of four.
    exact_head: Option<Box<str>>,
}

/// What a kind of policy makes of ARNs with fewer than six fields (policy language spec, section 4.3, rule 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShortArns {
    /// Missing fields count as `*`.
    Padded,
    /// As padded, but only for an entry that holds a `*`.
    PaddedWithStar,
    /// As padded, but only for an entry that ends in `*`.
    PaddedWithFinalStar,
    /// They match nothing.
    Refused,
}

/// An ARN cut at its first five colons.
pub(crate) type Fields<'t> = [&'t str; 6];

/// Cuts an ARN; `None` when the text is none.
pub(crate) fn split(text: &str) -> Option<Fields<'_>> {
    let fields = cut(text)?;
    matches!(fields, ["arn", ..]).then_some(fields)
}

fn cut(text: &str) -> Option<Fields<'_>> {
    let mut fields = text.splitn(6, ':');
    let mut next = || fields.next();
    Some([next()?, next()?, next()?, next()?, next()?, next()?])
}

/// The resource of a request.
#[derive(Debug, Clone)]
pub(crate) enum RequestResource<'a> {
    /// `*`: the action has no resource.
    Star,
    /// An ARN: what stands before the resource part in lower case, cut and whole, and the resource part as it came.
    Arn(RequestArn<'a>),
}

/// The ARN of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestArn<'a> {
    /// `arn:aws:s3:::`
    head: Cow<'a, str>,
    /// Where partition, service, region and account end inside `head`.
    ends: [u32; 4],
    resource: &'a str,
}

impl<'a> RequestArn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("arn:")?;
        let mut colons = memchr::memchr_iter(b':', rest.as_bytes()).map(|at| at + 4);
        let ends = [
            colons.next()?,
            colons.next()?,
            colons.next()?,
            colons.next()?,
        ];
        let (head, resource) = text.split_at_checked(ends[3] + 1)?;
        let head = if head.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(head.to_ascii_lowercase())
        } else {
            Cow::Borrowed(head)
        };
        Some(Self {
            head,
            ends: ends.map(|end| u32::try_from(end).unwrap_or(u32::MAX)),
            resource,
        })
    }

    /// Partition, service, region, account.
    fn field(&self, index: usize) -> &str {
        let end = self.ends.get(index).copied().unwrap_or_default() as usize;
        let start = match index.checked_sub(1) {
            None => 4,
            Some(before) => self.ends.get(before).copied().unwrap_or_default() as usize + 1,
        };
        self.head.get(start..end).unwrap_or_default()
    }
}

impl<'a> RequestResource<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Star);
        }
        RequestArn::parse(text).map(Self::Arn)
    }

    pub(crate) fn fields(&self) -> Option<[&str; 5]> {
        match self {
            Self::Star => None,
            Self::Arn(arn) => Some([
                arn.field(0),
                arn.field(1),
                arn.field(2),
                arn.field(3),
                arn.resource,
            ]),
        }
    }
}

impl ResourcePattern {
    pub(crate) fn compile(text: &str, variables: bool, short: ShortArns) -> Self {
        if text == "*" {
            return Self::Everything;
        }
        if !text.starts_with("arn:") {
            return Self::Nothing;
        }
        let fields: Vec<&str> = text.splitn(6, ':').collect();
        let accepted = match short {
            _ if fields.len() == 6 => true,
            ShortArns::Padded => true,
            ShortArns::PaddedWithStar => text.contains('*'),
            ShortArns::PaddedWithFinalStar => text.ends_with('*'),
            ShortArns::Refused => false,
        };
        if !accepted {
            return Self::Nothing;
        }
        let exact_head = text
            .len()
            .checked_sub(fields.get(5).map_or(text.len(), |resource| resource.len()))
            .and_then(|end| text.get(..end))
            .filter(|head| !head.is_empty() && !head.contains(['*', '?']))
            .map(|head| head.to_ascii_lowercase().into());
        let field = |index: usize| fields.get(index).copied().unwrap_or("*");
        let head = |index: usize| {
            let lower = field(index).to_ascii_lowercase();
            Pattern::compile(&lower, PLAIN_GLOB)
        };
        Self::Arn(Box::new(ArnPattern {
            scheme: Pattern::Any,
            partition: head(1),
            service: head(2),
            region: head(3),
            account: head(4),
            resource: Pattern::compile(
                field(5),
                Syntax {
                    wildcards: true,
                    variables,
                },
            ),
            exact_head,
        }))
    }

    /// Whether the request's resource matches; variables without a value match nothing.
    pub(crate) fn matches(&self, resource: &RequestResource<'_>, context: &Context<'_>) -> bool {
        match (self, resource) {
            (Self::Everything, _) => true,
            (Self::Nothing, _) | (Self::Arn(_), RequestResource::Star) => false,
            (Self::Arn(pattern), RequestResource::Arn(arn)) => {
                pattern.matches_resource(arn, context)
            }
        }
    }

    /// Whether every variable has a value or a default.
    pub(crate) fn resolves(&self, context: &Context<'_>) -> bool {
        match self {
            Self::Everything | Self::Nothing => true,
            Self::Arn(pattern) => pattern.resource.resolves(context),
        }
    }

    /// The fields behind `arn`, unless this is no ARN pattern.
    pub(crate) fn arn(&self) -> Option<&ArnPattern> {
        match self {
            Self::Arn(pattern) => Some(pattern),
            Self::Everything | Self::Nothing => None,
        }
    }
}

const PLAIN_GLOB: Syntax = Syntax {
    wildcards: true,
    variables: false,
};

impl ArnPattern {
    /// A value of an Arn operator: cut at the first five colons outside of variables; `None` when it has fewer.
    pub(crate) fn compile_condition(text: &str, variables: bool) -> Option<Self> {
        let [scheme, partition, service, region, account, resource] = if variables {
            cut_outside_variables(text)?
        } else {
            cut(text)?
        };
        let compile = |field: &str| {
            Pattern::compile(
                field,
                Syntax {
                    wildcards: true,
                    variables,
                },
            )
        };
        Some(Self {
            scheme: compile(scheme),
            partition: compile(partition),
            service: compile(service),
            region: compile(region),
            account: compile(account),
            resource: compile(resource),
            exact_head: None,
        })
    }

    fn matches_resource(&self, arn: &RequestArn<'_>, context: &Context<'_>) -> bool {
        let head = match &self.exact_head {
            Some(head) => bytes::same(head.as_bytes(), arn.head.as_bytes()),
            None => {
                self.service.matches_plain(arn.field(1))
                    && self.account.matches_plain(arn.field(3))
                    && self.region.matches_plain(arn.field(2))
                    && self.partition.matches_plain(arn.field(0))
            }
        };
        head && self.resource.matches(arn.resource, context)
    }

    /// All six fields with case, as the Arn operators compare.
    pub(crate) fn matches_condition(&self, fields: &Fields<'_>, context: &Context<'_>) -> bool {
        self.parts()
            .zip(fields)
            .all(|(pattern, field)| pattern.matches(field, context))
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Pattern> {
        [
            &self.scheme,
            &self.partition,
            &self.service,
            &self.region,
            &self.account,
            &self.resource,
        ]
        .into_iter()
    }

    /// The pattern of the part behind the fifth colon.
    pub(crate) fn resource_part(&self) -> &Pattern {
        &self.resource
    }
}

fn cut_outside_variables(text: &str) -> Option<Fields<'_>> {
    let mut fields = [""; 6];
    let mut slots = fields.iter_mut();
    let mut start = 0;
    let mut at = 0;
    let mut colons = 0;
    let bytes = text.as_bytes();
    let mut closable = true;
    while colons < 5 {
        match bytes.get(at)? {
            b':' => {
                *slots.next()? = text.get(start..at)?;
                colons += 1;
                at += 1;
                start = at;
            }
            b'$' if closable && bytes.get(at + 1) == Some(&b'{') => {
                // An unclosed brace is plain text, and so is every later one.
                match text.get(at..)?.find('}') {
                    Some(close) => at += close + 1,
                    None => closable = false,
                }
            }
            _ => at += 1,
        }
    }
    *slots.next()? = text.get(start..)?;
    Some(fields)
}
