//! A user's own maps and profiles against their golden files: `test`, `maps`, `profiles`.

use std::collections::BTreeSet;

use crate::site::{ask, row, rows};

const MAP: &str = r#"# A flat thing.
name = "flat"
version = 1
topic = "flat/{meter}"
format = "json"

[time]
path = "t"
format = "unix_s"

[fields.volume_m3]
path = "litres"
unit = "l"
"#;

const GOLDEN: &str = r#"meter W-1 water Europe/Madrid

# a reading
topic flat/W-1
payload {"t":1763719200,"litres":1500}
-> water W-1 2025-11-21T10:00:00Z volume_m3=1.501

# no time
topic flat/W-1
payload {"litres":1}
-> dead missing
"#;

#[test]
fn a_golden_file_that_differs_is_shown_by_line_and_can_be_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (map, golden) = (folder.path().join("flat.toml"), folder.path().join("flat.txt"));
    std::fs::write(&map, MAP).unwrap();
    std::fs::write(&golden, GOLDEN).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "# not a golden file\n").unwrap();
    let paths = [folder.path(), &map, &golden].map(|path| path.to_str().unwrap().to_owned());
    for path in &paths {
        let answer = ask(&["test", path]);
        assert!(!answer.good, "{path}: {}", answer.out);
        for told in [
            ":5: \"a reading\" differs (flat/W-1):",
            "     6 - -> water W-1 2025-11-21T10:00:00Z volume_m3=1.501\n",
            "       + -> water W-1 2025-11-21T10:00:00Z volume_m3=1.500\n",
            "expected volume_m3=1.501, read volume_m3=1.500",
            "    11 - -> dead missing\n",
            "0 of 2 cases in 1 files as recorded\n",
        ] {
            assert!(answer.out.contains(told), "{path}: {told:?} is not in\n{}", answer.out);
        }
    }
    assert_eq!(std::fs::read_to_string(&golden).unwrap(), GOLDEN, "nothing is written unasked");
    let accepted = ask(&["test", "--accept", &paths[0]]);
    assert!(accepted.good && accepted.out.contains("now record"), "{}{}", accepted.out, accepted.err);
    let text = std::fs::read_to_string(&golden).unwrap();
    assert!(text.starts_with(&GOLDEN[..GOLDEN.find("1.501").unwrap()]) && text.contains("=1.500\n"), "{text}");
    let again = ask(&["test", &paths[1]]);
    assert!(again.good && again.out == "2 of 2 cases in 1 files as recorded\n", "{}", again.out);
}

#[test]
fn a_vector_stands_beside_its_profile_and_is_brought_up_to_date_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("golden")).unwrap();
    let vector = folder.path().join("golden/own.txt");
    let show = |words: &[&str]| ask(&[&["profiles", "show", "pulse-water"], words].concat()).out;
    std::fs::write(folder.path().join("own.toml"), show(&[])).unwrap();
    let right = show(&["--golden"]);
    let wrong = right.replacen("-> event leak\n", "", 1).replacen("battery_v=0.000", "battery_v=9.999", 1);
    std::fs::write(&vector, &wrong).unwrap();
    let path = folder.path().to_str().unwrap();
    let answer = ask(&["test", path]);
    assert!(!answer.good && answer.out.contains("\n  - battery_v=9.999\n  + battery_v=0.000\n"), "{}", answer.out);
    assert!(answer.out.contains("own.txt:1: ") && answer.out.contains("  + event leak\n"), "{}", answer.out);
    assert!(answer.out.ends_with("1 of 3 cases in 1 files as recorded\n"), "{}", answer.out);
    assert!(ask(&["test", "--accept", path]).good);
    let text = std::fs::read_to_string(&vector).unwrap();
    let again = ask(&["test", folder.path().join("own.toml").to_str().unwrap()]);
    assert!(again.good && again.out.starts_with("3 of 3 "), "{}\n{text}", again.out);
    let lines = |text: &str| -> BTreeSet<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(lines(&text), lines(&right));
    assert!(text.ends_with(right.split("\n\n").last().unwrap()), "what was right stays as it was");
}

#[test]
fn what_cannot_be_tested_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("flat.toml", &MAP.replace("unix_s", "unix_days"));
    write("flat.txt", GOLDEN);
    write("other.txt", &format!("map no-such-map\n{GOLDEN}"));
    write("alone.txt", GOLDEN);
    write("broken.txt", &GOLDEN.replace("payload", "paylaod"));
    write("prose.txt", "no case at all\n");
    for (name, told) in [
        ("flat.txt", "flat.toml:9:"),
        ("other.txt", "other.txt:1: no map `no-such-map`"),
        ("alone.txt", "alone.txt: names no map"),
        ("broken.txt", "broken.txt:5: `paylaod`"),
        ("prose.txt", "is no golden file"),
        ("absent.txt", "cannot read"),
    ] {
        let answer = ask(&["test", &path(name)]);
        let said = answer.out + &answer.err;
        assert!(!answer.good && said.contains(told), "{name}: {told:?} is not in\n{said}");
    }
    let all = ask(&["test", folder.path().to_str().unwrap()]);
    assert!(!all.good && all.out.contains("4 files cannot be tested"), "{}", all.out);
}

