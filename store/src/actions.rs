//! The lines of a Delta commit: only what our tables use, everything else is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Action {
    #[serde(rename = "commitInfo")]
    CommitInfo(Value),
    #[serde(rename = "protocol")]
    Protocol(Protocol),
    #[serde(rename = "metaData")]
    Metadata(Box<Metadata>),
    #[serde(rename = "add")]
    Add(Box<Add>),
    #[serde(rename = "remove")]
    Remove(Box<Remove>),
    #[serde(rename = "txn")]
    Transaction(Transaction),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: i32,
    pub(crate) min_writer_version: i32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) format: Value,
    pub(crate) schema_string: String,
    pub(crate) partition_columns: Vec<String>,
    #[serde(default)]
    pub(crate) configuration: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) created_time: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    pub(crate) size: u64,
    pub(crate) modification_time: i64,
    pub(crate) data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_vector: Option<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) deletion_timestamp: Option<i64>,
    pub(crate) data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transaction {
    pub(crate) app_id: String,
    pub(crate) version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_updated: Option<i64>,
}

/// The bytes of a commit, one line an action.
pub(crate) fn encode(actions: &[Action]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut bytes, action)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads a commit back. An empty or torn one is an error, and so is an action that we do not know.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Action>, String> {
    let actions = bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
        .map(|line| serde_json::from_slice(line).map_err(|e| format!("cannot be read: {e}")))
        .collect::<Result<Vec<_>, _>>()?;
    if actions.is_empty() {
        return Err("is empty, as a disk leaves it that lost power before a sync".to_owned());
    }
    Ok(actions)
}

/// Undoes the percent encoding that paths may have in the log.
pub(crate) fn decode_path(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_comes_back_and_an_empty_or_torn_one_is_refused() {
        let actions = [
            Action::Transaction(Transaction { app_id: "a".into(), version: 7, last_updated: None }),
            Action::Protocol(Protocol { min_reader_version: 1, min_writer_version: 2 }),
        ];
        let bytes = encode(&actions).unwrap();
        assert!(bytes.starts_with(br#"{"txn":{"appId":"a","version":7}}"#));
        assert_eq!(decode(&bytes).unwrap().len(), 2);
        assert!(decode(b"").unwrap_err().contains("is empty"));
        assert!(decode(b"\n").unwrap_err().contains("is empty"));
        assert!(decode(&bytes[..bytes.len() / 2 + 10]).is_err());
        assert!(decode(br#"{"cdc":{}}"#).unwrap_err().contains("cdc"));
    }

    #[test]
    fn paths_are_decoded() {
        for (encoded, path) in [("a/b.parquet", Some("a/b.parquet")), ("m%3D1/a", Some("m=1/a")), ("%zz", None)] {
            assert_eq!(decode_path(encoded).as_deref(), path);
        }
    }
}
