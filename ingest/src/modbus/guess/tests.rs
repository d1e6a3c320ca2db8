//! Devices of known profiles, their registers mixed up, must be found out again.

use super::*;
use meterlake_config::device_profile::{ByteOrder, RegisterType};
use proptest::prelude::*;

use crate::modbus::golden;

/// The typical device of a shipped profile.
fn device(profile: &str) -> (DeviceProfile, Image) {
    let cases = golden::parse(DeviceProfile::shipped_vector(profile).unwrap(), profile).unwrap();
    (DeviceProfile::shipped(profile).unwrap(), cases[0].image.clone())
}

fn shipped() -> Vec<DeviceProfile> {
    DeviceProfile::shipped_names().filter_map(DeviceProfile::shipped).collect()
}

fn value(channel: &str, about: &str, address: Option<u16>) -> Hint {
    let channel = Channel::by_name(channel).unwrap();
    Hint::Value { channel, about: about.to_owned(), address, tolerance_permille: 5 }
}

/// Candidates on a line each.
fn told(found: &[Candidate]) -> String {
    let lines = found.iter().map(|one| {
        let register = &one.field.parts[0].register;
        let (code, kind, order) = (register.function.code(), register.kind.name(), register.order.name());
        let Candidate { field, value, score, reasons, .. } = one;
        format!(
            "{score} {} = {value} at {code}/{} {kind} {order} × {}: {reasons:?}\n",
            field.channel, register.address, field.factor
        )
    });
    lines.collect()
}

/// How a device differs from the one that the profile was written for.
#[derive(Debug, Clone, Copy)]
struct Mix {
    swap_function: bool,
    shift: u16,
    reverse_words: bool,
    swap_bytes: bool,
}

const PLAIN: Mix = Mix { swap_function: false, shift: 0, reverse_words: false, swap_bytes: false };

fn other(function: Function) -> Function {
    match function {
        Function::HoldingRegisters => Function::InputRegisters,
        Function::InputRegisters => Function::HoldingRegisters,
    }
}

fn mixed(profile: &DeviceProfile, image: &Image, mix: Mix) -> Image {
    let mut result = Image::new();
    let function = |of| if mix.swap_function { other(of) } else { of };
    for (of, address, word) in image.registers() {
        result.set(function(of), address + mix.shift, &[if mix.swap_bytes { word.swap_bytes() } else { word }]);
    }
    for register in profile.fields.iter().flat_map(Field::registers) {
        let mut words = image.words(register.function, register.address, register.kind.registers()).unwrap();
        if mix.reverse_words {
            words.reverse();
        }
        let words: Vec<_> = words.iter().map(|word| if mix.swap_bytes { word.swap_bytes() } else { *word }).collect();
        result.set(function(register.function), register.address + mix.shift, &words);
    }
    result
}

fn order(of: ByteOrder, mix: Mix) -> ByteOrder {
    use ByteOrder::{Big, ByteSwapped, Little, WordSwapped};
    let (words, bytes) = match of {
        Big => (false, false),
        WordSwapped => (true, false),
        ByteSwapped => (false, true),
        Little => (true, true),
    };
    match (words != mix.reverse_words, bytes != mix.swap_bytes) {
        (false, false) => Big,
        (true, false) => WordSwapped,
        (false, true) => ByteSwapped,
        (true, true) => Little,
    }
}

/// In one register only the order of the bytes shows.
const fn by_bytes(order: ByteOrder) -> ByteOrder {
    match order {
        ByteOrder::Big | ByteOrder::WordSwapped => ByteOrder::Big,
        ByteOrder::Little | ByteOrder::ByteSwapped => ByteOrder::ByteSwapped,
    }
}

const MIXES: [Mix; 6] = [
    PLAIN,
    Mix { swap_function: true, ..PLAIN },
    Mix { shift: 1, ..PLAIN },
    Mix { reverse_words: true, ..PLAIN },
    Mix { swap_bytes: true, ..PLAIN },
    Mix { swap_function: true, shift: 1, reverse_words: true, swap_bytes: true },
];

