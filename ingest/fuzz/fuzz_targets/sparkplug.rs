#![no_main]
//! Sparkplug B: messages one after the other, since births say how data is read.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meterlake_fuzz::{Reader, read_in_order, readers};

static READERS: LazyLock<Vec<Reader>> = LazyLock::new(|| readers("sparkplug_b"));

fuzz_target!(|input: &[u8]| read_in_order(&READERS, input));
