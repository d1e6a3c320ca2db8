//! Directories built by hand. What the models' registers become is in the vector of `sunspec-meter`.

use super::*;
use crate::modbus::Image;
use meterlake_config::device_profile::RegisterRange;
use proptest::prelude::*;

fn profile() -> DeviceProfile {
    DeviceProfile::shipped("sunspec-meter").unwrap()
}

/// A directory at a base: models with their lengths, the end behind them.
fn directory(base: u16, models: &[(u16, u16)]) -> Image {
    let mut image = Image::new();
    let mut words = MARKER.to_vec();
    for &(number, length) in models {
        words.extend([number, length]);
        words.resize(words.len() + usize::from(length), 0);
    }
    words.extend([END, 0]);
    image.set(Function::HoldingRegisters, base, &words);
    image
}

/// Walks to the end; the requests that it took, and what came of it.
fn walked(image: &Image) -> (Vec<String>, Result<Found, String>) {
    let mut walk = Discovery::of(&profile()).unwrap();
    let mut asked = Vec::new();
    while let Some(request) = walk.next() {
        asked.push(request.to_string());
        walk.take(image.block(request).as_ref().map(|block| block.words.as_slice()));
    }
    (asked, walk.result().unwrap().map_err(str::to_owned))
}

#[test]
fn a_model_is_found_at_every_base_behind_models_that_nobody_knows() {
    for (base, tried) in [(40_000, 1), (50_000, 2), (0, 3)] {
        let (asked, found) = walked(&directory(base, &[(1, 66), (64_110, 0), (203, 105), (64_111, 7)]));
        let found = found.unwrap();
        assert_eq!(found, Found { model: 203, address: base + 72, common: Some(base + 2) }, "at {base}");
        assert_eq!(asked.len(), tried + 5, "the marker, four models, the end: {asked:?}");
    }
}

#[test]
fn the_nameplate_may_be_short_of_its_padding_or_missing() {
    for (models, common) in
        [(&[(1, 65), (213, 124)][..], Some(40_002)), (&[(1, 20), (213, 124)], None), (&[(213, 124)], None)]
    {
        let found = walked(&directory(40_000, models)).1.unwrap();
        assert_eq!((found.model, found.common), (213, common), "{models:?}");
    }
}

#[test]
fn of_several_models_the_first_of_the_profile_is_read() {
    let found = walked(&directory(40_000, &[(1, 66), (203, 105), (213, 124)])).1.unwrap();
    assert_eq!((found.model, found.address), (213, 40_000 + 2 + 68 + 107), "floats before integers");
    let twice = walked(&directory(40_000, &[(203, 105), (203, 105)])).1.unwrap();
    assert_eq!(twice.address, 40_002, "the first of two");
}

#[test]
fn what_is_no_directory_says_why() {
    let mut bare = directory(40_000, &[(1, 66)]);
    bare.set(Function::HoldingRegisters, 40_070, &[END, END]);
    let mut torn = Image::new();
    torn.set(Function::HoldingRegisters, 40_000, &[MARKER[0], MARKER[1], 1, 66]);
    let mut endless = Image::new();
    endless.set(Function::HoldingRegisters, 40_000, &MARKER);
    endless.set(Function::HoldingRegisters, 40_002, &[7, 0].repeat(1_000));
    let mut beyond = Image::new();
    beyond.set(Function::HoldingRegisters, 50_000, &[MARKER[0], MARKER[1], 1, 65_000]);
    for (image, why) in [
        (Image::new(), "no SunSpec marker at register 40000, 50000, 0"),
        (bare, "has none of the models 213, 203, 211, 201, 214, 204, 212, 202; it has 1"),
        (torn, "it has 1"),
        (endless, "it has 7, 7, 7"),
        (beyond, "it has 1"),
    ] {
        let (asked, found) = walked(&image);
        let found = found.unwrap_err();
        assert!(found.contains(why), "{found}");
        assert!(asked.len() <= MOST_MODELS + 3, "{} requests", asked.len());
    }
}

#[test]
fn a_located_profile_has_the_addresses_of_its_device() {
    let found = Found { model: 203, address: 40_070, common: Some(40_002) };
    let located = located(&profile(), found);
    assert_eq!(located.layout_found(), Some(found));
    let field = |channel: &str| located.fields.iter().find(|field| field.channel.name() == channel).unwrap();
    let addresses = |channel: &str| field(channel).registers().map(|register| register.address).collect::<Vec<_>>();
    assert_eq!(addresses("power_kw"), [40_088, 40_092]);
    assert_eq!(addresses("reactive_import_kvarh"), [40_142, 40_150, 40_174]);
    assert_eq!(located.fields.len(), 18);
    let serial = located.identify.serial.as_ref().unwrap();
    assert_eq!((serial.range(), serial.kind), (RegisterRange { first: 40_052, last: 40_067 }, RegisterType::Text(16)));
    assert_eq!(super::located(&located, found), located, "it stays where it is");
    assert_eq!(Discovery::of(&located).map(|_| ()), None);
}

proptest! {
    #[test]
    fn every_walk_ends(words in prop::collection::vec(any::<u16>(), 0..300), base in 0_usize..3) {
        let mut image = Image::new();
        image.set(Function::HoldingRegisters, [40_000, 50_000, 0][base], &MARKER);
        image.set(Function::HoldingRegisters, [40_002, 50_002, 2][base], &words);
        let (asked, _) = walked(&image);
        prop_assert!(asked.len() <= MOST_MODELS + 3);
    }
}
