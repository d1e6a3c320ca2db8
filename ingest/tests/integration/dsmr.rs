//! dsmr-parser reads the recorded telegrams as we do. Runs where `METERLAKE_PEERS=1`; there its absence is a failure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use meterlake_ingest::decode::golden::{self, Golden, Recorded};

/// By the cases' order: the specification that the peer wants named. The watt-hours of case 6 it refuses.
const SPECIFICATIONS: [&str; 5] = ["V5", "V5", "V4", "BELGIUM_FLUVIUS", "LUXEMBOURG_SMARTY"];

/// Values by meter, time and channel, in millionths.
type Said = BTreeSet<(String, String, String, i64)>;

fn said(words: &[&str]) -> (String, String, String, i64) {
    let [meter, time, channel, value] = words else { panic!("{words:?}") };
    let millionths = meterlake_model::parse_scaled(value, 6).unwrap();
    ((*meter).to_owned(), (*time).to_owned(), (*channel).to_owned(), millionths)
}

/// What we recorded, but for reactive energy, which the peer leaves out.
fn recorded(message: &Recorded) -> Said {
    let rows = message.expected.iter().map(|(_, row)| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|words| matches!(words[1], "electricity" | "water"))
        .flat_map(|words| {
            let values = words[4..].iter().filter_map(|word| word.split_once('='));
            let values = values.filter(|(channel, _)| !channel.contains("reactive"));
            values.map(|(channel, value)| said(&[words[2], words[3], channel, value])).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn dsmr_parser_reads_the_same_values() {
    if std::env::var("METERLAKE_PEERS").as_deref() != Ok("1") {
        eprintln!("skipped: METERLAKE_PEERS is not 1");
        return;
    }
    let (_, text) = golden::shipped().find(|(name, _)| *name == "dsmr-p1").unwrap();
    let golden = Golden::parse(text, "dsmr-p1").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/dsmr_reader.py");
    let mut peer = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 with dsmr-parser");
    let mut input = peer.stdin.take().unwrap();
    for (case, specification) in golden.cases.iter().zip(SPECIFICATIONS) {
        // The peer wants the line ends of the meter.
        let payload = String::from_utf8(case.messages[0].message.payload.clone()).unwrap();
        let payload = payload.replace("\r\n", "\n").replace('\n', "\r\n");
        let hex = payload.bytes().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(input, "{specification} {hex}").unwrap();
    }
    drop(input);
    let output = peer.wait_with_output().unwrap();
    assert!(output.status.success(), "python3 -m pip install dsmr-parser");
    let output = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = output.split_terminator("end\n").collect();
    assert_eq!(answers.len(), SPECIFICATIONS.len());
    for (case, answer) in golden.cases.iter().zip(answers) {
        let theirs: Said = answer.lines().map(|line| said(&line.split_whitespace().collect::<Vec<_>>())).collect();
        assert!(!theirs.is_empty(), "{}", case.title);
        assert_eq!(theirs, recorded(&case.messages[0]), "{}", case.title);
    }
}
