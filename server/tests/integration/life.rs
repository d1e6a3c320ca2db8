//! Holds, retention, erasure and backups by the commands that people use, on a lake that has every table.

use std::path::{Path, PathBuf};

use crate::site::{Answer, program, rows};

struct Lake {
    dir: PathBuf,
}

impl Lake {
    fn ask(&self, config: &Path, words: &[&str]) -> Answer {
        Answer::of(&program().arg("--config").arg(config).args(words).output().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.dir.join("meterlake.toml")
    }

    fn tell(&self, words: &[&str]) -> String {
        let answer = self.ask(&self.config(), words);
        assert!(answer.good, "{words:?}\n{}{}", answer.out, answer.err);
        answer.out
    }

    fn refused(&self, words: &[&str], reason: &str) {
        let answer = self.ask(&self.config(), words);
        assert!(!answer.good && answer.err.contains(reason), "{words:?}\n{}{}", answer.out, answer.err);
    }

    fn query(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&self.tell(&["query", "--committed", "--format", "csv", sql]))
    }

    fn counts(&self, config: &Path) -> Vec<Vec<String>> {
        let tables =
            ["electricity_readings", "water_readings", "raw_messages", "usage_spans", "billing_reads", "job_runs"];
        let counts = tables.map(|t| format!("SELECT '{t}' AS name, count(*) AS n FROM {t}")).join(" UNION ALL ");
        let answer = self.ask(config, &["query", "--format", "csv", &format!("{counts} ORDER BY name")]);
        assert!(answer.good, "{}", answer.err);
        rows(&answer.out)
    }
}

#[test]
fn a_meter_is_held_erased_and_proven_gone_and_a_backup_of_before_brings_it_back_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake { dir: folder.path().join("demo") };
    let mut demo = program();
    demo.arg("demo").arg("--dir").arg(&lake.dir);
    demo.args(["--electricity", "6", "--water", "3", "--modbus", "1", "--days", "33", "--live", "2"]);
    let answer = Answer::of(&demo.output().unwrap());
    assert!(answer.good, "{}{}", answer.out, answer.err);

    let found = "SELECT i.meter_id, i.usage_point_id FROM installations i JOIN electricity_readings r ON \
                 r.meter_id = i.meter_id WHERE r.source NOT LIKE 'modbus%' ORDER BY 1 LIMIT 1";
    let found = lake.query(found).remove(0);
    let (meter, point) = (found[0].as_str(), found[1].as_str());
    let readings = format!("SELECT count(*) FROM electricity_readings WHERE meter_id = '{meter}'");
    assert_ne!(lake.query(&readings)[0][0], "0");
    lake.refused(&["erase", "verify", meter], "found in ");
    let derived = ["usage_spans", "usage_days", "usage_anchors", "findings"]
        .map(|table| format!("SELECT count(*) AS n FROM {table} WHERE meter_id = '{meter}'"));
    let derived = format!("SELECT sum(n) FROM ({})", derived.join(" UNION ALL "));
    assert_ne!(lake.query(&derived)[0][0], "0");
    let kept = "SELECT count(*) FROM usage_progress";
    assert_ne!(lake.query(kept)[0][0], "0");

    let backups = folder.path().join("backups");
    let told = lake.tell(&["backup", "--to", backups.to_str().unwrap()]);
    assert!(told.starts_with("backup 20") && told.contains(", 0 were there"), "{told}");
    let before = lake.counts(&lake.config());

    let who = ["--reason", "asked for", "--who", "clerk"];
    let with = |words: &[&'static str], more: &[&str]| -> Vec<String> {
        words.iter().chain(more).chain(&who).map(|w| (*w).to_owned()).collect()
    };
    let run = |words: Vec<String>| lake.ask(&lake.config(), &words.iter().map(String::as_str).collect::<Vec<_>>());
    let held = run(with(&["hold", "add", "--usage-point"], &[point]));
    assert!(held.good && held.out.contains("until it is released"), "{}{}", held.out, held.err);
    let unknown = run(with(&["hold", "add", "--meter"], &["nobody's"]));
    assert!(!unknown.good && unknown.err.contains("knows no meter nobody's"), "{}", unknown.err);
    let refused = run(with(&["erase", "meter"], &[meter, "--now"]));
    assert!(
        !refused.good && refused.err.contains("hold h-") && refused.err.contains("release it first"),
        "{}",
        refused.err
    );
    let plan = rows(&lake.tell(&["retention", "plan"]));
    assert!(plan.iter().any(|row| row[0] == "raw_messages"), "{plan:?}");
    let hold = rows(&lake.tell(&["hold", "list"])).remove(0).remove(0);
    lake.tell(&["hold", "release", &hold, "--who", "boss"]);
    assert!(rows(&lake.tell(&["hold", "list"])).is_empty());

    let done = run(with(&["erase", "meter"], &[meter, "--now", "--unbilled"]));
    assert!(done.good && done.err.contains("files of the journal"), "{}{}", done.out, done.err);
    assert_eq!(lake.query(&readings)[0][0], "0");
    assert_eq!(lake.query(&derived)[0][0], "0", "what was derived of it");
    assert_eq!(lake.query(kept)[0][0], "0", "no run goes on from what it left behind");
    let clean = lake.ask(&lake.config(), &["erase", "verify", meter]);
    assert!(clean.good && clean.err.starts_with("not found in "), "{}{}", clean.out, clean.err);
    assert_eq!(rows(&lake.tell(&["erase", "list"])).len(), 1);
    let registry = lake.dir.join("registry");
    lake.refused(&["registry", "import", registry.to_str().unwrap()], &format!("meter {meter}, erased at"));
    let sound = lake.ask(&lake.config(), &["doctor"]);
    assert!(sound.good, "{}{}", sound.out, sound.err);
    let run_again = lake.tell(&["job", "run", "usage"]);
    assert!(run_again.contains("erased: readings of 1 subject"), "{run_again}");
    assert_ne!(lake.query(kept)[0][0], "0");
    assert_eq!(lake.query(&derived)[0][0], "0", "and none of it comes back");

    // Elsewhere, as it was before.
    let text = std::fs::read_to_string(lake.config()).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("meterlake.toml"), text).unwrap();
    let config = elsewhere.join("meterlake.toml");
    let restored = lake.ask(&config, &["restore", "--from", backups.to_str().unwrap()]);
    assert!(restored.good && restored.out.contains("the doctor finds it sound"), "{}{}", restored.out, restored.err);
    assert_eq!(lake.counts(&config), before);
    let again = lake.ask(&config, &["restore", "--from", backups.to_str().unwrap()]);
    assert!(!again.good && again.err.contains("is not empty"), "{}", again.err);
}

#[test]
fn what_an_object_store_cannot_do_is_refused_before_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake { dir: folder.path().to_owned() };
    // Nobody listens on port 1.
    let keys = "access_key_id = 'me'\nsecret_access_key_file = 's3.secret'\nendpoint = 'http://127.0.0.1:1'";
    std::fs::write(lake.config(), format!("lake.root = 's3://readings/a'\n[lake.s3]\n{keys}\n")).unwrap();
    std::fs::write(lake.dir.join("s3.secret"), "hunter2").unwrap();
    let backups = lake.dir.join("backups");
    let backups = backups.to_str().unwrap();
    for (words, reason) in [
        (["backup", "--to", backups, "--link"].as_slice(), "cannot be linked: call this without --link"),
        (
            ["restore", "--from", backups].as_slice(),
            "`lake.root` is s3://readings/a: a backup is restored to a local folder only",
        ),
    ] {
        lake.refused(words, reason);
    }
    assert!(!Path::new(backups).exists());
}
