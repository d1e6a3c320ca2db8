//! Who speaks, and who is told that a message is durable.

use super::super::path::{Start, ValuePath, is_name};
use super::super::topic::TopicPattern;
use super::super::{Format, MeterRule, Piece, ReceiptRule};
use super::paths_of;
use crate::document::Section;

pub(super) fn meter(root: &mut Section<'_>, topic: Option<&TopicPattern>, format: Option<&Format>) -> MeterRule {
    let mut section = root.section("meter");
    let path = section.parsed("path", ValuePath::parse);
    let strip_prefix = section.text("strip_prefix");
    let topic_may_be = paths_of(&mut section, "topic_may_be").unwrap_or_default();
    let serial = section.parsed("serial", ValuePath::parse);
    let gateway = section.parsed("gateway", ValuePath::parse);
    let multiplier = section.parsed("multiplier", ValuePath::parse);
    let template = section.parsed("name", template).unwrap_or_default();
    // A frame of the published schema can name its meters itself.
    let in_schema = format == Some(&Format::Protobuf);
    let topic_names = topic.is_none_or(TopicPattern::names_meter) || section.has("name");
    if !topic_names && !section.has("path") && !in_schema {
        section.refuse("path", "is missing: the topic does not name the meter either");
    }
    if section.has("topic_may_be") && !(topic_names && section.has("path")) {
        section.refuse("topic_may_be", "needs both {meter} in the topic and a `path`");
    }
    if section.has("strip_prefix") && !section.has("path") {
        section.refuse("strip_prefix", "needs a `path`");
    }
    if in_schema {
        for key in ["path", "strip_prefix", "topic_may_be", "serial", "gateway", "multiplier"] {
            if section.has(key) {
                section.refuse(key, "has no meaning with `format = \"protobuf\"`: the schema says what stands where");
            }
        }
    }
    MeterRule { path, strip_prefix, topic_may_be, template, serial, multiplier, gateway }
}

/// `{device}-{phase}` and the like.
fn template(text: &str) -> Result<Vec<Piece>, String> {
    let malformed = || format!("is \"{text}\"; a name such as \"{{device}}-{{phase}}\" is wanted");
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').filter(|(name, _)| is_name(name)).ok_or_else(malformed)?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Topic(name.to_owned()));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.is_empty() || text.contains(['\0']) || rest.contains('}') {
        return Err(malformed());
    }
    Ok(pieces)
}

pub(super) fn receipt(root: &mut Section<'_>) -> Option<Option<ReceiptRule>> {
    let mut section = root.section("receipt");
    if !root.has("receipt") {
        return None;
    }
    let gateway = section.parsed("gateway", ValuePath::parse);
    let gateway = section.required("gateway", gateway);
    let sequence = section.parsed("sequence", ValuePath::parse);
    let sequence = section.required("sequence", sequence);
    for (key, path) in [("gateway", &gateway), ("sequence", &sequence)] {
        if path.as_ref().is_some_and(|path| path.start == Start::Parent) {
            section.refuse(key, "begins with `^`; a receipt is for the whole message, which begins with `$`");
        }
    }
    Some(gateway.zip(sequence).map(|(gateway, sequence)| ReceiptRule { gateway, sequence }))
}
