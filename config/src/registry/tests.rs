//! What is written is read back; what is left out has its default. Wrong files are in `tests/wrong-registries`.

use std::collections::BTreeMap;
use std::path::Path;

use meterlake_model::registry::{
    Customer, Installation, InstallationChannel, Meter, NetworkNode, NodeKind, Registry, UsagePoint,
};
use meterlake_model::{
    Amount, Channel, ChannelKind, Commodity, CustomerId, GatewayId, MeterId, NodeId, Timestamp, UsagePointId, Zone,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn write_files(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

const SMALLEST: [(&str, &str); 4] = [
    ("usage_points.csv", "usage_point_id,commodity,zone\nP1,electricity,Europe/Madrid\nP2,water,Europe/Madrid\n"),
    ("meters.csv", "meter_id,commodity\nE1,electricity\nW1,water\n"),
    ("installations.csv", "meter_id,usage_point_id\nE1,P1\nW1,P2\n"),
    ("installation_channels.csv", "meter_id,channel\nE1,energy_import_kwh\nW1,volume_m3\n"),
];

#[test]
fn empty_cells_have_the_documented_defaults() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &SMALLEST);
    let registry = read_dir(dir.path()).unwrap();

    let point = &registry.usage_points["P1"];
    assert_eq!((point.billing_day, point.active, point.continuous_use), (1, true, false));
    assert_eq!((point.customer_id.clone(), point.node_id.clone(), point.nominal_voltage_dv), (None, None, None));
    assert_eq!(registry.meters["E1"].gateway_id, None);
    for (installation, interval_s) in registry.installations.iter().zip([900, 3600]) {
        assert_eq!((installation.installed_at, installation.removed_at), (None, None));
        let [channel] = &installation.channels[..] else { panic!("one channel") };
        assert_eq!((channel.multiplier_micros, channel.digits), (1_000_000, None));
        assert_eq!((channel.interval_s, channel.interval_assumed), (interval_s, true));
        assert_eq!(channel.resolution, Amount::parse("0.001").unwrap());
        assert_eq!((channel.capacity_per_hour, channel.start_register, channel.end_register), (None, None, None));
    }
}

#[test]
fn an_exchange_is_one_installation_that_ends_where_another_begins() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &SMALLEST);
    write_files(
        dir.path(),
        &[
            ("meters.csv", "meter_id,commodity\nE1,electricity\nE2,electricity\nW1,water\n"),
            (
                "installations.csv",
                "meter_id,usage_point_id,installed_at,removed_at\nE1,P1,,2026-03-15 10:00\nE2,P1,2026-03-15T09:00:00Z,\n\
                 W1,P2,2020-01-01,\n",
            ),
            (
                "installation_channels.csv",
                "meter_id,channel,end_register,start_register\nE1,energy_import_kwh,1250,\nE2,energy_import_kwh,,3\n\
                 W1,volume_m3,,\n",
            ),
        ],
    );
    let registry = read_dir(dir.path()).unwrap();
    let point = UsagePointId::new("P1").unwrap();
    let [old, new] = registry.installations_of(&point)[..] else { panic!("two installations") };
    assert_eq!(old.removed_at, new.installed_at, "10:00 in Madrid is 09:00Z");
    assert_eq!(old.channels[0].end_register, Amount::parse("1250").ok());
    assert_eq!(new.channels[0].start_register, Amount::parse("3").ok());
}

#[test]
fn files_as_spreadsheets_save_them_are_read() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &SMALLEST);
    let saved = "\u{feff}meter_id,serial,commodity,gateway_id\r\n\"E1\", 0012 ,electricity, G-7\r\n\r\nW1,,water,\r\n";
    write_files(dir.path(), &[("meters.csv", saved)]);
    let registry = read_dir(dir.path()).unwrap();
    assert_eq!(registry.meters["E1"].serial.as_deref(), Some("0012"));
    let gateway = |meter: &str| registry.directory().get(meter).and_then(|entry| entry.gateway.clone());
    assert_eq!((gateway("E1").as_deref(), gateway("W1")), (Some("G-7"), None));
}

#[test]
fn a_million_problems_are_told_by_a_thousand_and_a_count() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &SMALLEST);
    let mut rows = "meter_id,commodity\nE1,electricity\nW1,water\n".to_owned();
    for i in 0..1500 {
        rows.push_str(&format!("M{i},gas\n"));
    }
    write_files(dir.path(), &[("meters.csv", &rows)]);
    let problems = read_dir(dir.path()).unwrap_err();
    assert_eq!(problems.len(), 1001);
    assert_eq!(problems[1000].message, "and 500 more problems");
}

fn text() -> impl Strategy<Value = String> {
    "([A-Za-zÀ-ÿ0-9,;\"'#]([A-Za-zÀ-ÿ0-9 ,;\"'#]{0,10}[A-Za-zÀ-ÿ0-9,;\"'#])?)?"
}

fn amount() -> impl Strategy<Value = Amount> {
    (1..1_000_000_000_000_i64).prop_map(|micros| Amount::from_micros(micros).unwrap())
}

prop_compose! {
    /// Registers keep three decimals and fit five digits.
    fn register()(thousandths in 0..99_999_999_i64) -> Amount {
        Amount::from_micros(thousandths * 1000).unwrap()
    }
}

