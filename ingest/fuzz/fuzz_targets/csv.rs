#![no_main]
//! Messages of the format `csv`, by every shipped map of it.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meterlake_fuzz::{Reader, read_once, readers};

static READERS: LazyLock<Vec<Reader>> = LazyLock::new(|| readers("csv"));

fuzz_target!(|input: &[u8]| read_once(&READERS, input));
