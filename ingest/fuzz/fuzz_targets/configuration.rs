#![no_main]
//! The configuration file.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meterlake_config::Config;

fuzz_target!(|input: &str| {
    // A file that the text names is not opened: there is none below this folder.
    if let Err(errors) = Config::parse(input, Path::new("/nonexistent")) {
        assert!(!errors.problems().is_empty(), "refused without a reason");
    }
});
