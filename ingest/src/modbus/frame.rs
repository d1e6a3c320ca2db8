//! Requests and answers as bytes, of Modbus TCP and RTU. Pure; only function codes 3 and 4 exist here.
//!
//! An answer is taken only when all of it fits the very request that was sent: transaction, unit, function, length and
//! checksum. Whatever else came is told with what is wrong about it.

use crc::{CRC_16_MODBUS, Crc};
use meterlake_config::ModbusFraming;

use super::failure::FailureKind;
use super::planner::BlockRequest;

const CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
/// The longest message of RTU.
pub(super) const MOST_RTU: usize = 256;
/// Bytes before the unit in a message of Modbus TCP.
const TCP_HEADER: usize = 6;
/// What follows the unit, at most and at least.
const TCP_LENGTHS: std::ops::RangeInclusive<usize> = 2..=254;
/// The bit of the function code that marks an exception.
const EXCEPTION: u8 = 0x80;

/// A request whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) framing: ModbusFraming,
    /// Of Modbus TCP.
    pub(super) transaction: u16,
    pub(super) unit: u8,
    pub(super) request: BlockRequest,
}

/// What bytes are as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// The beginning of one.
    More,
    /// As many words as were asked for, from so many bytes.
    Words(Vec<u16>, usize),
    /// An exception code, from so many bytes.
    Exception(u8, usize),
    /// Not the answer, and why.
    Wrong(FailureKind, String),
}

impl Asked {
    /// The request.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (first, registers) = (self.request.range.first.to_be_bytes(), self.request.registers().to_be_bytes());
        let body = [self.unit, self.request.function.code(), first[0], first[1], registers[0], registers[1]];
        match self.framing {
            ModbusFraming::Tcp => {
                let [high, low] = self.transaction.to_be_bytes();
                [&[high, low, 0, 0, 0, 6], &body[..]].concat()
            }
            ModbusFraming::Rtu => [&body[..], &checksum(&body)].concat(),
        }
    }

    /// What was heard so far.
    pub(super) fn look(&self, heard: &[u8]) -> Look {
        match self.framing {
            ModbusFraming::Tcp => self.look_tcp(heard),
            ModbusFraming::Rtu => self.look_rtu(heard),
        }
    }

    fn look_tcp(&self, heard: &[u8]) -> Look {
        let &[t0, t1, p0, p1, l0, l1, unit, ref content @ ..] = heard else { return Look::More };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if (p0, p1) != (0, 0) || !TCP_LENGTHS.contains(&length) {
            return bad("the answer is no Modbus TCP");
        }
        let Some(content) = content.get(..length - 1) else { return Look::More };
        if u16::from_be_bytes([t0, t1]) != self.transaction || unit != self.unit {
            return bad("the answer belongs to another request");
        }
        self.judge(content, TCP_HEADER + length)
    }

    fn look_rtu(&self, heard: &[u8]) -> Look {
        let &[unit, function, third, ..] = heard else { return Look::More };
        let length = match function {
            // The third byte counts those that follow; behind an exception code follows nothing.
            3 | 4 => 3 + usize::from(third) + 2,
            code if code & EXCEPTION != 0 => 5,
            code => return Look::Wrong(FailureKind::BadAnswer, format!("function code {code} in the answer")),
        };
        let Some(whole) = heard.get(..length) else { return Look::More };
        let (content, sum) = whole.split_at(length - 2);
        if checksum(content) != sum {
            return bad("the answer's checksum is wrong");
        }
        if unit != self.unit {
            return Look::Wrong(FailureKind::BadAnswer, format!("the answer is that of unit {unit}"));
        }
        self.judge(&content[1..], length)
    }

    /// Function code and what follows it.
    fn judge(&self, content: &[u8], used: usize) -> Look {
        let (asked, registers) = (self.request.function.code(), self.request.registers());
        match content {
            &[function, code] if function == asked | EXCEPTION => Look::Exception(code, used),
            &[function, count, ref bytes @ ..] if function == asked => {
                if usize::from(count) != bytes.len() || bytes.len() % 2 != 0 {
                    return bad("the answer's count of bytes is not that of its bytes");
                }
                let words: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
                if words.len() != usize::from(registers) {
                    let detail = format!("{} registers in the answer, {registers} asked for", words.len());
                    return Look::Wrong(FailureKind::BadLength, detail);
                }
                Look::Words(words, used)
            }
            &[function, ..] if function & !EXCEPTION == asked => bad("the answer is cut short"),
            &[function, ..] => {
                let detail = format!("function code {function} in the answer, {asked} asked for");
                Look::Wrong(FailureKind::BadAnswer, detail)
            }
            [] => bad("the answer is empty"),
        }
    }
}

fn bad(detail: &str) -> Look {
    Look::Wrong(FailureKind::BadAnswer, detail.to_owned())
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    CHECKSUM.checksum(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests;
