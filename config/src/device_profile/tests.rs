//! Shipped profiles parse; wrong ones are refused with every line.

use super::*;

#[test]
fn every_shipped_profile_parses_and_bears_its_own_name() {
    for (name, text) in SHIPPED {
        let profile = DeviceProfile::parse(text, name).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(profile.name, *name);
        assert!(!profile.source.is_empty());
        assert_eq!(DeviceProfile::shipped(name), Some(profile));
    }
    assert_eq!(DeviceProfile::shipped("nobody"), None);
}

#[test]
fn the_sdm630_reads_the_addresses_of_its_maker() {
    let profile = DeviceProfile::shipped("eastron-sdm630").unwrap();
    assert!(profile.fields.iter().all(|f| f.function == Function::InputRegisters && f.kind == RegisterType::F32));
    assert_eq!(profile.max_registers, 80);
    for (channel, address) in [
        ("voltage_l1_v", 0x0000),
        ("voltage_l3_v", 0x0004),
        ("current_l1_a", 0x0006),
        ("power_l1_kw", 0x000C),
        ("power_kw", 0x0034),
        ("power_factor", 0x003E),
        ("frequency_hz", 0x0046),
        ("energy_import_kwh", 0x0048),
        ("energy_export_kwh", 0x004A),
        ("reactive_import_kvarh", 0x004C),
        ("reactive_export_kvarh", 0x004E),
    ] {
        let field = profile.fields.iter().find(|f| f.channel.name() == channel).unwrap();
        assert_eq!(field.address, address, "{channel}");
    }
    let power = profile.fields.iter().find(|f| f.channel.name() == "power_kw").unwrap();
    assert_eq!(power.factor, Factor::parse("0.001").unwrap());
    assert_eq!(power.resolution, Factor::parse("0.001"), "1 W");
}

#[test]
fn the_pulse_meter_counts_litres() {
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let volume = &profile.fields[0];
    assert_eq!((volume.kind, volume.factor), (RegisterType::U32, Factor::parse("0.001").unwrap()));
    assert_eq!(profile.fields[2].absent, [Absent::Bits(0x8000)]);
    assert_eq!(profile.status[0].bits[0], (0, EventKind::Leak));
    assert_eq!(profile.status[0].bits.len(), 8);
}

const HEAD: &str = "name = \"x\"\nversion = 1\nmaker = \"m\"\nmodel = \"m\"\nsource = \"s\"\ncommodity = \"water\"\n";

fn problems(text: &str) -> Vec<String> {
    DeviceProfile::parse(text, "x.toml").unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn addresses_count_from_the_stated_base() {
    let field = "[[field]]\nchannel = \"volume_m3\"\naddress = 1\nfunction = 3\ntype = \"u32\"\nunit = \"m3\"\n";
    for (base, expected) in [("", 1), ("[defaults]\naddress_base = 1\n", 0)] {
        let profile = DeviceProfile::parse(&format!("{HEAD}{base}{field}"), "x").unwrap();
        assert_eq!(profile.fields[0].address, expected);
    }
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = format!(
        "{HEAD}[read]\nmax_registers = 126\nmax_hol = 3\n[[field]]\nchannel = \"voltage_l1_v\"\naddress = 0\n\
         function = 6\ntype = \"f32\"\nunit = \"V\"\nresolution = 0.1\n[[field]]\nchannel = \"flow_m3h\"\n\
         address = 70000\nfunction = 3\ntype = \"u16\"\nunit = \"bar\"\n"
    );
    let found = problems(&text);
    let starts = [
        "x.toml:8: `read.max_registers` is 126; 1 to 125 is allowed",
        "x.toml:9: unknown key `read.max_hol`; did you mean `max_hole`?",
        "x.toml:11: `field.channel` is \"voltage_l1_v\", which is a column of electricity",
        "x.toml:13: `field.function` is 6; 3 (holding registers) and 4 (input registers) are allowed: only what reads",
        "x.toml:19: `field.address` is 70000; 0 to 65535 is allowed",
        "x.toml:22: `field.unit` is \"bar\"; flow_m3h takes one of m3/h, l/h, l/min, l/s",
    ];
    assert_eq!(found, starts);
}

#[test]
fn a_field_must_be_readable_and_roundable() {
    for (field, message) in [
        ("address = 0\ntype = \"f32\"\nunit = \"m3\"", "`field.resolution` is missing"),
        (
            "address = 0\ntype = \"f32\"\nunit = \"m3\"\nresolution = 0.0001",
            "is finer than volume_m3 holds (3 decimals)",
        ),
        ("address = 0\ntype = \"f32\"\nunit = \"m3\"\nresolution = -1", "is finer than volume_m3 holds"),
        ("address = 0\ntype = \"u32\"\nunit = \"m3\"\nresolution = 1", "is for floats"),
        ("address = 0\ntype = \"u32\"\nunit = \"m3\"\nscale = 0", "is zero"),
        ("address = 65535\ntype = \"u32\"\nunit = \"m3\"", "leaves no room for 2 registers"),
        ("address = 99\ntype = \"u32\"\nunit = \"m3\"", "lies in a range of `read.never`"),
        ("address = 0\ntype = \"u64\"\nunit = \"m3\"", "has 4 registers, `read.max_registers` is 2"),
        ("address = 0\ntype = \"u16\"\nunit = \"m3\"\nabsent = [\"0x10000\"]", "bits such as"),
        ("address = 0\ntype = \"u16\"\nunit = \"m3\"\nabsent = [\"nan\"]", "bits such as"),
    ] {
        let text = format!(
            "{HEAD}[read]\nmax_registers = 2\nnever = [{{ first = 100, last = 110 }}]\n[defaults]\nfunction = 3\n\
             [[field]]\nchannel = \"volume_m3\"\n{field}\n"
        );
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].contains(message), "{field}: {found:#?}");
    }
}

#[test]
fn a_status_register_names_events_by_bit() {
    let status = |bits: &str| {
        format!(
            "{HEAD}[defaults]\nfunction = 3\n[[field]]\nchannel = \"volume_m3\"\naddress = 0\ntype = \"u32\"\n\
             unit = \"m3\"\n[[status]]\naddress = 5\nbits = {bits}\n"
        )
    };
    let profile = DeviceProfile::parse(&status("{ 0 = \"leak\", 3 = \"dry\" }"), "x").unwrap();
    assert_eq!(profile.status[0].bits, [(0, EventKind::Leak), (3, EventKind::Dry)]);
    assert!(problems(&status("{ 0 = \"flood\" }"))[0].contains("there is no such event"));
    assert!(problems(&status("{ 16 = \"leak\" }")).iter().any(|p| p.contains("unknown key `status.bits.16`")));
    assert!(problems(&status("{}"))[0].contains("names no event"));
}

#[test]
fn an_empty_file_says_what_is_missing() {
    let found = problems("");
    for key in ["name", "version", "maker", "model", "source", "commodity"] {
        assert!(found.iter().any(|p| p.contains(&format!("`{key}` is missing"))), "{key}: {found:#?}");
    }
}
