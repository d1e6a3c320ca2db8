//! Bills on the command line: what a billing clerk does from the run to the correction.

use crate::site::{Answer, program, rows};

#[test]
fn bills_are_run_issued_written_acknowledged_explained_and_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let ask = |words: &[&str]| {
        let mut command = program();
        command.current_dir(folder.path()).arg("--config").arg(site.join("meterlake.toml")).args(words);
        Answer::of(&command.output().unwrap())
    };
    let tell = |words: &[&str]| {
        let answer = ask(words);
        assert!(answer.good, "meterlake {}:\n{}{}", words.join(" "), answer.out, answer.err);
        answer.out
    };
    let demo =
        ["demo", "--dir", site.to_str().unwrap(), "--electricity", "4", "--water", "2", "--modbus", "1", "--live", "1"];
    let demo = Answer::of(&program().current_dir(folder.path()).args(demo).output().unwrap());
    assert!(demo.good, "{}{}", demo.out, demo.err);

    let ready = "SELECT run, count(*) FROM billing_reads WHERE state = 'ready' GROUP BY run ORDER BY run";
    let month = rows(&tell(&["query", "--format", "csv", ready]))[0][0].clone();
    let month = month.as_str();
    tell(&["billing", "run", "--month", month]);
    let seen = tell(&["checks", "run", "--period", month, "--format", "csv"]);
    assert!(seen.starts_with("usage_point_id,channel,start,end,rule,severity,on_fail,measured,"), "{seen}");
    let kept = tell(&["checks", "findings", "--period", month, "--format", "csv"]);
    assert_eq!(rows(&kept).len(), rows(&seen).len(), "what the run found is what the job wrote");
    assert!(
        tell(&["checks", "run", "--period", month, "--check", "V23", "--format", "csv"]).contains("usage_point_id")
    );
    assert!(ask(&["checks", "run", "--period", month, "--check", "V11"]).err.contains("answered where it acts"));
    let status = || rows(&tell(&["billing", "status", "--month", month]));
    let point = status().iter().find(|row| row[0].starts_with("UP-E") && row[4] == "ready").unwrap()[0].clone();

    // Each step is somebody's.
    assert!(!ask(&["billing", "issue", "--month", month]).good);
    tell(&["billing", "hold", "--month", month, "--point", &point, "--by", "anna", "--reason", "moved out"]);
    tell(&["billing", "release", "--month", month, "--point", &point, "--by", "berta"]);
    let issued = tell(&["billing", "issue", "--month", month, "--by", "anna"]);
    assert!(issued.contains(&point), "{issued}");
    assert!(status().iter().any(|row| row[0] == point && row[4].starts_with("issued")), "{:?}", status());

    for (format, ending) in
        [("csv", "csv"), ("json", "json"), ("parquet", "parquet"), ("espi", "espi.xml"), ("iec61968", "xml")]
    {
        let to = folder.path().join(format);
        let words = ["billing", "export", "--month", month, "--format", format, "--to", to.to_str().unwrap()];
        tell(&words);
        let names = || {
            let found = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path());
            let mut found: Vec<_> = found.map(|path| (std::fs::read(&path).unwrap(), path)).collect();
            found.sort();
            found
        };
        let first = names();
        assert!(first.iter().any(|(_, path)| path.to_str().unwrap().ends_with(ending)), "{first:?}");
        tell(&words);
        assert_eq!(names(), first, "the same export again is the same bytes");
    }
    let number = rows(&tell(&["billing", "lists"]))[0][0].clone();
    tell(&["billing", "ack", &number, "--by", "billing system"]);
    assert!(status().iter().any(|row| row[0] == point && row[4].starts_with("acked")), "{:?}", status());
    let explained = tell(&["billing", "explain", &point, "--month", month]);
    for word in ["day", "register", "energy_import_kwh"] {
        assert!(explained.contains(word), "no {word} in:\n{explained}");
    }

    // An edit takes two people, and what it changes is a row of the ledger.
    let days = format!(
        "SELECT day, CAST(day + INTERVAL '1 day' AS DATE) FROM usage_days \
         WHERE usage_point_id = '{point}' AND channel = 'energy_import_kwh' ORDER BY day LIMIT 1"
    );
    let day = rows(&tell(&["query", "--format", "csv", &days]))[0].clone();
    let edit = [
        "edit",
        "propose",
        &point,
        "--channel",
        "energy_import_kwh",
        "--from",
        &day[0],
        "--to",
        &day[1],
        "--use",
        "99.5",
        "--reason",
        "agreed with the customer",
        "--by",
        "anna",
    ];
    tell(&edit);
    let number = rows(&tell(&["edit", "list"]))[0][0].clone();
    assert!(!ask(&["edit", "approve", &number, "--by", "anna"]).good, "nobody approves their own");
    tell(&["edit", "approve", &number, "--by", "berta"]);
    tell(&["billing", "run", "--month", month]);
    let ledger = rows(&tell(&["billing", "ledger", "--month", month]));
    assert!(ledger.iter().any(|row| row.contains(&point) && row.iter().any(|cell| cell == "edit")), "{ledger:?}");
}
