use super::*;
use proptest::prelude::*;

const NOW: i64 = 1_795_262_400;

/// Readings as text: `device@time name unit value, …`.
fn told(payload: &str) -> Result<String, String> {
    let document = parse(payload.as_bytes(), NOW).map_err(|refusal| refusal.detail)?;
    let member = |value: Value<'_>, name: &str| match value.member(name).unwrap() {
        Some(value) if value.kind() != Kind::Null => value.unescaped().into_owned(),
        _ => "-".to_owned(),
    };
    let record = |record: Value<'_>| {
        let value = ["v", "vs", "vb", "s"].into_iter().map(|label| member(record, label)).find(|found| found != "-");
        format!("{} {} {}", member(record, "n"), member(record, "u"), value.unwrap())
    };
    let reading = |reading: Value<'_>| {
        let records: Vec<_> = reading.member("records").unwrap().unwrap().items().map(record).collect();
        let offset = member(reading, "t").parse::<f64>().unwrap() - NOW as f64;
        format!("{}@{offset} {}", member(reading, "device"), records.join(", "))
    };
    Ok(document.root().items().map(reading).collect::<Vec<_>>().join("; "))
}

#[test]
fn base_fields_are_resolved_and_records_of_one_time_are_one_reading() {
    for (pack, expected) in [
        (r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#, "urn:dev:ow@0 10e2073a01080063 Cel 23.1"),
        (
            r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]"#,
            "urn:dev:ow:10e2073a01080063@0 voltage V 120.1, current A 1.2",
        ),
        (
            r#"[{"bn":"m1/","bt":1795262000,"bu":"A","bver":10,"n":"voltage","u":"V","v":120.1},
                {"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"power","u":"W","t":-4,"v":9}]"#,
            "m1@-400 voltage V 120.1; m1@-405 current A 1.2; m1@-404 current A 1.3, power W 9",
        ),
        (r#"[{"bn":"m1:","n":"a","t":-60,"v":1},{"bn":"m2:","n":"a","v":2}]"#, "m1@-60 a - 1; m2@0 a - 2"),
        (r#"[{"bn":"m1:","bv":20},{"n":"a","v":1.5},{"n":"b","v":-0.25}]"#, "m1@0 a - 215e-1, b - 1975e-2"),
        (
            r#"[{"bn":"m1:","n":"door","vb":true},{"n":"state","vs":"LEAK"},{"n":"e","s":5,"u":"J"}]"#,
            "m1@0 door - true, state - LEAK, e J 5",
        ),
        (
            r#"[{"n":"m1/energy","v":1},{"n":"m2/energy","v":2},{"n":"m1/power","v":3}]"#,
            "m1@0 energy - 1, power - 3; m2@0 energy - 2",
        ),
        (r#"[{"bn":"m1","n":"","v":1}]"#, "m1@0  - 1"),
        (r#"[{"n":"alone","v":1}]"#, "-@0 alone - 1"),
        ("[]", ""),
    ] {
        assert_eq!(told(pack).as_deref(), Ok(expected), "{pack}");
    }
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_record() {
    for (pack, detail) in [
        ("{}", "a list of records is wanted"),
        ("[1]", "record 1: it is the number 1"),
        (r#"[{"n":"a","v":1},{"n":"b","v":"1"}]"#, "record 2: `v` is the text \"1\"; a number"),
        (r#"[{"n":1,"v":1}]"#, "`n` is the number 1; text"),
        (r#"[{"bver":11,"n":"a","v":1}]"#, "its version is the number 11"),
        (r#"[{"n":"a","v":1,"must_":1}]"#, "`must_` is not understood"),
        (r#"[{"n":"a","vb":1}]"#, "`vb` is the number 1"),
        (r#"[{"n":"a","v":1,"t":"now"}]"#, "`t` is the text \"now\""),
        (r#"[{"n":"a","v":1,"bv":1e60}]"#, "too many digits"),
        (r#"[{"n":"a","v":1,"bt":9e12,"t":9e12}]"#, "its time is too large"),
    ] {
        let found = told(pack).unwrap_err();
        assert!(found.contains(detail), "{pack}: {found}");
    }
}

#[test]
fn a_long_base_name_is_written_once() {
    let name = "x".repeat(10_000);
    let records: Vec<_> = (0..1_000).map(|at| format!("{{\"n\":\"{name}/a\",\"t\":{at},\"v\":1}}")).collect();
    let pack = format!("[{}]", records.join(","));
    assert!(parse(pack.as_bytes(), NOW).is_ok());
    let again: Vec<_> = (0..1_000).map(|at| format!("{{\"n\":\"a\",\"t\":{at},\"v\":1}}")).collect();
    let pack = format!("[{{\"bn\":\"{name}\"}},{}]", again.join(","));
    let document = parse(pack.as_bytes(), NOW).unwrap();
    assert!(document.text_len() < 100_000, "{}", document.text_len());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, NOW);
    }

    #[test]
    fn no_pack_makes_it_panic(labels in prop::collection::vec(("b?[nutvs]|vb|bver|x_", "-?[0-9]{1,20}|\"[a/:]{0,3}\"|true"), 0..12)) {
        let records: Vec<_> = labels.iter().map(|(label, value)| format!("{{\"{label}\":{value},\"v\":1}}")).collect();
        let _ = parse(format!("[{}]", records.join(",")).as_bytes(), NOW);
    }
}