#[test]
fn hinted_values_are_found_however_the_registers_are_mixed() {
    for name in ["eastron-sdm630", "abb-b23", "carlo-gavazzi-em340", "chint-dtsu666", "siemens-pac2200", "orno-we-516"]
    {
        let (profile, image) = device(name);
        let held = Held::of(&image);
        for mix in MIXES {
            let image = mixed(&profile, &image, mix);
            let hinted: Vec<&Field> = profile
                .fields
                .iter()
                .filter(|field| ["voltage_l1_v", "energy_import_kwh", "frequency_hz"].contains(&field.channel.name()))
                .filter(|field| field.is_plain() && held.value(field).is_some_and(|value| value != 0))
                .collect();
            let shown = |field: &Field| decimal(held.value(field).unwrap(), field.channel.scale());
            let hints: Vec<_> = hinted
                .iter()
                .map(|field| value(field.channel.name(), &shown(field), Some(field.parts[0].register.address)))
                .collect();
            let found = candidates(&Evidence { first: &image, again: None, hints: &hints });
            for field in hinted {
                let best = found.iter().find(|one| one.field.channel == field.channel).unwrap();
                let (wanted, register) = (&field.parts[0].register, &best.field.parts[0].register);
                assert_eq!(best.value, shown(field), "{name} {mix:?}:\n{}", told(&found));
                // A small number is the same in the lower half of its registers, or without a sign.
                let wide = wanted.kind.registers() == 1 || register.kind.registers() == wanted.kind.registers();
                if wide {
                    assert_eq!(register.address, wanted.address + mix.shift, "{name} {mix:?}:\n{}", told(&found));
                    let found_order =
                        if register.kind.registers() == 1 { by_bytes(register.order) } else { register.order };
                    let meant = order(wanted.order, mix);
                    let meant = if register.kind.registers() == 1 { by_bytes(meant) } else { meant };
                    assert_eq!(found_order, meant, "{name} {mix:?}:\n{}", told(&found));
                }
                assert_eq!(register.kind.is_float(), wanted.kind.is_float(), "{name} {mix:?}:\n{}", told(&found));
                let function = if mix.swap_function { other(wanted.function) } else { wanted.function };
                assert_eq!(register.function, function, "{name} {mix:?}:\n{}", told(&found));
            }
        }
    }
}

#[test]
fn voltages_are_found_without_any_hint() {
    for mix in MIXES {
        let (profile, image) = device("eastron-sdm630");
        let image = mixed(&profile, &image, mix);
        let found = candidates(&Evidence { first: &image, again: None, hints: &[] });
        let best = |channel: &str| found.iter().find(|one| one.field.channel.name() == channel).unwrap();
        for (channel, address) in [("voltage_l1_v", 0), ("frequency_hz", 0x46)] {
            let register = &best(channel).field.parts[0].register;
            assert_eq!(
                (register.kind, register.address),
                (RegisterType::F32, address + mix.shift),
                "{mix:?}:\n{}",
                told(&found)
            );
            assert_eq!(register.order, order(ByteOrder::Big, mix), "{mix:?}:\n{}", told(&found));
        }
    }
}

#[test]
fn a_power_that_goes_with_three_phases_is_found() {
    let mut image = Image::new();
    // 230.1, 231.4 and 229.8 V; 4.321, 2.100 and 1.250 A; 950, 480 and 280 W; energy.
    image.set(
        Function::HoldingRegisters,
        100,
        &[2301, 2314, 2298, 0, 4321, 2100, 1250, 0, 950, 480, 280, 1710, 0, 5001],
    );
    let found = candidates(&Evidence { first: &image, again: None, hints: &[] });
    for (channel, address, value) in [
        ("voltage_l1_v", 100, "230.1"),
        ("current_l1_a", 104, "4.321"),
        ("power_l1_kw", 108, "0.950"),
        ("frequency_hz", 113, "50.01"),
    ] {
        let best = found.iter().find(|one| one.field.channel.name() == channel).unwrap();
        assert_eq!((best.field.parts[0].register.address, best.value.as_str()), (address, value), "{}", told(&found));
    }
    let power = found.iter().find(|one| one.field.channel.name() == "power_l1_kw").unwrap();
    assert!(power.reasons.iter().any(|reason| reason.contains("voltage times current")), "{power:#?}");
}

#[test]
fn a_candidate_is_a_field_of_a_profile() {
    let (_, image) = device("eastron-sdm630");
    let hints = [value("voltage_l1_v", "230", Some(1)), value("power_kw", "3.51", None)];
    let found = candidates(&Evidence { first: &image, again: None, hints: &hints });
    assert_eq!(
        found[0].toml,
        "[[field]]\nchannel = \"voltage_l1_v\"\nfunction = 4\naddress = 0x0000\ntype = \"f32\"\norder = \"big\"\nunit = \"V\"\nresolution = 0.1\n"
    );
    assert!(found[0].reasons.iter().any(|reason| reason.contains("counts from 1")), "{:?}", found[0].reasons);
    for one in &found {
        let head =
            "name = \"x\"\nversion = 1\nmaker = \"m\"\nmodel = \"m\"\nsource = \"s\"\ncommodity = \"electricity\"\n";
        let profile =
            DeviceProfile::parse(&format!("{head}{}", one.toml), "x").unwrap_or_else(|p| panic!("{p:?}\n{}", one.toml));
        assert_eq!(profile.fields[0], one.field);
    }
}

