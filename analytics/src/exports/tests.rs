//! Exports against small files of our own, and against programs that others wrote.

mod cases;
mod peers;
mod sample;
