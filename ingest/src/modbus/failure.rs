//! What can go wrong with one request, and what it says about the device.

use std::fmt;

/// What went wrong, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The line could not be connected.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection ended before the answer.
    Disconnected,
    /// The device answered with an exception.
    Exception,
    /// An answer with other than the number of registers asked for.
    BadLength,
    /// An answer to another request, or no Modbus at all.
    BadAnswer,
}

impl FailureKind {
    /// All, in order of declaration.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Timeout, Self::Disconnected, Self::Exception, Self::BadLength, Self::BadAnswer];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Exception => "exception",
            Self::BadLength => "bad_length",
            Self::BadAnswer => "bad_answer",
        }
    }
}

/// Why a request brought no registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub struct Failure {
    /// For counting, and for choosing what to do.
    pub kind: FailureKind,
    /// For a person.
    pub detail: String,
    /// What the device sent, where it sent something.
    pub answer: Vec<u8>,
    /// Whether nobody is there to answer: the device is tried again later, at its own pace.
    pub silent: bool,
}

impl Failure {
    pub(super) fn connect(error: impl fmt::Display) -> Self {
        Self::without_answer(FailureKind::Connect, error.to_string())
    }

    pub(super) fn without_answer(kind: FailureKind, detail: String) -> Self {
        Self { kind, detail, answer: Vec::new(), silent: true }
    }

    pub(super) fn answered(kind: FailureKind, detail: String, answer: Vec<u8>) -> Self {
        Self { kind, detail, answer, silent: false }
    }

    /// A proper answer with an exception code. A gateway's word that it did not reach the device, or a device that is
    /// busy, is as good as silence: the same request may be answered later.
    pub(super) fn exception(code: u8, answer: Vec<u8>) -> Self {
        let silent = matches!(code, BUSY | ACKNOWLEDGE | NO_PATH | NO_TARGET);
        let detail = format!("exception {code} ({})", exception_name(code));
        Self { kind: FailureKind::Exception, detail, answer, silent }
    }
}

const ACKNOWLEDGE: u8 = 5;
const BUSY: u8 = 6;
const NO_PATH: u8 = 10;
const NO_TARGET: u8 = 11;

fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "device failure",
        ACKNOWLEDGE => "acknowledged, not done yet",
        BUSY => "device busy",
        8 => "memory parity error",
        NO_PATH => "gateway path unavailable",
        NO_TARGET => "gateway target did not respond",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_says_whether_asking_again_can_help() {
        for (code, silent) in
            [(1, false), (2, false), (3, false), (4, false), (5, true), (6, true), (10, true), (11, true)]
        {
            let failure = Failure::exception(code, vec![0x84, code]);
            assert_eq!(failure.silent, silent, "{failure}");
            assert!(!failure.detail.contains("unknown"), "{failure}");
        }
    }
}