#[test]
fn a_counter_that_runs_backward_is_none() {
    let (mut first, mut again) = (Image::new(), Image::new());
    // The same number at two places; one of them runs.
    for (address, later) in [(0, 123_400_u32), (10, 123_460)] {
        let words = |number: u32| [u16::try_from(number >> 16).unwrap(), u16::try_from(number & 0xFFFF).unwrap()];
        first.set(Function::HoldingRegisters, address, &words(123_456));
        again.set(Function::HoldingRegisters, address, &words(later));
    }
    let hints = [value("energy_import_kwh", "1234.56", None)];
    let found = candidates(&Evidence { first: &first, again: Some(&again), hints: &hints });
    assert_eq!(found[0].field.parts[0].register.address, 10, "{}", told(&found));
    let backward = found.iter().find(|one| one.field.parts[0].register.address == 0).unwrap();
    assert!(backward.score + 40 < found[0].score && backward.reasons.iter().any(|r| r.contains("backward")));
}

#[test]
fn every_shipped_device_fits_its_own_profile_best() {
    let profiles = shipped();
    let (mut devices, mut alone, mut wrong) = (0, 0, Vec::new());
    for profile in &profiles {
        let (_, image) = device(&profile.name);
        let fits = fits(&Evidence { first: &image, again: None, hints: &[] }, &profiles);
        let own = fits.iter().find(|fit| fit.profile == profile.name).map_or(0, |fit| fit.score);
        let better: Vec<_> = fits.iter().filter(|fit| fit.score > own).map(|fit| (&fit.profile, fit.score)).collect();
        let equal = fits.iter().filter(|fit| fit.score == own).count();
        devices += 1;
        alone += u32::from(better.is_empty() && equal == 1);
        if !better.is_empty() {
            wrong.push(format!("{} ({own}): {better:?}", profile.name));
        }
        println!(
            "{}: {own}, {} better, {} as good; second {:?}",
            profile.name,
            better.len(),
            equal - 1,
            fits.get(1).map(|f| (&f.profile, f.score))
        );
    }
    println!("{alone} of {devices} alone at the top");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(alone * 10 >= devices * 7, "{alone} of {devices}");
}

#[test]
fn what_is_known_decides_between_profiles() {
    let (_, image) = device("eastron-sdm630");
    let right = [value("energy_import_kwh", "12345.678", None)];
    let wrong = [value("energy_import_kwh", "99.9", None)];
    let score = |hints: &[Hint]| {
        let fits =
            fits(&Evidence { first: &image, again: None, hints }, &[DeviceProfile::shipped("eastron-sdm630").unwrap()]);
        fits[0].score
    };
    assert!(score(&right) >= score(&[]) + 30 && score(&wrong) + 30 <= score(&[]));
    let (profile, image) = device("sunspec-meter");
    let fit = |hints: &[Hint]| {
        fits(&Evidence { first: &image, again: None, hints }, std::slice::from_ref(&profile))[0].clone()
    };
    let named = fit(&[Hint::Text("SN-00042".to_owned())]);
    assert_eq!(named.score, fit(&[]).score + 50, "{named:#?}");
}

#[test]
fn what_is_to_be_read_of_an_unknown_device_is_everything_once() {
    let requests = wanted(&shipped());
    assert!(requests.iter().all(|request| (1..=125).contains(&request.registers())));
    let mut sorted = requests.clone();
    sorted.dedup();
    assert_eq!(sorted, requests);
    println!("{} requests", requests.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_registers_make_it_panic(words in prop::collection::vec(any::<u16>(), 0..40), first: u16, about in -5000_i64..5000) {
        let mut image = Image::new();
        image.set(Function::HoldingRegisters, first, &words);
        let hints = [
            value("energy_import_kwh", &about.to_string(), None),
            value("power_kw", &about.to_string(), Some(first)),
            Hint::Text("x".to_owned()),
        ];
        let evidence = Evidence { first: &image, again: Some(&image), hints: &hints };
        let _ = candidates(&evidence);
        let _ = fits(&evidence, &shipped());
    }
}
