//! Shipped profiles parse; wrong ones are refused with every line.

use super::*;
use meterlake_model::EventKind;

#[test]
fn every_shipped_profile_parses_and_bears_its_own_name() {
    for shipped in SHIPPED {
        let name = shipped.name;
        let profile = DeviceProfile::parse(shipped.profile, name).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(profile.name, name);
        assert!(!profile.source.is_empty());
        assert_eq!(DeviceProfile::shipped(name), Some(profile));
    }
    assert_eq!(DeviceProfile::shipped("nobody"), None);
}

#[test]
fn every_profile_of_the_folder_is_shipped_with_its_vector() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    for (folder, ending) in [(folder.clone(), "toml"), (folder.join("golden"), "txt")] {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let stems = files.filter(|path| path.extension().is_some_and(|found| found == ending));
        let mut names: Vec<_> = stems.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        assert!(DeviceProfile::shipped_names().eq(names.iter().map(String::as_str)), "{}: {names:?}", folder.display());
    }
}

#[test]
fn the_sdm630_reads_the_addresses_of_its_maker() {
    let profile = DeviceProfile::shipped("eastron-sdm630").unwrap();
    assert!(profile.fields.iter().all(|f| f.is_plain()));
    let registers: Vec<_> = profile.fields.iter().flat_map(Field::registers).collect();
    assert!(registers.iter().all(|r| r.function == Function::InputRegisters && r.kind == RegisterType::F32));
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
        assert_eq!(field.parts[0].register.address, address, "{channel}");
    }
    let power = profile.fields.iter().find(|f| f.channel.name() == "power_kw").unwrap();
    assert_eq!(power.factor, Factor::parse("0.001").unwrap());
    assert_eq!(power.resolution, Factor::parse("0.001"), "1 W");
}

