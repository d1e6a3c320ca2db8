//! Register bits against values worked out by hand, and against another way to compute them.

use super::*;
use meterlake_config::device_profile::{
    Absent, BitRange, ByteOrder, FactorRegister, Function, Part, ScaleRegister, SignRegister,
};
use meterlake_model::Channel;
use meterlake_model::parse_scaled_rounding;
use proptest::prelude::*;

fn field(channel: &str, kind: RegisterType, factor: &str, resolution: Option<&str>) -> Field {
    Field {
        channel: Channel::by_name(channel).unwrap(),
        parts: vec![Part { register: register(0, kind), scale: Factor::ONE }],
        unit: "test".to_owned(),
        factor: Factor::parse(factor).unwrap(),
        resolution: resolution.map(|step| Factor::parse(step).unwrap()),
        scale_register: None,
        factor_registers: Vec::new(),
        sign: None,
        models: Vec::new(),
    }
}

fn register(address: u16, kind: RegisterType) -> Register {
    let (function, order) = (Function::InputRegisters, ByteOrder::Big);
    Register { function, address, kind, order, bits: None, absent: Vec::new() }
}

/// The value of a field in a device whose registers are these, from register 0 on.
fn value(field: &Field, device: &[u16]) -> Result<Option<i64>, NumberError> {
    super::value(field, |register| {
        let from = usize::from(register.address);
        device.get(from..from + usize::from(register.kind.registers()))
    })
}

#[test]
fn bytes_come_in_four_orders() {
    for (order, words) in [
        (ByteOrder::Big, [0x0A0B, 0x0C0D]),
        (ByteOrder::WordSwapped, [0x0C0D, 0x0A0B]),
        (ByteOrder::ByteSwapped, [0x0B0A, 0x0D0C]),
        (ByteOrder::Little, [0x0D0C, 0x0B0A]),
    ] {
        assert_eq!(bits(&words, RegisterType::U32, order), Ok(0x0A0B_0C0D), "{order:?}");
    }
    assert_eq!(bits(&[1, 2, 3, 4], RegisterType::U64, ByteOrder::WordSwapped), Ok(0x0004_0003_0002_0001));
    assert_eq!(bits(&[0x1234], RegisterType::U16, ByteOrder::Little), Ok(0x3412));
    assert_eq!(bits(&[1], RegisterType::U32, ByteOrder::Big), Err(NumberError::Width(1)));
}

#[test]
fn integers_become_columns_exactly() {
    use RegisterType::{Bcd16, Bcd32, I16, I32, I64, U16, U32, U64};
    for (channel, kind, factor, words, expected) in [
        ("volume_m3", U32, "0.001", &[0x0001, 0x86A0][..], Ok(100_000)),
        ("volume_m3", U32, "10", &[0, 7], Ok(70_000)),
        ("energy_import_kwh", U64, "0.001", &[0, 0, 0x0012, 0xD687], Ok(1_234_567)),
        ("energy_import_kwh", U32, "0.0001", &[0, 15], Err(NumberError::Inexact(15))),
        ("energy_import_kwh", U32, "0.0001", &[0, 10], Ok(1)),
        ("energy_import_kwh", U64, "1", &[0xFFFF; 4], Err(NumberError::Overflow)),
        ("temperature_c", I16, "0.1", &[0xFF85], Ok(-123)),
        ("temperature_c", I16, "0.01", &[0xFFE7], Ok(-2)),
        ("temperature_c", I16, "0.01", &[0xFFDD], Ok(-4)),
        ("power_kw", I32, "0.001", &[0xFFFF, 0xFC18], Ok(-1000)),
        ("power_kw", I64, "0.001", &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF], Ok(-1)),
        ("battery_v", U16, "0.001", &[3600], Ok(3600)),
        ("volume_m3", Bcd16, "1", &[0x1234], Ok(1_234_000)),
        ("volume_m3", Bcd32, "0.001", &[0x9999, 0x9999], Ok(99_999_999)),
        ("volume_m3", Bcd16, "1", &[0x12A4], Err(NumberError::NotDecimal(0x12A4))),
        ("voltage_l1_v", U16, "0.01", &[23_005], Ok(2300)),
        ("voltage_l1_v", U16, "0.01", &[23_015], Ok(2302)),
        ("power_factor", U16, "1", &[10], Err(NumberError::Overflow)),
    ] {
        let value = value(&field(channel, kind, factor, None), words);
        assert_eq!(value, expected.map(Some), "{channel} {kind:?} × {factor} of {words:04X?}");
    }
}

