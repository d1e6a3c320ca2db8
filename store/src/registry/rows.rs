//! Between the registry's types and the rows of its tables.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use meterlake_model::registry::{
    Customer, Installation, InstallationChannel, Meter, NetworkNode, NodeKind, Registry, UsagePoint,
};
use meterlake_model::{
    Amount, Channel, Commodity, CustomerId, GatewayId, MeterId, NodeId, Timestamp, UsagePointId, Zone,
};

use crate::error::StoreError;
use crate::table::TableSpec;

/// Stands for a meter and a place whose row has not come.
const NOBODY: &str = "?";
/// The role of a meter beside another; null: its use counts.
const CHECK: &str = "check";

/// The rows of one table, in its order.
pub(crate) fn encode(spec: &TableSpec, registry: &Registry, revision: i64) -> Result<RecordBatch, StoreError> {
    let columns = match spec.name {
        "usage_points" => usage_points(registry),
        "meters" => meters(registry),
        "installations" => installations(registry),
        "installation_channels" => channels(registry),
        "customers" => customers(registry),
        _ => network(registry),
    };
    let rows = columns.first().map_or(0, |c| c.len());
    let revisions: ArrayRef = Arc::new(Int64Array::from(vec![revision; rows]));
    let columns = [revisions].into_iter().chain(columns).collect();
    RecordBatch::try_new(spec.schema.clone(), columns).map_err(|source| StoreError::arrow(spec.name, source))
}

fn usage_points(registry: &Registry) -> Vec<ArrayRef> {
    let all = || registry.usage_points.values();
    let voltages: Decimal128Array = all().map(|p| p.nominal_voltage_dv.map(i128::from)).collect();
    vec![
        texts(all().map(|p| Some(p.id.as_str()))),
        texts(all().map(|p| Some(p.commodity.as_str()))),
        texts(all().map(|p| Some(p.zone.name()))),
        texts(all().map(|p| p.customer_id.as_ref().map(CustomerId::as_str))),
        texts(all().map(|p| p.node_id.as_ref().map(NodeId::as_str))),
        texts(all().map(|p| Some(p.class.as_str()))),
        texts(all().map(|p| Some(p.place.as_str()))),
        Arc::new(Int32Array::from_iter_values(all().map(|p| i32::from(p.billing_day)))),
        Arc::new(all().map(|p| Some(p.active)).collect::<BooleanArray>()),
        Arc::new(all().map(|p| Some(p.continuous_use)).collect::<BooleanArray>()),
        decimal(&voltages, 9, 1),
        instants(all().map(|p| p.customer_since)),
        texts(all().map(|p| p.parent_id.as_ref().map(UsagePointId::as_str))),
    ]
}

fn meters(registry: &Registry) -> Vec<ArrayRef> {
    let all = || registry.meters.values();
    vec![
        texts(all().map(|m| Some(m.id.as_str()))),
        texts(all().map(|m| Some(m.commodity.as_str()))),
        texts(all().map(|m| m.serial.as_deref())),
        texts(all().map(|m| Some(m.model.as_str()))),
        texts(all().map(|m| m.gateway_id.as_ref().map(GatewayId::as_str))),
    ]
}

fn installations(registry: &Registry) -> Vec<ArrayRef> {
    let all = || registry.installations.iter();
    vec![
        Arc::new(Int32Array::from_iter_values((0_i32..).zip(all()).map(|(number, _)| number))),
        texts(all().map(|i| Some(i.meter_id.as_str()))),
        texts(all().map(|i| Some(i.usage_point_id.as_str()))),
        instants(all().map(|i| i.installed_at)),
        instants(all().map(|i| i.removed_at)),
        texts(all().map(|i| i.is_check.then_some(CHECK))),
    ]
}

fn channels(registry: &Registry) -> Vec<ArrayRef> {
    let all = || (0_i32..).zip(&registry.installations).flat_map(|(n, i)| i.channels.iter().map(move |c| (n, i, c)));
    let amounts = |of: &dyn Fn(&InstallationChannel) -> Option<i64>| {
        let values: Decimal128Array = all().map(|(_, _, c)| of(c).map(i128::from)).collect();
        decimal(&values, 18, 6)
    };
    vec![
        Arc::new(Int32Array::from_iter_values(all().map(|(number, _, _)| number))),
        texts(all().map(|(_, _, c)| Some(c.channel.name()))),
        texts(all().map(|(_, i, _)| Some(i.meter_id.as_str()))),
        amounts(&|c| Some(c.multiplier_micros)),
        Arc::new(all().map(|(_, _, c)| c.digits.map(i32::from)).collect::<Int32Array>()),
        amounts(&|c| Some(c.resolution.micros())),
        Arc::new(Int64Array::from_iter_values(all().map(|(_, _, c)| c.interval_s))),
        Arc::new(all().map(|(_, _, c)| Some(c.interval_assumed)).collect::<BooleanArray>()),
        amounts(&|c| c.capacity_per_hour.map(Amount::micros)),
        amounts(&|c| c.start_register.map(Amount::micros)),
        amounts(&|c| c.end_register.map(Amount::micros)),
    ]
}

