//! Entry points for fuzzing the parsers of outside bytes. They must never panic.

use crate::ec2::xml::Element;

/// Reads arbitrary bytes as the XML answer of an AWS Query API.
pub fn xml(data: &[u8]) {
    if let Ok(element) = Element::parse(data) {
        let _ = crate::ec2::instances_of(&element);
        let _ = crate::ec2::error_of(&element);
        let _ = crate::ec2::credentials_of(&element);
        let _ = crate::web_identity::session_of(&element);
    }
}

/// Reads arbitrary bytes as the JSON answer of a node-name lookup.
pub fn node_name(data: &[u8]) {
    let _ = crate::ec2::node_name_of(data);
}

/// Reads arbitrary bytes as an answer of ListPodIdentityAssociations.
pub fn associations(data: &[u8]) {
    let _ = crate::eks::page_of(data);
}
