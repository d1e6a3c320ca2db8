//! The store by its public door, one binary for all parts.

mod lake;
mod query;