fn customers(registry: &Registry) -> Vec<ArrayRef> {
    let all = || registry.customers.values();
    vec![texts(all().map(|c| Some(c.id.as_str()))), texts(all().map(|c| Some(c.name.as_str())))]
}

fn network(registry: &Registry) -> Vec<ArrayRef> {
    let all = || registry.network.values();
    vec![
        texts(all().map(|n| Some(n.id.as_str()))),
        texts(all().map(|n| Some(n.kind.as_str()))),
        texts(all().map(|n| n.parent_id.as_ref().map(NodeId::as_str))),
        texts(all().map(|n| Some(n.name.as_str()))),
    ]
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn instants(values: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let values: TimestampMicrosecondArray = values.map(|t| t.map(Timestamp::micros)).collect();
    Arc::new(values.with_timezone("UTC"))
}

fn decimal(values: &Decimal128Array, precision: u8, scale: i8) -> ArrayRef {
    Arc::new(values.clone().with_data_type(arrow::datatypes::DataType::Decimal128(precision, scale)))
}

/// Takes rows of one table, all of one revision, into the registry.
pub(crate) fn decode(spec: &TableSpec, batches: &[RecordBatch], registry: &mut Registry) -> Result<(), StoreError> {
    for batch in batches {
        for row in 0..batch.num_rows() {
            take(&Row { table: spec.name, batch, row }, registry)?;
        }
    }
    Ok(())
}

fn take(row: &Row<'_>, registry: &mut Registry) -> Result<(), StoreError> {
    match row.table {
        "usage_points" => {
            let point = row.usage_point()?;
            registry.usage_points.insert(point.id.clone(), point);
        }
        "meters" => {
            let meter = Meter {
                id: row.parsed("meter_id", MeterId::new)?,
                commodity: row.known("commodity", Commodity::parse)?,
                serial: row.maybe_text("serial").map(str::to_owned),
                model: row.text("model")?.to_owned(),
                gateway_id: row.maybe_parsed("gateway_id", GatewayId::new)?,
            };
            registry.meters.insert(meter.id.clone(), meter);
        }
        "installations" => {
            let number = usize::try_from(row.integer("installation")?).unwrap_or(usize::MAX);
            let place = slot(&mut registry.installations, number).ok_or_else(|| row.bad("installation"))?;
            place.meter_id = row.parsed("meter_id", MeterId::new)?;
            place.usage_point_id = row.parsed("usage_point_id", UsagePointId::new)?;
            place.installed_at = row.maybe_instant("installed_at");
            place.removed_at = row.maybe_instant("removed_at");
            // Rows of before the column was there are of meters that count.
            place.is_check = row.maybe_text("role") == Some(CHECK);
        }
        "installation_channels" => {
            let number = usize::try_from(row.integer("installation")?).unwrap_or(usize::MAX);
            let channel = row.installation_channel()?;
            let place = slot(&mut registry.installations, number).ok_or_else(|| row.bad("installation"))?;
            place.channels.push(channel);
        }
        "customers" => {
            let customer =
                Customer { id: row.parsed("customer_id", CustomerId::new)?, name: row.text("name")?.to_owned() };
            registry.customers.insert(customer.id.clone(), customer);
        }
        _ => {
            let node = NetworkNode {
                id: row.parsed("node_id", NodeId::new)?,
                kind: row.known("kind", NodeKind::parse)?,
                parent_id: row.maybe_parsed("parent_id", NodeId::new)?,
                name: row.text("name")?.to_owned(),
            };
            registry.network.insert(node.id.clone(), node);
        }
    }
    Ok(())
}

/// Numbers without a row are of installations that were erased.
pub(crate) fn leave_out_erased(registry: &mut Registry) {
    registry.installations.retain(|i| i.meter_id.as_str() != NOBODY);
}

/// The installation of a number; its channels may come before itself.
fn slot(installations: &mut Vec<Installation>, number: usize) -> Option<&mut Installation> {
    // Far more than any utility has: a number beyond is damage, not a reason to take all memory.
    if number >= 100_000_000 {
        return None;
    }
    while installations.len() <= number {
        let unknown = Installation {
            meter_id: MeterId::new(NOBODY).ok()?,
            usage_point_id: UsagePointId::new(NOBODY).ok()?,
            installed_at: None,
            removed_at: None,
            is_check: false,
            channels: Vec::new(),
        };
        installations.push(unknown);
    }
    installations.get_mut(number)
}

/// One row, read by column name.
struct Row<'a> {
    table: &'static str,
    batch: &'a RecordBatch,
    row: usize,
}

