//! One usage point's spans and findings as a batch.

use std::sync::{Arc, LazyLock};

use arrow::array::DictionaryArray;
use arrow::array::{
    ArrayRef, Decimal64Builder, Int64Builder, ListBuilder, RecordBatch, StringArray, StringDictionaryBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{ArrowDictionaryKeyType, DataType, Field, Int8Type, Int32Type, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use meterlake_model::registry::{Installation, InstallationChannel};
use meterlake_model::{Amount, Channel, ChannelKind, Timestamp, UsagePointId};
use meterlake_store::schema::instant;

use super::walk::Task;
use super::{DeriveInput, register_of};
use crate::tables::read::other;
use crate::usage::{Border, Finding, InstallationReadings, Level, PointInput, PointUsage, Span, Start, Whole, derive};

/// The `level` of a row that is a finding.
pub(crate) const FINDING: &str = "finding";

/// The `level` of a row that tells what is known at the border of a month.
pub(crate) const BORDER: &str = "border";

/// The `level` of the only row of a point whose walk has to be taken up further back.
pub(crate) const SHORT: &str = "short";

const AMOUNT: DataType = DataType::Decimal64(18, 6);

/// The columns of the operator's output.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let short = |name: &str, null| Field::new_dictionary(name, DataType::Int8, DataType::Utf8, null);
    let long = |name: &str, null| Field::new_dictionary(name, DataType::Int32, DataType::Utf8, null);
    Arc::new(Schema::new(vec![
        short("usage_point_id", false),
        short("channel", false),
        short("level", false),
        Field::new("start", instant(), false),
        Field::new("end", instant(), false),
        Field::new("value", AMOUNT, true),
        short("quality", true),
        short("method", true),
        Field::new("estimated", AMOUNT, true),
        Field::new("start_register", AMOUNT, true),
        short("start_register_quality", true),
        Field::new("end_register", AMOUNT, true),
        short("end_register_quality", true),
        long("meter_id", false),
        long("evidence", true),
        short("rule", true),
        short("severity", true),
        Field::new("measured", AMOUNT, true),
        Field::new("limit", AMOUNT, true),
        Field::new("detail", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))), true),
    ]))
});

/// Derives all channels of one usage point.
pub(super) fn derive_point(input: &DeriveInput, task: &Task) -> Result<RecordBatch, DataFusionError> {
    let mut rows = Builder::new(&task.point);
    let Some(usage_point) = input.registry.usage_points.get(&task.point) else { return rows.finish() };
    let (beside, installed): (Vec<&Installation>, Vec<&Installation>) =
        input.installations_of(&task.point).partition(|i| i.is_check);
    let mut channels: Vec<Channel> = installed.iter().flat_map(|i| i.channels.iter().map(|c| c.channel)).collect();
    channels.retain(|c| c.kind() != ChannelKind::Physical);
    channels.sort_unstable();
    channels.dedup();

    let mut outages: Vec<_> =
        installed.iter().chain(&beside).filter_map(|i| input.outages.get(&i.meter_id)).flatten().copied().collect();
    outages.sort_unstable();
    let plan = input.plan_of(&task.point);
    let borders: Vec<_> = input.borders.iter().copied().filter(|border| *border >= plan.from).collect();
    let mut done: Vec<(Channel, PointUsage)> = Vec::new();
    for channel in channels {
        let with: Vec<(&Installation, &InstallationChannel)> =
            installed.iter().filter_map(|i| Some((*i, i.channels.iter().find(|c| c.channel == channel)?))).collect();
        let readings = with.iter().map(|(installation, settings)| InstallationReadings {
            installation,
            channel: settings,
            readings: task.readings.get(&installation.meter_id).map_or(&[], |r| r.of(channel)),
        });
        let register = register_of(channel).filter(|_| channel.kind() == ChannelKind::Interval);
        let twins = beside.iter().flat_map(|i| i.channels.iter().map(move |c| (*i, c)));
        let twins = twins.filter(|(_, c)| c.channel == channel || Some(c.channel) == register);
        let twins = twins.map(|(installation, settings)| InstallationReadings {
            installation,
            channel: settings,
            readings: task.readings.get(&installation.meter_id).map_or(&[], |r| r.of(settings.channel)),
        });
        let twins = twins.collect();
        let wholes: Vec<Whole> = register
            .and_then(|register| done.iter().find(|(c, _)| *c == register))
            .map(|(_, usage)| usage.wholes.clone())
            .unwrap_or_default();
        let usage = derive(
            &PointInput {
                usage_point,
                channel,
                installations: readings.collect(),
                outages: &outages,
                holidays: &input.rules.holidays,
                wholes: &wholes,
                aids: input.aids(usage_point, channel, twins),
                anchor: plan.anchors.iter().find(|(of, _)| *of == channel).map(|(_, anchor)| *anchor),
                borders: &borders,
                from: plan.from,
                to: input.to,
            },
            &input.rules.usage,
        );
        if usage.short {
            let mut rows = Builder::new(&task.point);
            rows.short(channel, plan.from);
            return rows.finish();
        }
        for level in [Level::Day, Level::Slot] {
            for span in usage.spans.iter().filter(|s| s.level == level) {
                rows.span(channel, span, with[span.installation].0);
            }
        }
        for finding in &usage.findings {
            rows.finding(channel, finding, with[finding.installation].0);
        }
        // Of what never said anything there is nothing to keep.
        for border in usage.borders.iter().filter(|_| usage.heard) {
            rows.border(channel, border, &with);
        }
        done.push((channel, usage));
    }
    rows.finish()
}

