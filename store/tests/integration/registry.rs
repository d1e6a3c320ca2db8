//! The registry by revision: whole, pinned, and unchanged by a second import.

use std::sync::Arc;

use arrow::datatypes::Schema;
use meterlake_model::registry::{
    Customer, Installation, InstallationChannel, Meter, NetworkNode, NodeKind, Registry, UsagePoint,
};
use meterlake_model::{
    Amount, Channel, Commodity, CustomerId, GatewayId, MeterId, NodeId, Timestamp, UsagePointId, Zone,
};
use meterlake_store::{Imported, Lake};

use crate::faults::{Fault, Faulty, quick_lake};

fn registry(voltage: Option<i64>) -> Registry {
    let mut registry = Registry::default();
    let (point, meter) = (UsagePointId::new("up-1").unwrap(), MeterId::new("m1").unwrap());
    let (customer, node) = (CustomerId::new("c1").unwrap(), NodeId::new("t1").unwrap());
    registry.usage_points.insert(
        point.clone(),
        UsagePoint {
            id: point.clone(),
            commodity: Commodity::Electricity,
            zone: Zone::parse("Europe/Madrid").unwrap(),
            customer_id: Some(customer.clone()),
            node_id: Some(node.clone()),
            class: "residential".into(),
            place: "Calle 1, 2º".into(),
            billing_day: 28,
            active: true,
            continuous_use: false,
            nominal_voltage_dv: voltage,
            customer_since: None,
            parent_id: None,
        },
    );
    let made = Meter {
        id: meter.clone(),
        commodity: Commodity::Electricity,
        serial: None,
        model: "X".into(),
        gateway_id: GatewayId::new("G-7").ok(),
    };
    registry.meters.insert(meter.clone(), made);
    registry.customers.insert(customer.clone(), Customer { id: customer, name: "Ana".into() });
    let parent_id = Some(NodeId::new("f1").unwrap());
    registry
        .network
        .insert(node.clone(), NetworkNode { id: node, kind: NodeKind::Transformer, parent_id, name: "T".into() });
    let channel = InstallationChannel {
        channel: Channel::by_name("energy_import_kwh").unwrap(),
        multiplier_micros: 40_000_000,
        digits: Some(6),
        resolution: Amount::parse("0.001").unwrap(),
        interval_s: 900,
        interval_assumed: true,
        capacity_per_hour: Amount::from_micros(1),
        start_register: None,
        end_register: Some(Amount::parse("999999.999").unwrap()),
    };
    let exchange = Timestamp::parse_rfc3339("2026-03-29T01:00:00Z").unwrap();
    for (from, to, channels) in
        [(None, Some(exchange), vec![channel.clone()]), (Some(exchange), None, vec![channel.clone(), channel])]
    {
        registry.installations.push(Installation {
            meter_id: meter.clone(),
            usage_point_id: point.clone(),
            installed_at: from,
            removed_at: to,
            is_check: false,
            channels,
        });
    }
    registry
}

fn at(revision: i64, registry: Registry) -> Registry {
    Registry { revision, ..registry }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_import_of_the_same_changes_nothing_and_an_older_revision_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path()).unwrap();
    assert_eq!(lake.read_registry(None).await.unwrap(), Registry::default());
    let first = registry(Some(2300));
    assert_eq!(lake.write_registry(&first).await.unwrap(), Imported { revision: 1, changed: true });
    assert_eq!(lake.write_registry(&first).await.unwrap(), Imported { revision: 1, changed: false });
    let second = registry(None);
    assert_eq!(lake.write_registry(&second).await.unwrap(), Imported { revision: 2, changed: true });
    let fresh = Lake::open(dir.path()).unwrap();
    assert_eq!(fresh.read_registry(None).await.unwrap(), at(2, second));
    assert_eq!(fresh.read_registry(Some(1)).await.unwrap(), at(1, first));
    let refusal = fresh.read_registry(Some(3)).await.unwrap_err();
    assert!(refusal.to_string().contains("the newest is 2"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_half_way_leaves_the_registry_as_it_was() {
    for fault in [Fault::Before, Fault::After] {
        for call in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let lake = quick_lake(dir.path());
            lake.write_registry(&registry(Some(2300))).await.unwrap();
            let store = Faulty::new(call, fault);
            let failing = Lake::open_with(dir.path(), store.clone()).unwrap();
            let outcome = failing.write_registry(&registry(None)).await;
            let found = lake.read_registry(None).await.unwrap();
            if outcome.is_ok() {
                assert_eq!(at(0, found), registry(None));
            } else {
                assert_eq!(found, at(1, registry(Some(2300))), "call {call} {fault:?}");
            }
            let again = lake.write_registry(&registry(None)).await.unwrap();
            assert_eq!(lake.read_registry(None).await.unwrap(), at(again.revision, registry(None)));
            if !store.struck() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_of_an_older_program_that_knew_no_gateway_gain_the_column() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path()).unwrap();
    let mut older = meterlake_store::registry::meters();
    let fields: Vec<_> = older.schema.fields().iter().filter(|f| f.name() != "gateway_id").cloned().collect();
    older.schema = Arc::new(Schema::new(fields));
    lake.ensure(&older).await.unwrap();
    let written = lake.write_registry(&registry(None)).await.unwrap();
    assert_eq!(lake.read_registry(None).await.unwrap(), at(written.revision, registry(None)));
    let found = lake.snapshot("meters").await.unwrap();
    assert_eq!(found.schema.fields().last().unwrap().name(), "gateway_id");
}