impl Row<'_> {
    fn usage_point(&self) -> Result<UsagePoint, StoreError> {
        Ok(UsagePoint {
            id: self.parsed("usage_point_id", UsagePointId::new)?,
            commodity: self.known("commodity", Commodity::parse)?,
            zone: self.parsed("zone", Zone::parse)?,
            customer_id: self.maybe_parsed("customer_id", CustomerId::new)?,
            node_id: self.maybe_parsed("node_id", NodeId::new)?,
            class: self.text("class")?.to_owned(),
            place: self.text("place")?.to_owned(),
            billing_day: u8::try_from(self.integer("billing_day")?).map_err(|_| self.bad("billing_day"))?,
            active: self.flag("active")?,
            continuous_use: self.flag("continuous_use")?,
            nominal_voltage_dv: self.maybe_decimal("nominal_voltage_v"),
            customer_since: self.maybe_instant("customer_since"),
            parent_id: self.maybe_parsed("parent_id", UsagePointId::new)?,
        })
    }

    fn installation_channel(&self) -> Result<InstallationChannel, StoreError> {
        let amount = |name| self.maybe_decimal(name).and_then(Amount::from_micros);
        Ok(InstallationChannel {
            channel: self.known("channel", Channel::by_name)?,
            multiplier_micros: self.maybe_decimal("multiplier").ok_or_else(|| self.bad("multiplier"))?,
            digits: match self.present("digits") {
                Some(_) => Some(u8::try_from(self.integer("digits")?).map_err(|_| self.bad("digits"))?),
                None => None,
            },
            resolution: amount("resolution").ok_or_else(|| self.bad("resolution"))?,
            interval_s: self.integer("interval_s")?,
            interval_assumed: self.flag("interval_assumed")?,
            capacity_per_hour: amount("capacity_per_hour"),
            start_register: amount("start_register"),
            end_register: amount("end_register"),
        })
    }

    /// The column, when it has a value in this row.
    fn present(&self, name: &str) -> Option<&ArrayRef> {
        self.batch.column_by_name(name).filter(|column| column.is_valid(self.row))
    }

    fn bad(&self, name: &str) -> StoreError {
        StoreError::foreign(self.table, format!("row {} has no usable {name}", self.row))
    }

    fn maybe_text(&self, name: &str) -> Option<&str> {
        self.present(name)?.as_string_opt::<i32>().map(|texts| texts.value(self.row))
    }

    fn text(&self, name: &str) -> Result<&str, StoreError> {
        self.maybe_text(name).ok_or_else(|| self.bad(name))
    }

    fn known<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(self.text(name)?).ok_or_else(|| self.bad(name))
    }

    fn parsed<T, E>(&self, name: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, StoreError> {
        parse(self.text(name)?).map_err(|_| self.bad(name))
    }

    fn maybe_parsed<T, E>(&self, name: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, StoreError> {
        self.maybe_text(name).map(|text| parse(text).map_err(|_| self.bad(name))).transpose()
    }

    fn integer(&self, name: &str) -> Result<i64, StoreError> {
        let column = self.present(name).ok_or_else(|| self.bad(name))?;
        let small = column.as_primitive_opt::<Int32Type>().map(|values| i64::from(values.value(self.row)));
        small
            .or_else(|| column.as_primitive_opt::<Int64Type>().map(|values| values.value(self.row)))
            .ok_or_else(|| self.bad(name))
    }

    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        let column = self.present(name).and_then(|column| column.as_boolean_opt());
        column.map(|values| values.value(self.row)).ok_or_else(|| self.bad(name))
    }

    fn maybe_decimal(&self, name: &str) -> Option<i64> {
        let values = self.present(name)?.as_primitive_opt::<Decimal128Type>()?;
        i64::try_from(values.value(self.row)).ok()
    }

    fn maybe_instant(&self, name: &str) -> Option<Timestamp> {
        let values = self.present(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        Timestamp::from_micros(values.value(self.row)).ok()
    }
}
