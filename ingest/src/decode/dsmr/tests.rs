use super::frame::FrameError;
use super::*;
use crate::decode::document::Value;
use proptest::prelude::*;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_ARC);

fn telegram(lines: &[&str]) -> String {
    let body = format!("/XMX5TEST\r\n\r\n{}!", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
    format!("{body}{:04X}\r\n", CRC.checksum(body.as_bytes()))
}

/// The document as JSON would write it, without the identification.
fn said(value: Value<'_>) -> String {
    use crate::decode::document::Kind;
    match value.kind() {
        Kind::Object => {
            let members = value.members().filter(|(key, _)| key.raw() != "identification");
            format!("{{{}}}", members.map(|(k, v)| format!("{}: {}", k.raw(), said(v))).collect::<Vec<_>>().join(", "))
        }
        Kind::List => format!("[{}]", value.items().map(said).collect::<Vec<_>>().join(", ")),
        Kind::Text { .. } => format!("'{}'", value.raw()),
        _ => value.raw().to_owned(),
    }
}

fn read(lines: &[&str]) -> Result<String, Refusal> {
    parse(telegram(lines).as_bytes(), true).map(|document| said(document.root()))
}

#[test]
fn values_stand_under_their_code_and_unit() {
    let lines = ["0-0:1.0.0(101209113020W)", "0-0:96.1.1(4D31)", "1-0:1.8.1(000001.5*kWh)", "1-0:1.8.2(2*kWh)"];
    let expected = "{meter: 'M1', time: '101209113020W', readings: [{meter: 'M1', time: '101209113020W', \
                    0-0:1.0.0: '101209113020W', 0-0:96.1.1: '4D31', 1-0:1.8.1: {kWh: 1.5}, 1-0:1.8.2: {kWh: 2}, \
                    import_total: {kWh: 3.5}}], passed_over: 0}";
    assert_eq!(read(&lines).unwrap(), expected);
}

#[test]
fn a_total_that_the_meter_states_is_not_added_again() {
    let said = read(&["1-0:1.8.0(7*kWh)", "1-0:1.8.1(1*kWh)", "1-0:1.8.2(2*kWh)"]).unwrap();
    assert!(!said.contains("import_total"), "{said}");
    let twice = read(&["1-0:1.8.1(1*kWh)", "1-0:1.8.1(3*kWh)", "1-0:1.8.2(2*kWh)"]).unwrap();
    assert!(!twice.contains("import_total"), "which of the two is meant? {twice}");
}

#[test]
fn bound_meters_need_a_kind_that_we_keep_a_name_a_time_and_a_value() {
    let value = "0-1:24.2.1(101209112500W)(00012.5*m3)";
    for (lines, expected) in [
        (&["0-1:24.1.0(007)", "0-1:96.1.0(5731)", value][..], true),
        (&["0-1:24.1.0(6)", "0-1:96.1.1(5731)", value], true),
        (&["0-1:24.1.0(003)", "0-1:96.1.0(5731)", value], false),
        (&["0-1:24.1.0(004)", "0-1:96.1.0(5731)", value], false),
        (&["0-1:24.1.0(007)", "0-1:96.1.0()", value], false),
        (&["0-1:96.1.0(5731)", value], false),
        (&["0-1:24.1.0(007)", "0-1:96.1.0(5731)"], false),
        (&["0-1:24.1.0(007)", "0-1:96.1.0(5731)", value, value], false),
        (&["0-1:24.1.0(007)", "0-1:96.1.0(5731)", "0-1:24.2.1(632525252525W)(00000.000*m3)"], false),
        (&["0-1:24.1.0(007)", "0-1:96.1.0(5731)", "0-1:24.2.1(101209112500W)()"], false),
        (&["0-1:24.1.0(007)", "0-2:96.1.0(5731)", value], false),
    ] {
        let said = read(lines).unwrap();
        let bound = "{meter: 'W1', time: '101209112500W', device_type: ";
        assert_eq!(said.contains(bound), expected, "{lines:?}: {said}");
        assert_eq!(said.ends_with("passed_over: 0}"), expected, "{lines:?}: {said}");
    }
}

#[test]
fn only_failures_whose_time_a_clock_can_show_become_events() {
    let log = "1-0:99.97.0(4)(0-0:96.7.19)(101208152415W)(0000000240*s)(000101000001W)(0000000301*s)\
               (101208152416W)(9999999999*s)(101208152417W)(0000000009*s)(101208152418W)";
    let said = read(&["0-0:96.1.1(4D31)", log]).unwrap();
    let events: Vec<_> = said.match_indices("power_failure: '").map(|(at, _)| &said[at + 16..]).collect();
    assert_eq!(events.len(), 2, "{said}");
    assert!(events[0].starts_with("restored after 240 s'") && events[1].starts_with("restored after 9 s'"));
    assert!(read(&["1-0:99.97.0()"]).is_ok() && read(&["1-0:99.97.0(0)(0-0:96.7.19)"]).is_ok());
}

#[test]
fn frames_are_refused_with_the_reason() {
    let sound = telegram(&["1-0:1.8.1(1*kWh)"]);
    let unchecked = |text: &str| frame::parse(text.as_bytes(), false).map(|telegram| telegram.objects.len());
    let checked = |text: &str| frame::parse(text.as_bytes(), true).map(|telegram| telegram.objects.len());
    assert_eq!(checked(&sound), Ok(1));
    assert_eq!(checked(&format!("\r\n {sound} \r\n")), Ok(1));
    assert_eq!(checked(&sound.replace('\r', "")), Ok(1), "the checksum is that of the meter's own line ends");
    assert_eq!(checked(&sound.to_lowercase().replace("xmx5test", "XMX5TEST").replace("kwh", "kWh")), Ok(1));
    assert_eq!(checked("/X\r\n\r\n!\r\n"), Err(FrameError::NoChecksum));
    assert_eq!(unchecked("/X\r\n\r\n!\r\n"), Ok(0));
    assert_eq!(unchecked("/X\r\n\r\n1-0:1.8.1(1*kWh)\r\n!"), Ok(1));
    assert!(matches!(unchecked("/X\r\n\r\n!0001\r\n"), Err(FrameError::Checksum { stated: 1, .. })));
    for (text, expected) in [
        ("", FrameError::Start),
        ("X/", FrameError::Start),
        ("/X\r\n\r\n1-0:1.8.1(1*kWh)\r\n", FrameError::End),
        ("/X\r\n\r\n!\r\n/X\r\n\r\n!", FrameError::After),
        ("/X\r\n\r\n!12", FrameError::After),
        ("/X\r\n\r\n!+123", FrameError::After),
        ("/X\r\n\r\n1-0:1.8.1(1\r\n/X\r\n\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n1-0:1.8.1(1)\r\n/X\r\n\r\n!", FrameError::Second(4)),
        ("/X\r\n\r\n1-0:1.8.1\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n1-0:1.8(1)\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n1-0:1.8.1.2(1)\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n1-0:1.8.1(1)x\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n1-0:1.8.1((1)\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n(1)\r\n!", FrameError::Line(3)),
        ("/X\r\n\r\n1-0:1.8.1(\u{e9})\r\n!", FrameError::Character),
    ] {
        assert_eq!(unchecked(text), Err(expected), "{text:?}");
    }
    let odd = telegram(&["1-0:1.8.1(1*kWh)", "what the maker likes", "1-0:1.8.2(2*kWh)"]);
    assert_eq!(checked(&odd), Ok(2), "confirmed by the checksum");
}

#[test]
fn lines_values_and_lengths_are_limited() {
    let long = format!("0-0:96.13.0({})", "3".repeat(5_000));
    let many = vec!["1-0:1.8.1(1*kWh)"; 600];
    let wide = format!("0-0:96.13.0{}", "(1)".repeat(65));
    for lines in [&[long.as_str()][..], &many, &[wide.as_str()]] {
        assert_eq!(read(lines).unwrap_err().reason, DeadReason::TooLarge);
    }
}

#[test]
fn old_meters_break_a_value_off_its_line() {
    let text = "/X\r\n\r\n0-1:24.3.0(161107190000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00001.001)\r\n!\r\n";
    let telegram = frame::parse(text.as_bytes(), false).unwrap();
    assert_eq!(telegram.objects.len(), 1);
    assert_eq!(telegram.objects[0].groups.last(), Some(&"00001.001"));
}

const SOUND: [&str; 6] = [
    "0-0:1.0.0(101209113020W)",
    "0-0:96.1.1(4D31)",
    "1-0:1.8.1(000001.500*kWh)",
    "0-1:24.1.0(007)",
    "0-1:96.1.0(5731)",
    "0-1:24.2.1(101209112500W)(00012.5*m3)",
];

proptest! {
    #[test]
    fn a_burst_of_errors_never_passes_the_checksum(at in 0_usize..1000, bits in 1_u16..) {
        let sound = telegram(&SOUND);
        let mut bytes = sound.trim().as_bytes().to_vec();
        let at = at % (bytes.len() - 1);
        let [high, low] = bits.to_be_bytes();
        bytes[at] ^= high;
        bytes[at + 1] ^= low;
        let expected = frame::parse(sound.as_bytes(), true).unwrap();
        // Only the case of the checksum's own digits, or a blank behind it, may differ unnoticed.
        if let Ok(found) = frame::parse(&bytes, true) {
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn half_a_telegram_is_none(cut in 0_usize..1000, checked: bool, glued: bool) {
        let sound = telegram(&SOUND);
        let body = sound.find('!').unwrap();
        let mut text = sound[..cut % body].to_owned();
        if glued {
            text.push_str(&sound);
        }
        let found = parse(text.as_bytes(), checked).map(|document| said(document.root()));
        if cut % body == 0 && glued {
            prop_assert!(found.is_ok());
        } else {
            prop_assert_eq!(found.unwrap_err().reason, DeadReason::Syntax);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, lines in prop::collection::vec("[01]-[0-9]:[0-9]{1,2}\\.[0-9]\\.[0-9](\\([ -~]{0,20}\\)){0,3}", 0..8)) {
        let _ = parse(&bytes, false).map(|_| ());
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let _ = read(&lines);
    }
}