fn words_of(float: f32) -> [u16; 2] {
    let [a, b, c, d] = float.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

#[test]
fn floats_round_half_even_to_the_stated_step() {
    for (channel, factor, step, float, expected) in [
        ("voltage_l1_v", "1", "0.1", 230.04_f32, Ok(2300)),
        ("voltage_l1_v", "1", "0.1", 230.25, Ok(2302)),
        ("voltage_l1_v", "1", "0.1", 230.75, Ok(2308)),
        ("voltage_l1_v", "1", "0.5", 230.2, Ok(2300)),
        ("energy_import_kwh", "1", "0.001", 1234.567, Ok(1_234_567)),
        ("energy_import_kwh", "1", "0.01", 1234.567, Ok(1_234_570)),
        ("power_kw", "0.001", "0.001", -1234.5, Ok(-1234)),
        ("power_kw", "0.001", "0.001", -1235.5, Ok(-1236)),
        ("power_kw", "-0.001", "0.001", 3.0, Ok(-3)),
        ("power_factor", "1", "0.001", -0.0, Ok(0)),
        ("power_factor", "1", "0.001", f32::MIN_POSITIVE, Ok(0)),
        ("power_factor", "1", "0.001", f32::from_bits(1), Ok(0)),
        ("power_factor", "1", "0.001", f32::MAX, Err(NumberError::Overflow)),
        ("power_factor", "1", "0.001", f32::NAN, Err(NumberError::NotFinite)),
        ("power_factor", "1", "0.001", f32::NEG_INFINITY, Err(NumberError::NotFinite)),
    ] {
        let value = value(&field(channel, RegisterType::F32, factor, Some(step)), &words_of(float));
        assert_eq!(value, expected.map(Some), "{channel} {float} × {factor} to {step}");
    }
}

#[test]
fn double_precision_is_read_as_well() {
    let double = field("energy_import_kwh", RegisterType::F64, "1", Some("0.001"));
    let words = |float: f64| {
        let bits = float.to_bits();
        [bits >> 48, bits >> 32, bits >> 16, bits].map(|word| u16::try_from(word & 0xFFFF).unwrap())
    };
    assert_eq!(value(&double, &words(123_456_789.062_5)), Ok(Some(123_456_789_062)));
    assert_eq!(value(&double, &words(1e300)), Err(NumberError::Overflow));
    assert_eq!(value(&double, &words(1e-300)), Ok(Some(0)));
    assert_eq!(value(&double, &words(f64::from_bits(1))), Ok(Some(0)));
    assert_eq!(value(&double, &words(f64::INFINITY)), Err(NumberError::NotFinite));
}

#[test]
fn every_type_has_its_numbers() {
    use RegisterType::{Bcd48, Bcd64, I8High, I8Low, I48, M10k32, M10k48, M10k64, U8High, U8Low, U48};
    for (kind, words, expected) in [
        (U8High, &[0xFE01][..], Ok(254)),
        (U8Low, &[0xFE01], Ok(1)),
        (I8High, &[0xFE01], Ok(-2)),
        (I8Low, &[0x0180], Ok(-128)),
        (U48, &[0x0001, 0x0000, 0x0002], Ok(0x1_0000_0002)),
        (I48, &[0xFFFF, 0xFFFF, 0xFFFF], Ok(-1)),
        (Bcd48, &[0x0012, 0x3456, 0x7890], Ok(1_234_567_890)),
        (Bcd64, &[0x0000, 0x0012, 0x3456, 0x7890], Ok(1_234_567_890)),
        (M10k32, &[12, 3456], Ok(123_456)),
        (M10k48, &[1, 0, 9999], Ok(100_009_999)),
        (M10k64, &[0, 0, 0xFFFF, 0xFFFE], Ok(-10_002)),
        (M10k64, &[0, 0, 1, 0xFFFE], Err(NumberError::NotDigits(0x0000_0000_0001_FFFE))),
        (M10k32, &[10_000, 0], Err(NumberError::NotDigits(0x2710_0000))),
        (Bcd64, &[0, 0, 0, 0xA], Err(NumberError::NotDecimal(0xA))),
    ] {
        let value = value(&field("power_kw", kind, "0.001", None), words);
        let fits = |milli: i64| if milli.abs() < 1_000_000_000 { Ok(Some(milli)) } else { Err(NumberError::Overflow) };
        assert_eq!(value, expected.and_then(fits), "{kind:?} of {words:04X?}");
    }
}

#[test]
fn some_bits_of_an_integer_are_a_value() {
    for (kind, first, count, words, expected) in [
        (RegisterType::U16, 4, 8, &[0x1234][..], 0x23),
        (RegisterType::U16, 15, 1, &[0x8000], 1),
        (RegisterType::I16, 0, 4, &[0x0008], -8),
        (RegisterType::U32, 12, 12, &[0x0012, 0x3456], 0x123),
        (RegisterType::U64, 0, 64, &[0, 0, 0, 5], 5),
    ] {
        let mut field = field("power_kw", kind, "0.001", None);
        field.parts[0].register.bits = Some(BitRange { first, count });
        assert_eq!(value(&field, words), Ok(Some(expected)), "{count} bits of {kind:?} from {first}");
    }
}

fn scaled_by(meaning: ScaleMeaning) -> Field {
    let mut field = field("energy_import_kwh", RegisterType::U32, "0.001", None);
    let mut register = register(2, RegisterType::I16);
    register.absent.push(Absent::Bits(0x8000));
    field.scale_register = Some(ScaleRegister { register, meaning });
    field
}

#[test]
fn another_register_scales_a_value_exactly() {
    let exponent = scaled_by(ScaleMeaning::Exponent);
    let lookup = scaled_by(ScaleMeaning::Lookup(vec![(0, Factor::ONE), (3, Factor::parse("2.5").unwrap())]));
    for (field, device, expected) in [
        (&exponent, [0, 1234, 0], Ok(Some(1_234))),
        (&exponent, [0, 1234, 2], Ok(Some(123_400))),
        (&exponent, [0, 1230, 0xFFFF], Ok(Some(123))),
        (&exponent, [0, 1234, 0xFFFF], Err(NumberError::Inexact(1234))),
        (&exponent, [0, 1234, 0x8000], Ok(None)),
        (&exponent, [0, 1234, 11], Err(NumberError::Scale(11))),
        (&scaled_by(ScaleMeaning::Decimals), [0, 1230, 1], Ok(Some(123))),
        (&scaled_by(ScaleMeaning::Multiplier), [0, 1234, 40], Ok(Some(49_360))),
        (&lookup, [0, 1000, 3], Ok(Some(2_500))),
        (&lookup, [0, 1000, 1], Err(NumberError::Scale(1))),
    ] {
        assert_eq!(value(field, &device), expected, "{device:04X?}");
    }
    let mut float = field("power_kw", RegisterType::F32, "0.001", Some("0.001"));
    float.scale_register = exponent.scale_register;
    let [high, low] = words_of(230.5);
    assert_eq!(value(&float, &[high, low, 1]), Ok(Some(2_305)));
    assert_eq!(value(&float, &[high, low, 0xFFFF]), Ok(Some(23)));
}

#[test]
fn ratios_multiply_and_divide_exactly() {
    let ratio =
        |address, kind, divide| FactorRegister { register: register(address, kind), scale: Factor::ONE, divide };
    let mut field = field("energy_import_kwh", RegisterType::U16, "0.001", None);
    field.factor_registers = vec![ratio(1, RegisterType::U16, false), ratio(2, RegisterType::U16, true)];
    assert_eq!(value(&field, &[1000, 200, 5]), Ok(Some(40_000)));
    assert_eq!(value(&field, &[1000, 100, 3]), Err(NumberError::Inexact(1000)));
    assert_eq!(value(&field, &[900, 100, 3]), Ok(Some(30_000)));
    assert_eq!(value(&field, &[1000, 200, 0]), Err(NumberError::DividedByZero));
    field.resolution = Some(Factor::parse("0.01").unwrap());
    assert_eq!(value(&field, &[1000, 100, 3]), Ok(Some(33_330)), "to 0.01 kWh");
    field.resolution = None;
    field.factor_registers = vec![ratio(1, RegisterType::F32, false)];
    let [high, low] = words_of(0.1);
    assert_eq!(value(&field, &[1230, high, low]), Ok(Some(123)), "0.1 as it was meant");
}

#[test]
fn the_parts_of_a_value_are_added_up() {
    let mut split = field("energy_import_kwh", RegisterType::U32, "1", None);
    split.parts.push(Part { register: register(2, RegisterType::U16), scale: Factor::parse("0.001").unwrap() });
    assert_eq!(value(&split, &[1, 0, 999]), Ok(Some(65_536_999)));
    split.parts[1].scale = Factor::parse("0.0001").unwrap();
    assert_eq!(value(&split, &[0, 1, 9_990]), Ok(Some(1_999)));
    assert!(value(&split, &[0, 1, 9_999]).is_err());
    split.parts[1].register.absent = vec![Absent::Bits(0xFFFF)];
    assert_eq!(value(&split, &[0, 1, 0xFFFF]), Ok(None), "half a value is none");

    let mut mixed = field("volume_m3", RegisterType::I32, "1", Some("0.001"));
    mixed.parts.push(Part { register: register(2, RegisterType::F32), scale: Factor::ONE });
    let [high, low] = words_of(0.4567);
    assert_eq!(value(&mixed, &[0, 12, high, low]), Ok(Some(12_457)));
}

#[test]
fn another_register_gives_the_sign() {
    let mut power = field("power_kw", RegisterType::U16, "0.001", None);
    for (negative, said, expected) in [
        (Negative::Bit(3), 0b1000, -250),
        (Negative::Bit(3), 0b0111, 250),
        (Negative::Number(1), 1, -250),
        (Negative::Number(1), 3, 250),
    ] {
        power.sign = Some(SignRegister { register: register(1, RegisterType::U16), negative });
        assert_eq!(value(&power, &[250, said]), Ok(Some(expected)), "{negative:?} of {said}");
    }
}

#[test]
fn a_nameplate_is_read_as_text() {
    let text = |order| Register { order, ..register(0, RegisterType::Text(4)) };
    for (order, words, expected) in [
        (ByteOrder::Big, [0x5344, 0x4D36, 0x3330, 0x0000], Some("SDM630")),
        (ByteOrder::ByteSwapped, [0x4453, 0x364D, 0x3033, 0x2020], Some("SDM630")),
        (ByteOrder::WordSwapped, [0x0000, 0x3330, 0x4D36, 0x5344], Some("SDM630")),
        (ByteOrder::Little, [0x0000, 0x3033, 0x364D, 0x4453], Some("SDM630")),
        (ByteOrder::Big, [0x4100, 0x4242, 0x4242, 0x4242], Some("A")),
        (ByteOrder::Big, [0x41E9, 0xFFFF, 0xFFFF, 0xFFFF], Some("A?")),
        (ByteOrder::Big, [0x2020, 0, 0, 0], None),
    ] {
        assert_eq!(plate(&words, &text(order)).unwrap().as_deref(), expected, "{words:04X?}");
    }
    assert_eq!(plate(&[0x0001, 0xE240], &register(0, RegisterType::U32)).unwrap().as_deref(), Some("123456"));
    assert_eq!(plate(&[0x0012, 0x3456], &register(0, RegisterType::Bcd32)).unwrap().as_deref(), Some("123456"));
}

#[test]
fn a_device_may_say_that_it_has_no_value() {
    let mut temperature = field("temperature_c", RegisterType::I16, "0.1", None);
    temperature.parts[0].register.absent = vec![Absent::Bits(0x8000)];
    assert_eq!(value(&temperature, &[0x8000]), Ok(None));
    assert_eq!(value(&temperature, &[0x0080]), Ok(Some(128)));
    let mut factor = field("power_factor", RegisterType::F32, "1", Some("0.001"));
    factor.parts[0].register.absent = vec![Absent::NotANumber];
    assert_eq!(value(&factor, &words_of(f32::NAN)), Ok(None));
}

proptest! {
    /// The shortest text of a float's exact value, rounded as text, is the same number.
    #[test]
    fn floats_agree_with_their_exact_decimal_text(bits: u32, scale_is_kilo: bool) {
        let float = f32::from_bits(bits);
        prop_assume!(float.is_finite() && float.abs() < 9e8 && (float == 0.0 || float.abs() > 1e-12));
        let factor = if scale_is_kilo { "0.001" } else { "1" };
        let field = field("energy_import_kwh", RegisterType::F32, factor, Some("0.001"));
        // 48 decimals hold more of the value than a tie could hide in, and the parser takes 48 characters.
        let exact = format!("{:.30}", f64::from(float));
        let exact = &exact[..exact.len().min(46)];
        let text = if scale_is_kilo { format!("{exact}e-3") } else { exact.to_owned() };
        prop_assume!(text.len() <= 48);
        if let Ok(expected) = parse_scaled_rounding(&text, 3) {
            prop_assert_eq!(value(&field, &words_of(float)), Ok(Some(expected)));
        }
    }

    #[test]
    fn no_bits_make_it_panic(words in prop::collection::vec(any::<u16>(), 4), kind in 0_usize..21, mantissa in 1_i64..999_999_999_999, exponent in -18_i8..=18) {
        let kind = RegisterType::NUMBERS[kind].1;
        let mut field = field("energy_import_kwh", kind, "1", Some("0.001"));
        if let Some(factor) = Factor::new(mantissa, exponent) {
            field.factor = factor;
        }
        let _ = value(&field, &words[..usize::from(kind.registers())]);
    }

    #[test]
    fn a_larger_float_never_gives_a_smaller_register(a in 0_f32..1e8, b in 0_f32..1e8) {
        let field = field("energy_import_kwh", RegisterType::F32, "1", Some("0.001"));
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let read = |float| value(&field, &words_of(float)).unwrap();
        prop_assert!(read(low) <= read(high));
    }
}
