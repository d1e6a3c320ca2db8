//! Writes the golden messages and files as first inputs: `seeds FOLDER` makes a folder for each target.

use std::path::Path;

use meterlake_config::device_profile::DeviceProfile;
use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode::golden;

const FORMATS: [(&str, &str); 7] = [
    ("json", "json"),
    ("csv", "csv"),
    ("protobuf", "protobuf"),
    ("sparkplug", "sparkplug_b"),
    ("senml", "senml"),
    ("dsmr", "dsmr_p1"),
    ("text", "text"),
];

fn main() -> std::io::Result<()> {
    let root = std::env::args().nth(1).expect("a folder is wanted");
    let root = Path::new(&root);
    let write = |target: &str, name: String, bytes: &[u8]| {
        std::fs::create_dir_all(root.join(target))?;
        std::fs::write(root.join(target).join(name), bytes)
    };
    for (name, text) in golden::shipped() {
        write("golden_file", name.to_owned(), text.as_bytes())?;
        let Ok(file) = golden::Golden::parse(text, name) else { continue };
        let map = PayloadMap::shipped_text(name).unwrap_or_default();
        let Some((target, _)) = FORMATS.iter().find(|(_, format)| map.contains(&format!("format = \"{format}\""))) else {
            continue;
        };
        for (number, recorded) in file.cases.iter().flat_map(|case| &case.messages).enumerate() {
            let payload = &recorded.message.payload;
            let choice = u8::try_from(number % 256).unwrap_or(0);
            let mut input = vec![choice];
            if *target == "sparkplug" {
                input.push(u8::try_from(payload.len()).unwrap_or(u8::MAX));
            }
            input.extend(payload);
            write(target, format!("{name}-{number}"), &input)?;
        }
    }
    for name in PayloadMap::shipped_names() {
        write("map_file", name.to_owned(), PayloadMap::shipped_text(name).unwrap_or_default().as_bytes())?;
    }
    for (number, name) in DeviceProfile::shipped_names().enumerate() {
        write("profile_file", name.to_owned(), DeviceProfile::shipped_text(name).unwrap_or_default().as_bytes())?;
        let registers: Vec<u8> = (0..=255).collect();
        write("registers", name.to_owned(), &[&[u8::try_from(number % 256).unwrap_or(0)], registers.as_slice()].concat())?;
    }
    write("configuration", "default".to_owned(), meterlake_config::Config::default_text().as_bytes())?;
    write("topic", "plain".to_owned(), b"a/{meter}/+/#\na/b/c/d")
}
