//! The vectors of the shipped profiles, and files that are wrong.

use super::*;

#[test]
fn rule_12_every_shipped_profile_reads_its_vector() {
    let mut wrong = Vec::new();
    for name in DeviceProfile::shipped_names() {
        let profile = DeviceProfile::shipped(name).unwrap();
        let cases = parse(DeviceProfile::shipped_vector(name).unwrap(), name);
        let cases = cases.unwrap_or_else(|problems| panic!("{problems:#?}"));
        let failures = cases.iter().filter_map(|case| run(&profile, case).err());
        wrong.extend(failures.map(|failure| format!("{name}: {failure}")));
        let read = cases.iter().flat_map(|case| &case.expected.values).map(|(channel, _)| channel);
        let read: Vec<_> = read.collect();
        let unread = profile.fields.iter().find(|field| !read.contains(&&field.channel));
        wrong.extend(unread.map(|field| format!("{name}: no case reads {}", field.channel)));
        let seen: Vec<_> = cases.iter().flat_map(|case| &case.expected.events).collect();
        let events = profile.status.iter().flat_map(|status| &status.events);
        let unseen = events.map(|(_, kind)| kind).find(|kind| !seen.contains(kind));
        wrong.extend(unseen.map(|kind| format!("{name}: no case has the event {kind}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A profile and a vector that it fits.
fn pulse(vector: &str) -> (DeviceProfile, Vec<Case>) {
    (DeviceProfile::shipped("pulse-water").unwrap(), parse(vector, "x.txt").unwrap())
}

#[test]
fn what_is_missing_and_what_comes_besides_is_told() {
    let registers = "3/0: 0001 E240 0E1C FFF4 0011\n";
    let right = format!(
        "# a\n{registers}-> battery_v=3.612 volume_m3=123.456\n-> temperature_c=-1.2\n-> event leak\n-> event low_battery\n"
    );
    let (profile, cases) = pulse(&right);
    assert_eq!(run(&profile, &cases[0]), Ok(()));

    let (profile, cases) = pulse(&format!("# a\n{registers}-> volume_m3=123.457\n-> event dry\n-> dead bad_value\n"));
    let mismatch = run(&profile, &cases[0]).unwrap_err();
    assert_eq!(mismatch.missing, ["volume_m3=123.457", "event dry", "dead bad_value "]);
    let unexpected = ["volume_m3=123.456", "temperature_c=-1.2", "battery_v=3.612", "event leak", "event low_battery"];
    assert_eq!(mismatch.unexpected, unexpected);
    assert!(mismatch.to_string().starts_with("line 1: a\n  - volume_m3=123.457\n"), "{mismatch}");

    let (profile, cases) = pulse("# a\n3/0: 0001 E240 0E1C FFF4\n");
    assert_eq!(run(&profile, &cases[0]).unwrap_err().missing, ["the vector lacks register 3/0x0004"]);
}

#[test]
fn a_recorded_case_is_read_back() {
    for name in DeviceProfile::shipped_names() {
        let profile = DeviceProfile::shipped(name).unwrap();
        for case in parse(DeviceProfile::shipped_vector(name).unwrap(), name).unwrap() {
            let recorded = record(&profile, &case.title, &case.image).unwrap();
            let again = parse(&recorded, "recorded").unwrap_or_else(|problems| panic!("{problems:#?}\n{recorded}"));
            assert_eq!(again[0].image, case.image, "{name}: {}", case.title);
            assert_eq!(run(&profile, &again[0]), Ok(()), "{name}: {recorded}");
        }
    }
}

#[test]
fn every_wrong_line_is_told() {
    for (text, message) in [
        ("", "has no case"),
        ("3/0: 1234\n", "x.txt:1: stands before the first title"),
        ("# a\nvoltage\n", "x.txt:2: `voltage` is no line of a case"),
        ("# a\n6/0: 1234\n", "x.txt:2: the function code is 3 or 4"),
        ("# a\n3/70000: 1234\n", "is no address"),
        ("# a\n3/65535: 1234 1234\n", "beyond the last address"),
        ("# a\n3/0: 12\n", "`12` is no word"),
        ("# a\n3/0: 1234*x\n", "is no word that is repeated"),
        ("# a\n3/0: 1234*99999\n", "more than 65536 registers"),
        ("# a\n3/0:\n", "there are no words"),
        ("# a\n-> volts=1\n", "there is no column `volts`"),
        ("# a\n-> volume_m3\n", "is no COLUMN=VALUE"),
        ("# a\n-> event flood\n", "there is no event `flood`"),
        ("# a\n-> dead flood\n", "there is no reason `flood`"),
        ("# a\n-> identity x\n", "model and serial number are wanted"),
    ] {
        let problems = parse(text, "x.txt").unwrap_err();
        assert!(problems.len() == 1 && problems[0].to_string().contains(message), "{text:?}: {problems:?}");
    }
}
