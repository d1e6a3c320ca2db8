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
pub(super) const SHIPPED: &[Shipped] = shipped![
    "abb-b21",
    "abb-b23",
    "acrel-adl400",
    "acrel-adw300",
    "bernecker-mpm3pm",
    "bg-ds100",
    "carlo-gavazzi-em111",
    "carlo-gavazzi-em24",
    "carlo-gavazzi-em24-e1",
    "carlo-gavazzi-em340",
    "chint-ddsu666",
    "chint-dtsu666",
    "dzg-dvh4013",
    "eastron-sdm120",
    "eastron-sdm220",
    "eastron-sdm230",
    "eastron-sdm54",
    "eastron-sdm630",
    "eastron-sdm72",
    "eastron-sdm72-v2",
    "eltako-dsz15dzmod",
    "eltako-dsz16dz",
    "finder-7e23",
    "gossen-em2281",
    "hager-ecr380d",
    "hiking-dds238",
    "inepro-pro1",
    "inepro-pro380",
    "janitza-umg96rm",
    "lovato-dmg610",
    "orno-we-514",
    "orno-we-516",
    "peacefair-pzem-016",
    "pulse-water",
    "saia-burgess-ale3",
    "schneider-iem3155",
    "shelly-pro-3em",
    "siemens-mag6000",
    "siemens-mag8000",
    "siemens-pac2200",
    "socomec-countis-e",
    "sunspec-meter",
    "tuf-2000m",
    "wago-879-3000",
    "xintai-water",
];