prop_compose! {
    fn channel(channel: Channel)(
        multiplier_micros in 1..1_000_000_000_i64,
        digits in option::of(5_u8..=12),
        resolution in amount(),
        interval_s in option::of(1..86_400_i64),
        capacity_per_hour in option::of(amount()),
        start in option::of(register()),
        end in option::of(register()),
    ) -> InstallationChannel {
        let is_register = channel.kind() == ChannelKind::Register;
        InstallationChannel {
            channel,
            multiplier_micros,
            digits: digits.filter(|_| is_register),
            resolution,
            interval_s: interval_s.unwrap_or(if channel.commodity() == Commodity::Water { 3600 } else { 900 }),
            interval_assumed: interval_s.is_none(),
            capacity_per_hour,
            start_register: start.filter(|_| is_register),
            end_register: end.filter(|_| is_register),
        }
    }
}

fn channels(commodity: Commodity) -> impl Strategy<Value = Vec<InstallationChannel>> {
    let all: Vec<_> = Channel::of(commodity).filter(|c| c.kind() != ChannelKind::Physical).collect();
    let count = all.len();
    proptest::sample::subsequence(all, 1..=count)
        .prop_flat_map(|chosen| chosen.into_iter().map(channel).collect::<Vec<_>>())
}

/// Installations one after another at one usage point, each of its own meter, from seconds to years long.
fn installations(point: usize, commodity: Commodity) -> impl Strategy<Value = Vec<Installation>> {
    let one = (1..100_000_000_000_000_i64, 0..1_000_000_000_i64, any::<bool>(), channels(commodity));
    (vec(one, 0..4), any::<bool>(), any::<bool>()).prop_map(move |(parts, open_start, open_end)| {
        let mut at = Timestamp::parse_rfc3339("2001-02-03T04:05:06.000007Z").unwrap();
        let last = parts.len().saturating_sub(1);
        let mut hung = Vec::new();
        for (i, (length, pause, is_check, channels)) in parts.into_iter().enumerate() {
            let from = at.plus_micros(pause);
            at = from.plus_micros(length);
            hung.push(Installation {
                meter_id: MeterId::new(&format!("M-{point}-{i}")).unwrap(),
                usage_point_id: UsagePointId::new(&format!("P-{point}")).unwrap(),
                installed_at: (i > 0 || !open_start).then_some(from),
                removed_at: (i < last || !open_end).then_some(at),
                is_check,
                channels,
            });
        }
        hung
    })
}

prop_compose! {
    fn place(n: usize)(commodity in proptest::sample::select(&Commodity::ALL[..]))(
        commodity in Just(commodity),
        zone in proptest::sample::select(&["Europe/Madrid", "Asia/Shanghai", "UTC", "Australia/Lord_Howe"][..]),
        (class, place, serial, model) in (text(), text(), text(), text()),
        (has_customer, has_node, active, continuous_use) in any::<(bool, bool, bool, bool)>(),
        billing_day in 1_u8..=28,
        volts in option::of(1..10_000_000_i64),
        gateway in option::of(0..3_u8),
        installations in installations(n, commodity),
        since in option::of((0..4_000_000_000_000_000_i64).prop_map(|micros| Timestamp::from_micros(micros).unwrap())),
    ) -> (UsagePoint, Vec<Meter>, Vec<Installation>) {
        let node = if commodity == Commodity::Water { "dma" } else { "transformer" };
        let point = UsagePoint {
            id: UsagePointId::new(&format!("P-{n}")).unwrap(),
            commodity,
            zone: Zone::parse(zone).unwrap(),
            customer_id: has_customer.then(|| CustomerId::new("C 1, \"x\"").unwrap()),
            node_id: has_node.then(|| NodeId::new(node).unwrap()),
            class,
            place,
            billing_day,
            active,
            continuous_use,
            nominal_voltage_dv: volts.filter(|_| commodity == Commodity::Electricity),
            customer_since: since.filter(|_| has_customer),
            parent_id: None,
        };
        let serial = Some(serial).filter(|serial| !serial.is_empty());
        let meter = |i: &Installation| Meter {
            id: i.meter_id.clone(),
            commodity,
            serial: serial.clone(),
            model: model.clone(),
            gateway_id: gateway.map(|n| GatewayId::new(&format!("G-{n}")).unwrap()),
        };
        (point, installations.iter().map(meter).collect(), installations)
    }
}

prop_compose! {
    fn registry()(places in (place(0), place(1), place(2)), name in text(), with_books in any::<bool>()) -> Registry {
        let mut registry = Registry::default();
        for (point, meters, installations) in [places.0, places.1, places.2] {
            registry.usage_points.insert(point.id.clone(), point);
            registry.meters.extend(meters.into_iter().map(|meter| (meter.id.clone(), meter)));
            registry.installations.extend(installations);
        }
        if with_books {
            let id = CustomerId::new("C 1, \"x\"").unwrap();
            registry.customers = BTreeMap::from([(id.clone(), Customer { id, name: name.clone() })]);
            let node = |id: &str, kind, parent: Option<&str>| {
                let id = NodeId::new(id).unwrap();
                let parent_id = parent.map(|parent| NodeId::new(parent).unwrap());
                (id.clone(), NetworkNode { id, kind, parent_id, name: name.clone() })
            };
            registry.network = BTreeMap::from([
                node("feeder", NodeKind::Feeder, None),
                node("transformer", NodeKind::Transformer, Some("feeder")),
                node("dma", NodeKind::Dma, None),
            ]);
        }
        registry
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back_the_same(registry in registry()) {
        let dir = tempfile::tempdir().unwrap();
        write_dir(&registry, dir.path()).unwrap();
        match read_dir(dir.path()) {
            Ok(read) => prop_assert_eq!(read, registry),
            Err(problems) => prop_assert!(false, "{:#?}", problems),
        }
    }
}
