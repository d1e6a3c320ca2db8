//! Births as bytes and back, so that a restart knows the names that data messages leave out.
//!
//! Protocol buffers of our own, closed by a checksum. What is read back is doubted until a message follows the last one
//! that was seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::births::{Births, MAX_NAMES, MAX_NODES, Named, Node, Table};
use crate::decode::protobuf::wire::{Fields, Wire, WireError, write_bytes, write_number};

const VERSION: u64 = 1;
const CHECKSUM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
/// Far more than the limits of names allow with names of common length.
const MAX_BYTES: usize = 256 << 20;

/// Why kept births are not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BirthsError {
    /// The bytes were cut or changed.
    #[error("the checksum does not fit: the bytes were cut or changed")]
    Checksum,
    /// Another version of the program wrote them.
    #[error("version {0} is not known")]
    Version(u64),
    /// The checksum fits, yet the content makes no sense.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Beyond the limits.
    #[error("larger than the limits allow")]
    TooLarge,
}

impl From<WireError> for BirthsError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Births {
    /// What is known, to be kept by whoever owns a folder: the same bytes for the same births.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_number(1, VERSION, &mut out);
        let sorted: BTreeMap<_, _> = self.nodes.iter().collect();
        for (key, node) in sorted {
            write_bytes(2, &node_bytes(key, node), &mut out);
        }
        let checksum = CHECKSUM.checksum(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads [`Self::to_bytes`] back. Names are used again once a message follows the last one by its number.
    ///
    /// # Errors
    /// When the bytes were cut or changed, or are of another version: then nothing is known, which costs one birth of
    /// every edge node.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BirthsError> {
        if bytes.len() > MAX_BYTES {
            return Err(BirthsError::TooLarge);
        }
        let (content, checksum) = bytes.split_last_chunk().ok_or(BirthsError::Checksum)?;
        if CHECKSUM.checksum(content) != u32::from_le_bytes(*checksum) {
            return Err(BirthsError::Checksum);
        }
        let mut births = Self::new();
        for field in Fields::of(content) {
            match field? {
                (1, Wire::Varint(VERSION)) => {}
                (1, Wire::Varint(other)) => return Err(BirthsError::Version(other)),
                (2, Wire::Bytes(bytes)) => births.take(bytes)?,
                _ => {}
            }
        }
        births.interrupted();
        Ok(births)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BirthsError> {
        let (key, node) = read_node(bytes)?;
        self.names += node.size();
        self.nodes.insert(key, node);
        if self.nodes.len() > MAX_NODES || self.names > MAX_NAMES {
            return Err(BirthsError::TooLarge);
        }
        Ok(())
    }
}

fn node_bytes(key: &str, node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    write_bytes(1, key.as_bytes(), &mut out);
    write_bytes(2, &table_bytes(&node.own), &mut out);
    for (name, table) in node.devices.iter().collect::<BTreeMap<_, _>>() {
        let mut device = Vec::new();
        write_bytes(1, name.as_bytes(), &mut device);
        write_bytes(2, &table_bytes(table), &mut device);
        write_bytes(3, &device, &mut out);
    }
    write_optional(4, node.bd_seq, &mut out);
    write_optional(5, node.next_seq.map(u64::from), &mut out);
    write_number(6, node.heard_s.cast_unsigned(), &mut out);
    out
}

fn table_bytes(table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    let mut write = |name: &str, datatype: u8, alias: Option<u64>| {
        let mut named = Vec::new();
        write_bytes(1, name.as_bytes(), &mut named);
        write_number(2, u64::from(datatype), &mut named);
        write_optional(3, alias, &mut named);
        write_bytes(1, &named, &mut out);
    };
    for (name, datatype) in table.types.iter().collect::<BTreeMap<_, _>>() {
        write(name, *datatype, None);
    }
    for (alias, named) in table.by_alias.iter().collect::<BTreeMap<_, _>>() {
        write(&named.name, named.datatype, Some(*alias));
    }
    write_number(2, u64::from(table.alive), &mut out);
    write_number(3, table.from_s.cast_unsigned(), &mut out);
    write_optional(4, table.until_s.map(i64::cast_unsigned), &mut out);
    write_optional(5, table.missing_s.map(i64::cast_unsigned), &mut out);
    out
}

fn write_optional(field: u32, value: Option<u64>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_number(field, value, out);
    }
}

fn read_node(bytes: &[u8]) -> Result<(Box<str>, Node), BirthsError> {
    let (mut key, mut node) = (None, Node::default());
    for field in Fields::of(bytes) {
        match field? {
            (1, Wire::Bytes(name)) => key = Some(text(name)?.into()),
            (2, Wire::Bytes(table)) => node.own = read_table(table)?,
            (3, Wire::Bytes(device)) => {
                let (mut name, mut table) = (None, Table::default());
                for field in Fields::of(device) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => name = Some(text(bytes)?.into()),
                        (2, Wire::Bytes(bytes)) => table = read_table(bytes)?,
                        _ => {}
                    }
                }
                node.devices.insert(name.ok_or_else(|| nameless("a device"))?, table);
            }
            (4, Wire::Varint(value)) => node.bd_seq = Some(value),
            (5, Wire::Varint(value)) => node.next_seq = u8::try_from(value).ok(),
            (6, Wire::Varint(value)) => node.heard_s = value.cast_signed(),
            _ => {}
        }
    }
    Ok((key.ok_or_else(|| nameless("an edge node"))?, node))
}

fn read_table(bytes: &[u8]) -> Result<Table, BirthsError> {
    let mut table = Table::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Wire::Bytes(named)) => read_named(named, &mut table)?,
            (2, Wire::Varint(value)) => table.alive = value != 0,
            (3, Wire::Varint(value)) => table.from_s = value.cast_signed(),
            (4, Wire::Varint(value)) => table.until_s = Some(value.cast_signed()),
            (5, Wire::Varint(value)) => table.missing_s = Some(value.cast_signed()),
            _ => {}
        }
    }
    Ok(table)
}

fn read_named(bytes: &[u8], table: &mut Table) -> Result<(), BirthsError> {
    let (mut name, mut datatype, mut alias) = (None, 0, None);
    for field in Fields::of(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => name = Some(text(bytes)?),
            (2, Wire::Varint(value)) => datatype = u8::try_from(value).unwrap_or(u8::MAX),
            (3, Wire::Varint(value)) => alias = Some(value),
            _ => {}
        }
    }
    let name = name.ok_or_else(|| nameless("a metric"))?;
    // Both maps share one copy of the name.
    let name: Arc<str> = table.types.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
    match alias {
        Some(alias) => {
            table.by_alias.insert(alias, Named { name, datatype });
        }
        None => {
            table.types.insert(name, datatype);
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, BirthsError> {
    std::str::from_utf8(bytes).map_err(|_| BirthsError::Malformed("text that is not UTF-8".to_owned()))
}

fn nameless(what: &str) -> BirthsError {
    BirthsError::Malformed(format!("{what} without a name"))
}
