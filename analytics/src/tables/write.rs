//! Rows as columns: what jobs hand to the store. Partition columns are left out where the partition is named apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Decimal128Builder, Float64Array, Float64Builder, Int32Array,
    Int64Array, ListBuilder, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use meterlake_model::{Amount, Channel, CivilDay, Timestamp, month_key};
use meterlake_store::TableSpec;
use meterlake_store::schema::MONTH;
use serde_json::json;

use super::AMOUNT;
use crate::alerts::life::PersonStep;
use crate::alerts::{Alert, EvidenceRow};
use crate::billing::{BoundaryRead, CyclePart, ReadState, Reason};
use crate::checks::Found;
use crate::completeness::cause::Evidence;
use crate::completeness::{MeterDay, clock};
use crate::determinants::{Figure, Note};
use crate::jobs::billing::{ReadRow, RunTotals};
use crate::jobs::determinants::FigureRow;
use crate::jobs::profiles::{ProfileRow, period_key};
use crate::ledger::Bill;
use crate::profiles::KeyFigures;
use crate::runs::Unmet;

/// Columns of one batch by name, in any order; [`Columns::batch`] brings them into the table's.
#[derive(Default)]
pub(crate) struct Columns(Vec<(&'static str, ArrayRef)>);

impl Columns {
    pub(crate) fn text<T: AsRef<str>>(&mut self, name: &'static str, values: impl Iterator<Item = T>) {
        let values: StringArray = values.map(Some).collect();
        self.0.push((name, Arc::new(values)));
    }

    pub(crate) fn maybe_text<T: AsRef<str>>(&mut self, name: &'static str, values: impl Iterator<Item = Option<T>>) {
        let values: StringArray = values.collect();
        self.0.push((name, Arc::new(values)));
    }

    pub(crate) fn time(&mut self, name: &'static str, values: impl Iterator<Item = Option<Timestamp>>) {
        let values: TimestampMicrosecondArray = values.map(|t| t.map(Timestamp::micros)).collect();
        self.0.push((name, Arc::new(values.with_timezone("UTC"))));
    }

    pub(crate) fn day(&mut self, name: &'static str, values: impl Iterator<Item = CivilDay>) {
        let values: Date32Array = values.map(|d| Some(days_since_1970(d))).collect();
        self.0.push((name, Arc::new(values)));
    }

    pub(crate) fn amount(&mut self, name: &'static str, values: impl Iterator<Item = Option<Amount>>) {
        let values: Decimal128Array = values.map(|a| a.map(|a| i128::from(a.micros()))).collect();
        self.0.push((name, Arc::new(values.with_data_type(AMOUNT))));
    }

    pub(crate) fn int(&mut self, name: &'static str, values: impl Iterator<Item = Option<i32>>) {
        self.0.push((name, Arc::new(values.collect::<Int32Array>())));
    }

    pub(crate) fn flag(&mut self, name: &'static str, values: impl Iterator<Item = bool>) {
        self.0.push((name, Arc::new(values.map(Some).collect::<BooleanArray>())));
    }

    pub(crate) fn long(&mut self, name: &'static str, values: impl Iterator<Item = i64>) {
        self.0.push((name, Arc::new(values.collect::<Int64Array>())));
    }

    pub(crate) fn maybe_long(&mut self, name: &'static str, values: impl Iterator<Item = Option<i64>>) {
        self.0.push((name, Arc::new(values.collect::<Int64Array>())));
    }

    pub(crate) fn maybe_day(&mut self, name: &'static str, values: impl Iterator<Item = Option<CivilDay>>) {
        let values: Date32Array = values.map(|d| d.map(days_since_1970)).collect();
        self.0.push((name, Arc::new(values)));
    }

    pub(crate) fn figure(&mut self, name: &'static str, values: impl Iterator<Item = Option<f64>>) {
        self.0.push((name, Arc::new(values.collect::<Float64Array>())));
    }

    pub(crate) fn figures<T>(&mut self, name: &'static str, rows: impl Iterator<Item = T>)
    where
        T: IntoIterator<Item = Option<f64>>,
    {
        let mut list = ListBuilder::new(Float64Builder::new()).with_field(element(arrow::datatypes::DataType::Float64));
        for row in rows {
            row.into_iter().for_each(|value| list.values().append_option(value));
            list.append(true);
        }
        self.0.push((name, Arc::new(list.finish())));
    }

    pub(crate) fn amounts<'a>(&mut self, name: &'static str, rows: impl Iterator<Item = &'a [Option<Amount>]>) {
        let mut list = ListBuilder::new(Decimal128Builder::new().with_data_type(AMOUNT)).with_field(element(AMOUNT));
        for row in rows {
            row.iter().for_each(|value| list.values().append_option(value.map(|a| i128::from(a.micros()))));
            list.append(true);
        }
        self.0.push((name, Arc::new(list.finish())));
    }

    /// The batch with exactly these columns.
    pub(crate) fn of(mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::with_capacity(self.0.len());
        for field in schema.fields() {
            let at = self.0.iter().position(|(name, _)| name == field.name());
            let at = at.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {}", field.name())))?;
            columns.push(self.0.swap_remove(at).1);
        }
        RecordBatch::try_new(schema.clone(), columns)
    }

    /// The batch with the table's columns in their order; those of the partition only where they were given.
    pub(crate) fn batch(mut self, spec: &TableSpec) -> Result<RecordBatch, ArrowError> {
        let mut fields = Vec::with_capacity(self.0.len());
        let mut columns = Vec::with_capacity(self.0.len());
        for field in spec.schema.fields() {
            match self.0.iter().position(|(name, _)| name == field.name()) {
                Some(at) => {
                    fields.push(field.clone());
                    columns.push(self.0.swap_remove(at).1);
                }
                None if spec.partition_by.contains(&field.name().as_str()) => {}
                None => {
                    let text = format!("table {} lacks its column {}", spec.name, field.name());
                    return Err(ArrowError::SchemaError(text));
                }
            }
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }
}

fn element(item: arrow::datatypes::DataType) -> Field {
    Field::new("element", item, true)
}

/// Days since 1970-01-01.
pub(crate) fn days_since_1970(day: CivilDay) -> i32 {
    CivilDay::new(1970, 1, 1).map_or(0, |epoch| day.days_since(epoch))
}

type Rows = Result<RecordBatch, ArrowError>;

/// Rows of `check_findings`.
pub(crate) fn check_findings(rows: &[Found]) -> Rows {
    let mut c = Columns::default();
    c.text("usage_point_id", rows.iter().map(|f| &f.usage_point_id));
    c.text("channel", rows.iter().map(|f| &f.channel));
    c.time("start", rows.iter().map(|f| Some(f.start)));
    c.time("end", rows.iter().map(|f| Some(f.end)));
    c.text("rule", rows.iter().map(|f| &f.rule));
    c.text("severity", rows.iter().map(|f| f.severity.as_str()));
    c.text("on_fail", rows.iter().map(|f| f.on_fail.as_str()));
    c.amount("measured", rows.iter().map(|f| f.measured));
    c.amount("reference", rows.iter().map(|f| f.reference));
    c.amount("limit", rows.iter().map(|f| f.limit));
    c.text("meter_id", rows.iter().map(|f| &f.meter_id));
    c.text("evidence", rows.iter().map(|f| &f.evidence));
    c.batch(&super::check_findings())
}

/// Rows of `alerts`.
pub(crate) fn alerts(rows: &[&Alert]) -> Rows {
    let episodes = || rows.iter().map(|a| &a.episode);
    let mut c = Columns::default();
    c.text("id", rows.iter().map(|a| &a.id));
    c.text("rule", episodes().map(|e| e.rule.as_str()));
    c.text("severity", episodes().map(|e| e.severity.as_str()));
    c.text("state", rows.iter().map(|a| a.machine_state().as_str()));
    c.text("commodity", episodes().map(|e| e.rule.commodity().as_str()));
    c.maybe_text("usage_point_id", rows.iter().map(|a| a.usage_point_id.as_ref().map(|p| p.as_str())));
    c.maybe_text("meter_id", rows.iter().map(|a| a.meter_id.as_ref().map(|m| m.as_str())));
    c.maybe_text("node_id", rows.iter().map(|a| a.node_id.as_ref().map(|n| n.as_str())));
    c.text("place", rows.iter().map(|a| &a.place));
    c.maybe_text("group_id", rows.iter().map(|a| a.group_id.as_ref()));
    c.time("start", episodes().map(|e| Some(e.start)));
    c.time("opened_at", episodes().map(|e| Some(e.steps.first().map_or(e.start, |s| s.at))));
    c.time("last_seen", episodes().map(|e| Some(e.last_seen)));
    c.time("end", episodes().map(|e| e.end));
    c.amount("measured", episodes().map(|e| Some(e.measured)));
    c.amount("limit", episodes().map(|e| Some(e.limit)));
    c.text("unit", episodes().map(|e| e.rule.unit()));
    c.amount("loss_m3", episodes().map(|e| e.loss_m3));
    c.int("occurrences", episodes().map(|e| Some(i32::try_from(e.occurrences).unwrap_or(i32::MAX))));
    c.text("summary", rows.iter().map(|a| a.summary()));
    c.text("evidence", episodes().map(|e| evidence(&e.evidence)));
    c.batch(&super::alerts())
}

/// Evidence rows as a JSON list.
fn evidence(rows: &[EvidenceRow]) -> String {
    let row = |r: &EvidenceRow| json!({"ts": r.ts.to_string(), "value": r.value.to_string(), "what": r.what});
    serde_json::Value::Array(rows.iter().map(row).collect()).to_string()
}

/// The machine's rows of `alert_events`.
pub(crate) fn machine_steps(rows: &[&Alert]) -> Rows {
    let steps = || rows.iter().flat_map(|a| a.episode.steps.iter().map(move |s| (&a.id, s)));
    let mut c = Columns::default();
    c.text("alert_id", steps().map(|(id, _)| id));
    c.time("ts", steps().map(|(_, s)| Some(s.at)));
    c.text("step", steps().map(|(_, s)| s.kind.as_str()));
    c.maybe_text("severity", steps().map(|(_, s)| Some(s.severity.as_str())));
    c.maybe_text("person", steps().map(|_| None::<&str>));
    c.maybe_text("note", steps().map(|_| None::<&str>));
    c.batch(&super::alert_events())
}

/// People's rows of `alert_events`, with their partition.
pub(crate) fn person_steps(steps: &[PersonStep]) -> Rows {
    let mut c = Columns::default();
    c.text("alert_id", steps.iter().map(|s| &s.alert_id));
    c.time("ts", steps.iter().map(|s| Some(s.at)));
    c.text("step", steps.iter().map(|s| s.action.as_str()));
    c.maybe_text("severity", steps.iter().map(|_| None::<&str>));
    c.maybe_text("person", steps.iter().map(|s| Some(&s.person)));
    c.maybe_text("note", steps.iter().map(|s| Some(s.action.note()).filter(|n| !n.is_empty())));
    c.text(super::ORIGIN, steps.iter().map(|_| "person"));
    c.text(MONTH, steps.iter().map(|s| month_key(s.at)));
    c.batch(&super::alert_events())
}

/// Rows of `profiles`.
pub(crate) fn profiles(rows: &[ProfileRow]) -> Rows {
    let figure =
        |get: fn(&KeyFigures) -> Option<f64>| rows.iter().map(move |r| r.profile.figures.as_ref().and_then(get));
    let mut c = Columns::default();
    c.text("usage_point_id", rows.iter().map(|r| r.usage_point_id.as_str()));
    c.text("channel", rows.iter().map(|r| r.channel.name()));
    c.text("period", rows.iter().map(|r| period_key(r.period)));
    c.text("class", rows.iter().map(|r| &r.class));
    c.int("days", rows.iter().map(|r| i32::try_from(r.profile.daily.len()).ok().or(Some(i32::MAX))));
    c.int("complete_days", rows.iter().map(|r| i32::try_from(r.profile.complete_days()).ok().or(Some(i32::MAX))));
    c.figure("daily_use", figure(|f| Some(f.daily_use)));
    c.figure("night_share", figure(|f| f.night_share));
    c.figure("evening_share", figure(|f| f.evening_share));
    c.figure("midday_share", figure(|f| f.midday_share));
    c.figure("p5", figure(|f| Some(f.p5)));
    c.figure("p50", figure(|f| Some(f.p50)));
    c.figure("p95", figure(|f| Some(f.p95)));
    c.figure("peak", figure(|f| Some(f.peak)));
    c.figure("base_load", figure(|f| Some(f.base_load)));
    c.figure("load_factor", figure(|f| f.load_factor));
    c.figure("weekday_to_weekend", figure(|f| f.weekday_to_weekend));
    c.figure("peak_to_valley", figure(|f| f.peak_to_valley));
    c.int("rank_in_class", rows.iter().map(|r| r.rank.map(|(rank, _)| rank)));
    c.int("class_size", rows.iter().map(|r| r.rank.map(|(_, size)| size)));
    c.figures("shape_workday", rows.iter().map(|r| r.profile.shapes[0]));
    c.figures("shape_saturday", rows.iter().map(|r| r.profile.shapes[1]));
    c.figures("shape_sunday", rows.iter().map(|r| r.profile.shapes[2]));
    c.amounts("daily", rows.iter().map(|r| r.profile.daily.as_slice()));
    c.batch(&super::profiles())
}

/// Rows of `billing_reads`.
pub(crate) fn billing_reads(rows: &[ReadRow<'_>]) -> Rows {
    let reads = || rows.iter().map(|r| &r.read);
    let start = |get: fn(&BoundaryRead) -> String| reads().map(move |r| r.start_read.as_ref().map(get));
    let end = |get: fn(&BoundaryRead) -> String| reads().map(move |r| r.end_read.as_ref().map(get));
    let mut c = Columns::default();
    c.text("run", rows.iter().map(|r| &r.run));
    c.text("usage_point_id", rows.iter().map(|r| r.point.id.as_str()));
    c.text("channel", rows.iter().map(|r| r.channel.name()));
    c.maybe_text("customer_id", rows.iter().map(|r| r.point.customer_id.as_ref().map(|id| id.as_str())));
    c.day("first_day", rows.iter().map(|r| r.first_day));
    c.day("last_day", rows.iter().map(|r| r.end_day.plus_days(-1)));
    c.time("start", reads().map(|r| Some(r.start)));
    c.time("end", reads().map(|r| Some(r.end)));
    c.time("start_read_at", reads().map(|r| r.start_read.as_ref().map(|b| b.ts)));
    c.amount("start_register", reads().map(|r| r.start_read.as_ref().and_then(|b| b.register)));
    c.maybe_text("start_quality", start(|b| b.quality.to_string()));
    c.time("end_read_at", reads().map(|r| r.end_read.as_ref().map(|b| b.ts)));
    c.amount("end_register", reads().map(|r| r.end_read.as_ref().and_then(|b| b.register)));
    c.maybe_text("end_quality", end(|b| b.quality.to_string()));
    c.amount("use_amount", reads().map(|r| r.use_amount));
    c.amount("estimated", reads().map(|r| Some(r.estimated)));
    c.long("estimated_share_ppm", reads().map(|r| r.estimated_share_ppm));
    c.long("covered_s", reads().map(|r| r.covered_s));
    c.int("days", reads().map(|r| Some(r.days)));
    c.int("days_covered", reads().map(|r| Some(r.days_covered)));
    c.text(
        "state",
        reads().map(|r| match r.state {
            ReadState::Ready => "ready",
            ReadState::Held => "held",
        }),
    );
    c.text("reasons", reads().map(|r| reasons(&r.reasons)));
    c.text("parts", reads().map(|r| parts(&r.parts)));
    c.maybe_text("facts", rows.iter().map(|r| Some(facts(&r.bill))));
    c.maybe_text("basis", rows.iter().map(|r| Some(&r.bill.basis)));
    c.maybe_text("end_evidence", rows.iter().map(|r| Some(&r.bill.end_evidence)));
    c.maybe_text("context", rows.iter().map(|r| Some(r.context.to_line())));
    c.batch(&super::billing_reads())
}

/// What the gates look at, as a JSON object. The day that was asked for is not in it.
fn facts(bill: &Bill) -> String {
    let f = &bill.facts;
    let unmet = |list: &[Unmet]| -> Vec<_> {
        list.iter().map(|u| json!({"code": u.code, "subject": u.subject, "detail": u.detail})).collect()
    };
    let contested: Vec<_> = bill
        .contested
        .iter()
        .map(|c| json!({"edit": c.id, "edited": c.edited.to_string(), "read": c.read.to_string()}))
        .collect();
    let pinned: Vec<_> = bill.pinned.iter().map(ToString::to_string).collect();
    json!({"start_off_s": f.start_off_s, "end_off_s": f.end_off_s, "estimated_ppm": f.estimated_ppm,
        "unscaled": f.unscaled, "last_actual": f.last_actual.map(|d| d.to_string()),
        "estimated_before": f.estimated_before, "missing": unmet(&f.missing), "stops": unmet(&f.stops),
        "contested": contested, "pinned": pinned})
    .to_string()
}

/// Reasons as a JSON list.
fn reasons(reasons: &[Reason]) -> String {
    let reason = |r: &Reason| {
        json!({"code": r.code, "holds": r.holds, "start": r.start.to_string(), "end": r.end.to_string(),
            "detail": r.detail})
    };
    serde_json::Value::Array(reasons.iter().map(reason).collect()).to_string()
}

/// The share of each installation as a JSON list.
fn parts(parts: &[CyclePart]) -> String {
    let read = |b: &BoundaryRead| {
        let register = b.register.map(|r| r.to_string());
        json!({"ts": b.ts.to_string(), "register": register, "quality": b.quality.as_str()})
    };
    let part = |p: &CyclePart| {
        json!({"meter_id": p.meter_id.as_str(), "start": read(&p.start), "end": read(&p.end),
            "use_amount": p.use_amount.to_string()})
    };
    serde_json::Value::Array(parts.iter().map(part).collect()).to_string()
}

/// Rows of `billing_determinants`.
pub(crate) fn billing_determinants(rows: &[FigureRow<'_>]) -> Rows {
    let figures = || rows.iter().map(|r| &r.figure);
    let mut c = Columns::default();
    c.text("usage_point_id", rows.iter().map(|r| r.point));
    c.text("determinant", rows.iter().map(|r| &r.determinant.id));
    c.text("part", figures().map(|f| &f.part));
    c.text("kind", rows.iter().map(|r| r.determinant.kind.as_str()));
    c.day("first_day", rows.iter().map(|r| r.first_day));
    c.day("last_day", rows.iter().map(|r| r.end_day.plus_days(-1)));
    c.time("start", rows.iter().map(|r| Some(r.start)));
    c.time("end", rows.iter().map(|r| Some(r.end)));
    c.amount("value", figures().map(|f| f.value));
    c.text("unit", figures().map(|f| &f.unit));
    c.text("quality", figures().map(|f| f.quality.as_str()));
    c.long("estimated_share_ppm", figures().map(|f| f.estimated_ppm));
    c.time("at_start", figures().map(|f| f.at.map(|(start, _)| start)));
    c.time("at_end", figures().map(|f| f.at.map(|(_, end)| end)));
    c.flag("held", figures().map(Figure::holds));
    c.text("notes", figures().map(|f| notes(&f.notes)));
    c.batch(&super::billing_determinants())
}

/// Notes as a JSON list.
fn notes(notes: &[Note]) -> String {
    let note = |n: &Note| json!({"code": n.code, "holds": n.holds, "detail": n.detail});
    serde_json::Value::Array(notes.iter().map(note).collect()).to_string()
}

/// Rows of `billing_runs`.
pub(crate) fn billing_runs(run: &str, totals: &BTreeMap<Channel, RunTotals>) -> Rows {
    let mut c = Columns::default();
    c.text("run", totals.keys().map(|_| run));
    c.text("channel", totals.keys().map(|c| c.name()));
    c.long("reads", totals.values().map(|t| t.reads));
    c.long("ready", totals.values().map(|t| t.ready));
    c.long("held", totals.values().map(|t| t.held));
    c.amount("use_amount", totals.values().map(|t| Some(t.use_amount)));
    c.amount("estimated", totals.values().map(|t| Some(t.estimated)));
    c.batch(&super::billing_runs())
}

/// Rows of `completeness`.
pub(crate) fn completeness(days: &[MeterDay], evidence: &Evidence) -> Rows {
    let counts = || days.iter().map(|d| &d.count);
    let source = |d: &MeterDay| d.source.and_then(|source| evidence.sources.text(source));
    let gateway = |d: &MeterDay| d.gateway.and_then(|gateway| evidence.gateways.text(gateway));
    let causes = || days.iter().map(|d| d.cause.as_ref());
    let clocks = || days.iter().map(|d| d.clock);
    let mut c = Columns::default();
    c.day("day", days.iter().map(|d| d.day));
    c.text("meter_id", days.iter().map(|d| d.meter_id.as_str()));
    c.text("usage_point_id", days.iter().map(|d| d.usage_point_id.as_str()));
    c.maybe_text("node_id", days.iter().map(|d| d.node_id.as_ref().map(|id| id.as_str())));
    c.text("commodity", days.iter().map(|d| d.commodity.as_str()));
    c.maybe_text("gateway_id", days.iter().map(gateway));
    c.maybe_text("source", days.iter().map(source));
    c.long("interval_s", days.iter().map(|d| d.interval_s));
    c.text("interval_from", days.iter().map(|d| d.interval_from.as_str()));
    c.int("expected", counts().map(|n| Some(n.expected.len())));
    c.int("received", counts().map(|n| Some(n.expected.len() - n.missing.len())));
    c.int("missing", counts().map(|n| Some(n.missing.len())));
    c.int("late", counts().map(|n| Some(n.late)));
    c.int("readings", counts().map(|n| Some(n.readings)));
    c.time("first_reading", counts().map(|n| n.first));
    c.time("last_reading", counts().map(|n| n.last));
    c.long("longest_gap_s", counts().map(|n| n.longest_gap_s));
    c.int("clock_offset_s", clocks().map(|clock| clock.map(|c| c.offset_s)));
    c.maybe_text("clock_method", clocks().map(|clock| clock.map(|_| clock::METHOD)));
    c.int("clock_readings", clocks().map(|clock| Some(clock.map_or(0, |c| c.readings))));
    c.flag("closed", counts().map(|n| n.closed));
    c.maybe_text("reason", causes().map(|cause| cause.map(|c| c.reason.as_str())));
    c.maybe_text("reason_subject", causes().map(|cause| cause.and_then(|c| c.subject.as_ref())));
    c.int("explained", causes().map(|cause| Some(cause.map_or(0, |c| c.explains))));
    c.batch(&super::completeness())
}
