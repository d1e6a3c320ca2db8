//! Register bits against values worked out by hand, and against another way to compute them.

use super::*;
use meterlake_config::device_profile::Function;
use meterlake_model::parse_scaled_rounding;
use proptest::prelude::*;

fn field(channel: &str, kind: RegisterType, factor: &str, resolution: Option<&str>) -> Field {
    Field {
        channel: Channel::by_name(channel).unwrap(),
        function: Function::InputRegisters,
        address: 0,
        kind,
        order: ByteOrder::Big,
        unit: "test".to_owned(),
        factor: Factor::parse(factor).unwrap(),
        resolution: resolution.map(|step| Factor::parse(step).unwrap()),
        absent: Vec::new(),
    }
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
fn a_device_may_say_that_it_has_no_value() {
    let mut temperature = field("temperature_c", RegisterType::I16, "0.1", None);
    temperature.absent = vec![Absent::Bits(0x8000)];
    assert_eq!(value(&temperature, &[0x8000]), Ok(None));
    assert_eq!(value(&temperature, &[0x0080]), Ok(Some(128)));
    let mut factor = field("power_factor", RegisterType::F32, "1", Some("0.001"));
    factor.absent = vec![Absent::NotANumber];
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
    fn no_bits_make_it_panic(words in prop::collection::vec(any::<u16>(), 4), kind in 0_usize..10, mantissa in 1_i64..999_999_999_999, exponent in -18_i8..=18) {
        let kinds = [
            RegisterType::U16, RegisterType::I16, RegisterType::U32, RegisterType::I32, RegisterType::U64,
            RegisterType::I64, RegisterType::F32, RegisterType::F64, RegisterType::Bcd16, RegisterType::Bcd32,
        ];
        let kind = kinds[kind];
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