type Short = StringDictionaryBuilder<Int8Type>;
type Long = StringDictionaryBuilder<Int32Type>;

/// Columns in the order of the schema.
struct Builder {
    usage_point_id: UsagePointId,
    count: usize,
    channel: Short,
    level: Short,
    start: TimestampMicrosecondBuilder,
    end: TimestampMicrosecondBuilder,
    value: Decimal64Builder,
    quality: Short,
    method: Short,
    estimated: Decimal64Builder,
    start_register: Decimal64Builder,
    start_register_quality: Short,
    end_register: Decimal64Builder,
    end_register_quality: Short,
    meter_id: Long,
    evidence: Long,
    rule: Short,
    severity: Short,
    measured: Decimal64Builder,
    limit: Decimal64Builder,
    detail: ListBuilder<Int64Builder>,
}

impl Builder {
    fn new(point: &UsagePointId) -> Self {
        let amounts = || Decimal64Builder::new().with_data_type(AMOUNT);
        let instants = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self {
            usage_point_id: point.clone(),
            count: 0,
            channel: Short::new(),
            level: Short::new(),
            start: instants(),
            end: instants(),
            value: amounts(),
            quality: Short::new(),
            method: Short::new(),
            estimated: amounts(),
            start_register: amounts(),
            start_register_quality: Short::new(),
            end_register: amounts(),
            end_register_quality: Short::new(),
            meter_id: Long::new(),
            evidence: Long::new(),
            rule: Short::new(),
            severity: Short::new(),
            measured: amounts(),
            limit: amounts(),
            detail: ListBuilder::new(Int64Builder::new()),
        }
    }

    fn span(&mut self, channel: Channel, span: &Span, installation: &Installation) {
        self.count += 1;
        self.channel.append_value(channel.name());
        self.level.append_value(span.level.as_str());
        self.start.append_value(span.start.micros());
        self.end.append_value(span.end.micros());
        amount(&mut self.value, span.value);
        self.quality.append_value(span.quality.as_str());
        self.method.append_option(span.method.map(|m| m.as_str()));
        amount(&mut self.estimated, Some(span.estimated));
        amount(&mut self.start_register, span.start_register.map(|b| b.register));
        self.start_register_quality.append_option(span.start_register.map(|b| b.quality.as_str()));
        amount(&mut self.end_register, span.end_register.map(|b| b.register));
        self.end_register_quality.append_option(span.end_register.map(|b| b.quality.as_str()));
        self.meter_id.append_value(installation.meter_id.as_str());
        self.evidence.append_option(span.evidence.as_deref());
        self.rule.append_null();
        self.severity.append_null();
        amount(&mut self.measured, None);
        amount(&mut self.limit, None);
        match &span.parts {
            Some(parts) => {
                self.detail.values().append_slice(&parts.slots);
                self.detail.values().append_slice(&parts.used);
                for at in 0..2 {
                    self.detail.values().append_option(parts.loose.map(|loose| loose[at]));
                }
                self.detail.append(true);
            }
            None => self.detail.append_null(),
        }
    }

