//! What Sparkplug's births said, by edge node and device: needed to read the data that follows them.

/// What is known of the edge nodes that were born.
///
/// Shared by the decoders of one broker; it can be written to bytes and read back, so that a restart knows the names that
/// data messages leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Births {}

impl Births {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }
}
