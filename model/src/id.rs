//! Identifiers: short printable texts that sort by their bytes.

use std::fmt;
use std::sync::Arc;

/// Why a text cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} is empty")]
    Empty {
        /// Which kind of identifier was wanted.
        kind: &'static str,
    },
    /// The text is longer than 64 bytes.
    #[error("{kind} `{start}…` has {len} bytes, at most 64 are allowed")]
    TooLong {
        /// Which kind of identifier was wanted.
        kind: &'static str,
        /// The first characters of the text.
        start: String,
        /// Its length in bytes.
        len: usize,
    },
    /// The text holds a control character or a blank at either end.
    #[error("{kind} {text:?} holds a control character or an outer blank")]
    Unprintable {
        /// Which kind of identifier was wanted.
        kind: &'static str,
        /// The text.
        text: String,
    },
}

const MAX_BYTES: usize = 64;

fn checked(kind: &'static str, text: &str) -> Result<Arc<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_BYTES {
        return Err(IdError::TooLong { kind, start: text.chars().take(16).collect(), len: text.len() });
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(IdError::Unprintable { kind, text: text.to_owned() });
    }
    Ok(text.into())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes 1 to 64 bytes of printable text without outer blanks.
            ///
            /// # Errors
            /// When the text is empty, too long or holds a control character.
            pub fn new(text: &str) -> Result<Self, IdError> {
                checked($kind, text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

identifier!(
    /// The meter as it names itself: a serial number or a head-end identifier.
    MeterId, "meter id"
);
identifier!(
    /// The place of supply, which outlives its meters and customers (IEC 61968-9 `UsagePoint`).
    UsagePointId, "usage point id"
);
identifier!(
    /// What carries a meter's messages to the broker: a data concentrator, gateway or edge node.
    GatewayId, "gateway id"
);
identifier!(
    /// The party that is billed.
    CustomerId, "customer id"
);
identifier!(
    /// A part of the network above a usage point: substation, feeder, transformer or district metered area.
    NodeId, "network node id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_short_and_printable() {
        assert_eq!(MeterId::new("SDM630-1").unwrap().as_str(), "SDM630-1");
        assert!(matches!(MeterId::new(""), Err(IdError::Empty { .. })));
        assert!(matches!(MeterId::new(&"x".repeat(65)), Err(IdError::TooLong { len: 65, .. })));
        assert!(matches!(MeterId::new("a\nb"), Err(IdError::Unprintable { .. })));
        assert!(matches!(MeterId::new(" a"), Err(IdError::Unprintable { .. })));
    }
}
