//! Recorded messages of each shipped map beside the rows that they must become. The files are written by hand.

use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::golden::{self, Golden};

#[test]
fn rule_12_every_shipped_map_reads_its_messages_as_recorded() {
    assert!(PayloadMap::shipped_names().eq(golden::shipped().map(|(name, _)| name)), "a map without cases");
    for (name, text) in golden::shipped() {
        let golden = Golden::parse(text, name).unwrap();
        let maps: Vec<_> = golden.maps.iter().map(|map| PayloadMap::shipped(&map.name).unwrap()).collect();
        assert!(maps.iter().any(|map| map.name == name), "{name} does not read with its own map");
        for (case, rows) in golden.cases.iter().zip(golden.run(&maps)) {
            for (recorded, rows) in case.messages.iter().zip(rows) {
                let expected: Vec<_> = recorded.expected.iter().map(|(_, row)| row.clone()).collect();
                assert_eq!(rows, expected, "{name}: {}", case.title);
            }
        }
    }
}
