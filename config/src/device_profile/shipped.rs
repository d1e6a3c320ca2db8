//! The profiles that come with the program, each with its vector.

/// A profile that comes with the program.
pub(super) struct Shipped {
    pub(super) name: &'static str,
    pub(super) profile: &'static str,
    /// Register blocks beside what they must become.
    pub(super) vector: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(Shipped {
            name: $name,
            profile: include_str!(concat!("../../profiles/", $name, ".toml")),
            vector: include_str!(concat!("../../profiles/golden/", $name, ".txt")),
        }),+]
    };
}

/// By name. A test compares the list with the folder.
pub(super) const SHIPPED: &[Shipped] = shipped!["eastron-sdm630", "pulse-water", "sunspec-meter"];
