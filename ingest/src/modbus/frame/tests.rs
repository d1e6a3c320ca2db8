//! Examples of the protocol's documents, and whatever else may come.

use super::*;
use meterlake_config::device_profile::{Function, RegisterRange};
use proptest::prelude::*;

fn asked(framing: ModbusFraming, unit: u8, function: Function, first: u16, registers: u16) -> Asked {
    let range = RegisterRange { first, last: first + registers - 1 };
    Asked { framing, transaction: 0x0102, unit, request: BlockRequest { function, range } }
}

fn rtu(unit: u8, first: u16, registers: u16) -> Asked {
    asked(ModbusFraming::Rtu, unit, Function::HoldingRegisters, first, registers)
}

fn tcp(unit: u8, first: u16, registers: u16) -> Asked {
    asked(ModbusFraming::Tcp, unit, Function::InputRegisters, first, registers)
}

/// With its checksum.
fn summed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &checksum(bytes)].concat()
}

#[test]
fn requests_are_those_of_the_documents() {
    // Eastron's protocol document: phase 1 voltage of unit 1, and its answer of 230.2 V.
    let voltage = asked(ModbusFraming::Rtu, 1, Function::InputRegisters, 0, 2);
    assert_eq!(voltage.bytes(), [0x01, 0x04, 0x00, 0x00, 0x00, 0x02, 0x71, 0xCB]);
    let answer = [0x01, 0x04, 0x04, 0x43, 0x66, 0x33, 0x34, 0x1B, 0x38];
    assert_eq!(voltage.look(&answer), Look::Words(vec![0x4366, 0x3334], 9));
    assert_eq!(rtu(17, 0x6B, 3).bytes(), [0x11, 0x03, 0x00, 0x6B, 0x00, 0x03, 0x76, 0x87]);
    assert_eq!(tcp(7, 0x10, 5).bytes(), [1, 2, 0, 0, 0, 6, 7, 4, 0, 0x10, 0, 5]);
}

#[test]
fn an_answer_is_taken_only_when_all_of_it_fits() {
    let (bad, length) = (FailureKind::BadAnswer, FailureKind::BadLength);
    let wrong = |kind, detail: &str| Look::Wrong(kind, detail.to_owned());
    for (asked, answer, expected) in [
        (rtu(1, 0, 1), summed(&[1, 3, 2, 0, 7]), Look::Words(vec![7], 7)),
        (rtu(1, 0, 1), summed(&[1, 0x83, 2]), Look::Exception(2, 5)),
        (rtu(1, 0, 1), summed(&[2, 3, 2, 0, 7]), wrong(bad, "the answer is that of unit 2")),
        (rtu(1, 0, 1), vec![1, 3, 2, 0, 7, 0, 0], wrong(bad, "the answer's checksum is wrong")),
        (rtu(1, 0, 1), summed(&[1, 4, 2, 0, 7]), wrong(bad, "function code 4 in the answer, 3 asked for")),
        (rtu(1, 0, 1), summed(&[1, 0x84, 2]), wrong(bad, "function code 132 in the answer, 3 asked for")),
        (rtu(1, 0, 1), summed(&[1, 6, 2, 0, 7]), wrong(bad, "function code 6 in the answer")),
        (rtu(1, 0, 1), summed(&[1, 3, 4, 0, 7, 0, 8]), wrong(length, "2 registers in the answer, 1 asked for")),
        (rtu(1, 0, 2), summed(&[1, 3, 2, 0, 7]), wrong(length, "1 registers in the answer, 2 asked for")),
        (rtu(1, 0, 1), summed(&[1, 3, 1, 7]), wrong(bad, "the answer's count of bytes is not that of its bytes")),
        (tcp(1, 0, 1), vec![1, 2, 0, 0, 0, 5, 1, 4, 2, 0, 7], Look::Words(vec![7], 11)),
        (tcp(1, 0, 1), vec![1, 2, 0, 0, 0, 3, 1, 0x84, 11], Look::Exception(11, 9)),
        (tcp(1, 0, 1), vec![1, 3, 0, 0, 0, 5, 1, 4, 2, 0, 7], wrong(bad, "the answer belongs to another request")),
        (tcp(1, 0, 1), vec![1, 2, 0, 0, 0, 5, 9, 4, 2, 0, 7], wrong(bad, "the answer belongs to another request")),
        (tcp(1, 0, 1), vec![1, 2, 0, 1, 0, 5, 1, 4, 2, 0, 7], wrong(bad, "the answer is no Modbus TCP")),
        (tcp(1, 0, 1), vec![1, 2, 0, 0, 0, 1, 1], wrong(bad, "the answer is no Modbus TCP")),
        (tcp(1, 0, 1), vec![1, 2, 0, 0, 0, 2, 1, 0x84], wrong(bad, "the answer is cut short")),
        (
            tcp(1, 0, 1),
            vec![1, 2, 0, 0, 0, 5, 1, 4, 200, 0, 7],
            wrong(bad, "the answer's count of bytes is not that of its bytes"),
        ),
    ] {
        assert_eq!(asked.look(&answer), expected, "{asked:?} {answer:02X?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(heard in prop::collection::vec(any::<u8>(), 0..300), unit: u8, registers in 1_u16..=125, is_tcp: bool) {
        let asked = if is_tcp { tcp(unit, 0, registers) } else { rtu(unit, 0, registers) };
        match asked.look(&heard) {
            Look::Words(words, used) => {
                prop_assert_eq!(words.len(), usize::from(registers));
                prop_assert!(used <= heard.len());
            }
            Look::Exception(_, used) => prop_assert!(used <= heard.len()),
            Look::More | Look::Wrong(..) => {}
        }
    }

    #[test]
    fn a_proper_answer_is_read_back_and_its_beginnings_are_awaited(words in prop::collection::vec(any::<u16>(), 1..=125), unit: u8, is_tcp: bool) {
        let registers = u16::try_from(words.len()).unwrap();
        let asked = if is_tcp { tcp(unit, 0, registers) } else { rtu(unit, 0, registers) };
        let bytes = u8::try_from(words.len() * 2).unwrap();
        let mut answer = vec![unit, asked.request.function.code(), bytes];
        answer.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        let answer = if is_tcp { [&[1, 2, 0, 0, 0, bytes + 3], &answer[..]].concat() } else { summed(&answer) };
        prop_assert_eq!(asked.look(&answer), Look::Words(words, answer.len()));
        for end in 0..answer.len() {
            prop_assert_eq!(asked.look(&answer[..end]), Look::More);
        }
    }

    #[test]
    fn a_bit_that_flips_is_never_read(word: u16, at in 0_usize..56) {
        let asked = rtu(1, 0, 1);
        let [high, low] = word.to_be_bytes();
        let mut answer = summed(&[1, 3, 2, high, low]);
        answer[at / 8] ^= 1 << (at % 8);
        prop_assert!(!matches!(asked.look(&answer), Look::Words(..) | Look::Exception(..)));
    }
}