    /// What is known at the border of a month: state, installation, time, register, the line's first register and
    /// time, whether it is the first, settled and closed from when on.
    fn border(&mut self, channel: Channel, border: &Border, with: &[(&Installation, &InstallationChannel)]) {
        let (state, anchor) = match border.start {
            // What fits no column is found again from further back.
            Start::Anchor(anchor) if fits(anchor.register) && fits(anchor.line_register) => (2, Some(anchor)),
            Start::Anchor(_) => (0, None),
            Start::Nothing => (1, None),
            Start::Unsure => (0, None),
        };
        let meter = anchor.map_or(0, |anchor| anchor.installation);
        self.bare(BORDER, channel, border.ts, with.get(meter).map_or("", |(i, _)| i.meter_id.as_str()));
        let values = self.detail.values();
        values.append_value(state);
        values.append_option(anchor.map(|a| i64::try_from(a.installation).unwrap_or(i64::MAX)));
        values.append_option(anchor.map(|a| a.ts.micros()));
        values.append_option(anchor.map(|a| a.register));
        values.append_option(anchor.map(|a| a.line_register));
        values.append_option(anchor.map(|a| a.line_start.micros()));
        values.append_option(anchor.map(|a| i64::from(a.first_line)));
        values.append_option(anchor.map(|a| a.settled_at.micros()));
        values.append_option(border.closed_at.map(Timestamp::micros));
        self.detail.append(true);
    }

    /// Says that nothing of the point is derived yet.
    fn short(&mut self, channel: Channel, from: Timestamp) {
        self.bare(SHORT, channel, from, "");
        self.detail.append_null();
    }

    /// All columns but the detail of a row that is neither span nor finding.
    fn bare(&mut self, level: &str, channel: Channel, at: Timestamp, meter_id: &str) {
        self.count += 1;
        self.channel.append_value(channel.name());
        self.level.append_value(level);
        self.start.append_value(at.micros());
        self.end.append_value(at.micros());
        self.meter_id.append_value(meter_id);
        self.evidence.append_null();
        self.nothing_used();
        self.rule.append_null();
        self.severity.append_null();
        amount(&mut self.measured, None);
        amount(&mut self.limit, None);
    }

    fn nothing_used(&mut self) {
        for none in [&mut self.value, &mut self.estimated, &mut self.start_register, &mut self.end_register] {
            amount(none, None);
        }
        for none in
            [&mut self.quality, &mut self.method, &mut self.start_register_quality, &mut self.end_register_quality]
        {
            none.append_null();
        }
    }

    fn finding(&mut self, channel: Channel, finding: &Finding, installation: &Installation) {
        self.count += 1;
        self.channel.append_value(channel.name());
        self.level.append_value(FINDING);
        self.start.append_value(finding.start.micros());
        self.end.append_value(finding.end.micros());
        self.nothing_used();
        self.detail.append_null();
        self.meter_id.append_value(installation.meter_id.as_str());
        self.evidence.append_value(&finding.evidence);
        self.rule.append_value(finding.rule.as_str());
        self.severity.append_value(finding.severity.as_str());
        amount(&mut self.measured, finding.measured);
        amount(&mut self.limit, finding.limit);
    }

    fn finish(mut self) -> Result<RecordBatch, DataFusionError> {
        let point = StringArray::from_iter_values([self.usage_point_id.as_str()]);
        let keys = std::iter::repeat_n(0_i8, self.count).collect::<arrow::array::Int8Array>();
        let point = DictionaryArray::<Int8Type>::try_new(keys, Arc::new(point))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(point),
            texts(self.channel)?,
            texts(self.level)?,
            Arc::new(self.start.finish()),
            Arc::new(self.end.finish()),
            Arc::new(self.value.finish()),
            texts(self.quality)?,
            texts(self.method)?,
            Arc::new(self.estimated.finish()),
            Arc::new(self.start_register.finish()),
            texts(self.start_register_quality)?,
            Arc::new(self.end_register.finish()),
            texts(self.end_register_quality)?,
            texts(self.meter_id)?,
            texts(self.evidence)?,
            texts(self.rule)?,
            texts(self.severity)?,
            Arc::new(self.measured.finish()),
            Arc::new(self.limit.finish()),
            Arc::new(self.detail.finish()),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns).map_err(|e| other(e.to_string()))
    }
}

fn fits(register: i64) -> bool {
    Amount::from_micros(register).is_some()
}

fn amount(builder: &mut Decimal64Builder, value: Option<Amount>) {
    builder.append_option(value.map(Amount::micros));
}

fn texts<K: ArrowDictionaryKeyType>(mut builder: StringDictionaryBuilder<K>) -> Result<ArrayRef, DataFusionError> {
    Ok(Arc::new(builder.finish()))
}