#[test]
fn the_pulse_meter_counts_litres() {
    let profile = DeviceProfile::shipped("pulse-water").unwrap();
    let volume = &profile.fields[0];
    assert_eq!((volume.parts[0].register.kind, volume.factor), (RegisterType::U32, Factor::parse("0.001").unwrap()));
    assert_eq!(profile.fields[2].parts[0].register.absent, [Absent::Bits(0x8000)]);
    assert_eq!(profile.status[0].events[0], (0, EventKind::Leak));
    assert_eq!(profile.status[0].events.len(), 8);
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
        assert_eq!(profile.fields[0].parts[0].register.address, expected);
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
    assert_eq!(profile.status[0].events, [(0, EventKind::Leak), (3, EventKind::Dry)]);
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

/// A profile of water with one field.
fn with_field(field: &str) -> String {
    format!("{HEAD}[defaults]\nfunction = 3\n[[field]]\nchannel = \"volume_m3\"\nunit = \"l\"\n{field}\n")
}

#[test]
fn a_value_may_be_made_of_several_registers() {
    let text = with_field(
        "type = \"u32\"\norder = \"word_swapped\"\nabsent = [\"0xFFFF\"]\n\
         parts = [{ address = 0 }, { address = 2, type = \"u16\", order = \"big\", scale = 0.001, absent = [] }]\n\
         scale_register = { address = 9, meaning = \"decimals\" }\n\
         factor_registers = [{ address = 10, type = \"u16\", scale = 0.1 }, { address = 11, type = \"u16\", divide = true }]\n\
         sign = { address = 12, bit = 15 }",
    );
    let profile = DeviceProfile::parse(&text, "x").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let field = &profile.fields[0];
    let [whole, fraction] = &field.parts[..] else { panic!("two parts") };
    assert_eq!((whole.register.kind, whole.register.order), (RegisterType::U32, ByteOrder::WordSwapped));
    assert_eq!((fraction.register.kind, fraction.register.order), (RegisterType::U16, ByteOrder::Big));
    assert_eq!((&whole.register.absent[..], &fraction.register.absent[..]), (&[Absent::Bits(0xFFFF)][..], &[][..]));
    assert_eq!((whole.scale, fraction.scale), (Factor::ONE, Factor::parse("0.001").unwrap()));
    let scale = field.scale_register.as_ref().unwrap();
    assert_eq!((scale.register.kind, &scale.meaning), (RegisterType::I16, &ScaleMeaning::Decimals));
    assert_eq!(scale.register.absent, [Absent::Bits(0x8000)]);
    assert_eq!(field.factor_registers.iter().map(|f| f.divide).collect::<Vec<_>>(), [false, true]);
    assert_eq!(field.sign.as_ref().unwrap().negative, Negative::Bit(15));
    let addresses: Vec<_> = field.registers().map(|register| register.address).collect();
    assert_eq!(addresses, [0, 2, 9, 10, 11, 12]);
}

#[test]
fn a_value_of_several_registers_is_checked_in_each() {
    for (field, message) in [
        ("type = \"u32\"\naddress = 0\nparts = [{ address = 0 }, { address = 2 }]", "`field.address` stands in each"),
        ("type = \"u32\"\nparts = [{ address = 0 }]", "`field.parts` has 1 registers; 2 to 8 are allowed"),
        ("parts = [{ address = 0, type = \"u32\" }, { address = 2 }]", "`field.parts.type` is missing"),
        ("address = 0\ntype = \"f32\"\nresolution = 1\nbits = [0, 4]", "`field.bits` is for integers, not for f32"),
        ("address = 0\ntype = \"u16\"\nbits = [9, 8]", "`field.bits` is not within the 16 bits of u16"),
        ("address = 0\ntype = \"u8_high\"\nabsent = [\"0x100\"]", "bits such as"),
        ("address = 0\ntype = \"u32\"\nscale_register = { address = 1, meaning = \"power\" }", "it is one of"),
        (
            "address = 0\ntype = \"u32\"\nscale_register = { address = 1, type = \"f32\" }",
            "only a multiplier may be one",
        ),
        ("address = 0\ntype = \"u32\"\nscale_register = { address = 1, lookup = { 99 = 1 } }", "unknown key"),
        (
            "address = 0\ntype = \"u32\"\nfactor_registers = [{ address = 3 }]",
            "`field.factor_registers.type` is missing",
        ),
        ("address = 0\ntype = \"u32\"\nsign = { address = 3 }", "one of them"),
        ("address = 0\ntype = \"u32\"\nsign = { address = 3, bit = 16 }", "is not within the 16 bits"),
        ("address = 0\ntype = \"u32\"\nmodels = [3]", "`field.models` is for kind = \"sunspec\""),
        ("address = 0\ntype = \"string\"", "`field.type` is \"string\"; it is one of"),
    ] {
        let found = problems(&with_field(field));
        assert!(found.len() == 1 && found[0].contains(message), "{field}: {found:#?}");
    }
}

#[test]
fn a_device_is_asked_what_it_is() {
    let identify = "[identify.model]\naddress = 1\ntype = \"u16\"\nequals = [\"0x0070\", \"113\"]\n\
                    [identify.serial]\naddress = 2\ntype = \"string\"\nregisters = 8\norder = \"byte_swapped\"\n\
                    [[identify.require]]\nwhat = \"unit\"\naddress = 30\ntype = \"string\"\nregisters = 2\nequals = [\"m3*\"]\n";
    let text = with_field("address = 0\ntype = \"u16\"") + identify;
    let profile = DeviceProfile::parse(&text, "x").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let identify = profile.identify;
    assert_eq!(identify.model.as_ref().unwrap().equals, [Expected::Number(0x70), Expected::Number(113)]);
    let serial = identify.serial.as_ref().unwrap();
    assert_eq!((serial.kind, serial.order), (RegisterType::Text(8), ByteOrder::ByteSwapped));
    assert_eq!(
        (identify.require[0].what.as_str(), &identify.require[0].equals[..]),
        ("unit", &[Expected::Prefix("m3".to_owned())][..])
    );
    assert_eq!(identify.registers().count(), 3);

    for (identify, message) in [
        ("[identify.model]\naddress = 1\ntype = \"u16\"", "`identify.model.equals` is missing"),
        ("[identify.model]\naddress = 1\ntype = \"u16\"\nequals = [\"SDM\"]", "a number such as"),
        (
            "[identify.model]\naddress = 1\ntype = \"string\"\nequals = [\"SDM\"]",
            "`identify.model.registers` is missing",
        ),
        ("[identify.serial]\naddress = 1\ntype = \"f32\"", "is a float"),
        ("[identify.serial]\naddress = 1\ntype = \"string\"\nregisters = 33", "1 to 32 is allowed"),
        ("[[identify.require]]\naddress = 1\ntype = \"u16\"\nequals = [\"1\"]", "`identify.require.what` is missing"),
    ] {
        let found = problems(&(with_field("address = 0\ntype = \"u16\"") + identify));
        assert!(found.len() == 1 && found[0].contains(message), "{identify}: {found:#?}");
    }
}

#[test]
fn a_discovered_profile_names_the_models_of_each_field() {
    let profile = DeviceProfile::shipped("sunspec-meter").unwrap();
    let Layout::SunSpec(sunspec) = &profile.layout else { panic!("by discovery") };
    assert_eq!(sunspec.bases, [40_000, 50_000, 0]);
    let columns = |model| profile.fields.iter().filter(|field| field.models.contains(&model)).count();
    assert!(sunspec.models.iter().all(|model| columns(*model) == 18), "{:?}", sunspec.models);

    let head = format!("{HEAD}kind = \"sunspec\"\n");
    let field = "[[field]]\nchannel = \"volume_m3\"\naddress = 2\ntype = \"u16\"\nunit = \"l\"\n";
    for (text, message) in [
        (format!("{head}{field}"), "`field.models` is missing"),
        (format!("{head}[sunspec]\nmodels = [9]\n{field}models = [7, 8]\n"), "has 9, of which no [[field]] is read"),
        (format!("{head}[sunspec]\nbases = []\n{field}models = [7]\n"), "`sunspec.bases` is empty"),
        (format!("{HEAD}[defaults]\nfunction = 3\n[sunspec]\nbases = [0]\n{field}"), "`sunspec` is for kind"),
        (format!("{head}{field}models = [7]\n{field}models = [8, 7]\n"), "a second time"),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].contains(message), "{text}: {found:#?}");
    }
    let profile = DeviceProfile::parse(&format!("{head}{field}models = [7, 8]\n"), "x").unwrap();
    let Layout::SunSpec(sunspec) = &profile.layout else { panic!("by discovery") };
    assert_eq!(
        (&sunspec.models[..], profile.fields[0].parts[0].register.function),
        (&[7, 8][..], Function::HoldingRegisters)
    );
}

#[test]
fn a_status_register_may_hold_a_code() {
    let text = with_field("address = 0\ntype = \"u16\"")
        + "[[status]]\naddress = 5\ncodes = { 0 = \"clock_set\", 17 = \"burst\" }\n";
    let profile = DeviceProfile::parse(&text, "x").unwrap();
    assert!(profile.status[0].is_code);
    assert_eq!(profile.status[0].events, [(0, EventKind::ClockSet), (17, EventKind::Burst)]);
}
