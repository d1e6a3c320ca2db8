//! The checks that come with the program, each with its cases.

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$((
            $name,
            include_str!(concat!("../../checks/", $name, ".sql")),
            include_str!(concat!("../../checks/", $name, ".cases.toml")),
        )),+]
    };
}

/// Id, file and cases. A test compares the list with the folder.
pub(super) const SHIPPED: &[(&str, &str, &str)] = shipped![
    "V06_clock",
    "V07_device_flag",
    "V08_count",
    "V10_sibling",
    "V16_tariffs",
    "V17_balance",
    "V18_reactive",
    "V19_physical",
    "V20_high_low",
    "V24_zero_use",
    "V25_inactive_use",
    "V28_load_hours",
    "V29_determinant",
];

/// Cases of what the program itself answers.
pub(super) const OPERATOR_CASES: [(&str, &str); 3] = [
    ("V21_spike", include_str!("../../checks/V21_spike.cases.toml")),
    ("V22_run", include_str!("../../checks/V22_run.cases.toml")),
    ("V23_step", include_str!("../../checks/V23_step.cases.toml")),
];
