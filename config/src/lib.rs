//! Typed, validated configuration: what people write in files, read whole and refused with every problem at once.

mod problem;

pub use problem::{Problem, line_of};