#[test]
fn the_shipped_maps_and_profiles_pass_their_own_tests_and_can_be_shown() {
    let answer = ask(&["test", "--shipped"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let of = |text: &str| -> usize { text.trim().split(' ').next().unwrap().parse().unwrap() };
    assert!(of(answer.out.lines().last().unwrap()) > 10, "{}", answer.out);
    for kind in ["maps", "profiles"] {
        let listed = rows(&ask(&[kind, "list"]).out);
        assert!(listed.len() >= 2, "{listed:?}");
        for row in &listed {
            let text = ask(&[kind, "show", &row[0]]);
            assert!(text.good && text.out.contains(&format!("name = \"{}\"", row[0])), "{}: {}", row[0], text.err);
            let golden = ask(&[kind, "show", &row[0], "--golden"]);
            assert!(golden.good && golden.out.contains("\n# "), "{}: {}", row[0], golden.err);
        }
        let unknown = ask(&[kind, "show", "no-such"]);
        assert!(!unknown.good && unknown.err.contains("`no-such`") && unknown.err.contains(&listed[0][0]));
    }
    let profiles = rows(&ask(&["profiles", "list"]).out);
    assert_eq!(row(&profiles, "eastron-sdm630")[1..4], ["electricity", "Eastron", "SDM630-Modbus V2"]);
}

const CHECK: &str = "-- check: V27_night_use
-- about: use at night
-- severity: issue
-- on_fail: verify
-- param: most = 0.50
SELECT usage_point_id, channel, start, \"end\", value AS measured FROM usage_days
WHERE start >= $from AND start < $to AND value > $most
";

const CASES: &str = "[[case]]
name = \"more than half a unit is too much\"
month = \"2026-04\"
expect = \"usage_point_id,measured\\nE-1,0.6\"
[case.rows]
usage_days = \"usage_point_id,start,end,value\\nE-1,2026-04-02T00:00:00Z,2026-04-03T00:00:00Z,0.5\"
";

#[test]
fn the_cases_of_a_check_beside_it_are_run_and_those_of_the_program_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let (check, cases) = (folder.path().join("V27_night_use.sql"), folder.path().join("V27_night_use.cases.toml"));
    std::fs::write(&check, CHECK).unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(ask(&["test", check.to_str().unwrap()]).err.contains("has no cases beside it"));
    std::fs::write(&cases, CASES).unwrap();
    let answer = ask(&["test", path]);
    assert!(!answer.good, "{}", answer.out);
    assert!(
        answer.out.contains("V27_night_use.cases.toml:1: \"more than half a unit is too much\" differs:\n"),
        "{}",
        answer.out
    );
    assert!(answer.out.contains("       - usage_point_id=E-1 measured=0.600000\n"), "{}", answer.out);
    assert!(answer.out.ends_with("0 of 1 cases in 1 files as recorded\n"), "{}", answer.out);
    std::fs::write(
        &cases,
        CASES.replace(
            "value\\nE-1,2026-04-02T00:00:00Z,2026-04-03T00:00:00Z,0.5",
            "value\\nE-1,2026-04-02T00:00:00Z,2026-04-03T00:00:00Z,0.6",
        ),
    )
    .unwrap();
    for named in [path, cases.to_str().unwrap(), check.to_str().unwrap()] {
        let answer = ask(&["test", named]);
        assert!(
            answer.good && answer.out.ends_with("1 of 1 cases in 1 files as recorded\n"),
            "{}{}",
            answer.out,
            answer.err
        );
    }
    // By number, and every one that comes with the program.
    let one = ask(&["test", "V20"]);
    assert!(one.good && one.out.contains("V20_high_low") && one.out.contains("as expected"), "{}{}", one.out, one.err);
    std::fs::write(&check, CHECK.replace("$most\n", "$mots\n")).unwrap();
    let wrong = ask(&["test", path]);
    assert!(!wrong.good && wrong.out.contains("V27_night_use.sql:7: asks for `$mots`"), "{}", wrong.out);
}

#[test]
fn checks_are_listed_shown_and_configured() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("own")).unwrap();
    std::fs::write(folder.path().join("own/V27_night_use.sql"), CHECK).unwrap();
    let config = folder.path().join("c.toml");
    let text = "[checks]\nfolder = 'own'\n[[check]]\nid = 'V20'\nvalid_from = '2026-01-01'\nscope = \"class = 'home'\"\n\
                on_fail = 'hold'\nparams = { high = 3 }\n";
    std::fs::write(&config, text).unwrap();
    let with = |words: &[&str]| ask(&[&["--config", config.to_str().unwrap()], words].concat());
    let list = with(&["checks", "list", "--format", "csv"]);
    assert!(list.good, "{}", list.err);
    let all = rows(&list.out);
    assert_eq!(row(&all, "V27_night_use")[2], "verify");
    assert_eq!(*row(&all, "V20_high_low").last().unwrap(), "1");
    assert_eq!(row(&all, "V11_backward")[5], "walk");
    let show = with(&["checks", "show", "V20"]);
    assert!(show.out.starts_with("-- check: V20_high_low\n"), "{}", show.out);
    assert!(
        show.out.ends_with("-- configured: from 2026-01-01 on, where class = 'home', hold, high=3.0\n"),
        "{}",
        show.out
    );
    assert!(with(&["checks", "show", "V99"]).err.contains("there is no check V99"));
    let wrong = text.replace("high", "hihg").replace("'V20'", "'V16'").replace("'hold'", "'fill'");
    std::fs::write(&config, wrong).unwrap();
    let refused = with(&["checks", "list"]).err;
    assert!(refused.contains(":4: `check.id` is \"V16\"; is it V16_closure or V16_tariffs?"), "{refused}");
}
