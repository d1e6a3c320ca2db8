//! What golden files say, what is wrong with them, and how they are brought up to date.

use meterlake_config::payload_map::PayloadMap;

use super::{Golden, decimal};

const GOOD: &str = r#"// a remark
map meterlake-json
meter E-1 electricity Europe/Madrid serial=77
received 2026-11-21T12:00:00Z

# first
topic meterlake/v1/E-1/readings
payload {"ts":"2026-11-21T10:15:00Z",
payload "energy_import_kwh":1.5}
-> electricity E-1 2026-11-21T10:15:00Z energy_import_kwh=9.999
-> event E-1 2026-11-21T10:15:00Z leak ""

# second
topic meterlake/v1/E-1/readings
retained
received 2026-11-21T13:00:00Z
payload_hex 7b 7D
topic meterlake/v1/E-1/readings
payload_crlf a
payload_crlf
payload
-> dead syntax as it was
"#;

#[test]
fn a_file_says_maps_meters_messages_and_rows_with_their_lines() {
    let golden = Golden::parse(GOOD, "good.txt").unwrap();
    assert_eq!((golden.maps[0].name.as_str(), golden.maps[0].line), ("meterlake-json", 2));
    assert_eq!(golden.directory.get("E-1").unwrap().serial.as_deref(), Some("77"));
    let [first, second] = &golden.cases[..] else { panic!("{golden:?}") };
    assert_eq!((first.title.as_str(), first.line, second.messages.len()), ("first", 6, 2));
    assert_eq!(first.messages[0].message.payload, b"{\"ts\":\"2026-11-21T10:15:00Z\",\n\"energy_import_kwh\":1.5}");
    assert_eq!(first.messages[0].expected.iter().map(|row| row.0).collect::<Vec<_>>(), [10, 11]);
    let [retained, lines] = &second.messages[..] else { panic!("{second:?}") };
    assert!(retained.retained && !lines.retained);
    assert_eq!(retained.message.received_at_s - lines.message.received_at_s, 3600);
    assert_eq!(
        (retained.message.payload.as_slice(), lines.message.payload.as_slice()),
        (&b"{}"[..], &b"a\r\n\r\n"[..])
    );
}

#[test]
fn accepted_rows_stand_in_the_place_of_the_old_ones_and_are_then_met() {
    let golden = Golden::parse(GOOD, "good.txt").unwrap();
    let maps = [PayloadMap::shipped("meterlake-json").unwrap()];
    let rows = golden.run(&maps);
    assert!(!golden.cases[0].messages[0].is(&rows[0][0]));
    let accepted = golden.accept(GOOD, &rows);
    let expected = GOOD
        .replace("=9.999\n-> event E-1 2026-11-21T10:15:00Z leak \"\"", "=1.500")
        .replace("7D\n", &format!("7D\n{}\n", rows[1][0][0]))
        .replace("-> dead syntax as it was", &rows[1][1][0]);
    assert_eq!(accepted, expected);
    let again = Golden::parse(&accepted, "good.txt").unwrap();
    let met = again
        .cases
        .iter()
        .zip(again.run(&maps))
        .all(|(case, rows)| case.messages.iter().zip(rows).all(|(recorded, rows)| recorded.is(&rows)));
    assert!(met, "{accepted}");
}

#[test]
fn every_mistake_is_told_with_its_line() {
    for (text, line, word) in [
        ("", None, "has no case"),
        ("# only a title", Some(1), "no `topic`"),
        ("mapp tasmota\n# a\ntopic b", Some(1), "`mapp`"),
        ("meter E-1\n# a\ntopic b", Some(1), "incomplete"),
        ("meter E-1 gas Europe/Madrid\n# a\ntopic b", Some(1), "`gas`"),
        ("meter E-1 water Mars/Base\n# a\ntopic b", Some(1), "Mars/Base"),
        ("received yesterday\n# a\ntopic b", Some(1), "yesterday"),
        ("# a\npayload {}\ntopic b", Some(2), "before the case's `topic`"),
        ("# a\ntopic b\npayload_hex 7\n", Some(3), "payload_hex"),
        ("# a\ntopic b\n-> dead x\npayload {}", Some(4), "after the message's rows"),
        ("# a\ntopic b\npaylaod {}", Some(3), "`paylaod`"),
    ] {
        let problems = Golden::parse(text, "f").unwrap_err();
        let told = problems.iter().any(|problem| problem.line == line && problem.message.contains(word));
        assert!(told, "{text:?}: {problems:?}");
    }
    let both = "mapp x\n# a\ntopic b\nwhat\n# c";
    assert_eq!(Golden::parse(both, "f").unwrap_err().len(), 3);
}

#[test]
fn decimals_keep_their_zeros_and_their_sign() {
    for (value, scale, text) in
        [(7000, 3, "7.000"), (-5, 1, "-0.5"), (0, 2, "0.00"), (12, 0, "12"), (-1, 6, "-0.000001")]
    {
        assert_eq!(decimal(value, scale), text);
    }
    assert_eq!(decimal(i64::MIN, 1), "-922337203685477580.8");
}
