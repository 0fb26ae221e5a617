//! Entry points for fuzzing; none may panic.

use crate::review::{AccessReview, AccessReviewStatus, ParsedSelectors, RulesReview};
use crate::{
    Action, Catalog, Groups, HttpAction, Index, Manifest, Object, Request, ResourceAction, User,
    Where, read_json, validate,
};

/// RBAC objects: read, written back, indexed and asked.
pub fn objects(data: &[u8]) {
    let read = read_json(data);
    for object in &read.objects {
        validate(object);
        let again = Object::try_from(Manifest::from(object));
        assert_eq!(again.ok().as_ref(), Some(object));
    }
    let (index, _) = Index::build(read.objects);
    let action = Action::Resource(ResourceAction {
        verb: "get",
        resource: "pods",
        namespace: "shop",
        ..ResourceAction::default()
    });
    let request = Request {
        user: User {
            name: "dana",
            groups: Groups::Borrowed(&["devs"]),
        },
        action,
    };
    if let crate::Decision::NoOpinion(no) = index.authorize(&request) {
        no.nearest(10);
        no.incomplete_reasons();
        assert!(index.authorize_all(&request).is_empty());
    }
    index.who_can(&action, Where::Everywhere, Catalog::builtin());
}

/// Reviews: read, asked and answered.
pub fn review(data: &[u8]) {
    if let Ok(review) = AccessReview::from_json(data) {
        review.validate();
        let selectors = ParsedSelectors::of(&review);
        let index = Index::default();
        if let Some(action) = review.action(&selectors) {
            let user = review.user();
            let request = Request { user, action };
            let status = AccessReviewStatus::of(&index.authorize(&request), &selectors);
            crate::forbidden(&request, &status.reason);
            let answered = review.clone().answered(status);
            let again = AccessReview::from_json(&answered.to_json());
            assert_eq!(again.map(|again| again.spec), Ok(answered.spec));
        }
    }
    let _ = RulesReview::from_json(data);
}

/// The target of an HTTP request.
pub fn http(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (method, target) = text.split_once(' ').unwrap_or(("GET", text));
    if let Ok(action) = HttpAction::parse(method, target) {
        let _ = action.action();
    }
    let _ = crate::selector::parse_fields(text);
    let _ = crate::selector::parse_labels(text);
}
