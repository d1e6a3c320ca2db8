//! Tariff time in SQL: `tou_bucket` of an instant by a calendar of the configuration, and `billing_boundary`, where the
//! billing cycle of an instant begins.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use meterlake_model::calendar::{BucketWalk, Calendars};
use meterlake_model::{Timestamp, UsagePointId, Zone};

use crate::schema::instant;

/// The last day of the month on which cycles may begin.
const LAST_BILLING_DAY: i64 = 28;

/// The functions, for a session that knows some calendars.
pub(super) fn functions(calendars: &Arc<Calendars>) -> [ScalarUDF; 2] {
    [ScalarUDF::from(TouBucket::new(calendars.clone())), ScalarUDF::from(BillingBoundary::new())]
}

/// `tou_bucket(ts, calendar[, usage_point_id])`: the bucket's name; null outside the calendar's years.
#[derive(Debug, PartialEq, Eq)]
struct TouBucket {
    calendars: Arc<Calendars>,
    signature: Signature,
}

impl TouBucket {
    fn new(calendars: Arc<Calendars>) -> Self {
        let two = TypeSignature::Exact(vec![instant(), DataType::Utf8]);
        let three = TypeSignature::Exact(vec![instant(), DataType::Utf8, DataType::Utf8]);
        Self { calendars, signature: Signature::one_of(vec![two, three], Volatility::Immutable) }
    }
}

impl Hash for TouBucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal calendars have equal names.
        self.calendars.keys().for_each(|name| name.hash(state));
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for TouBucket {
    fn name(&self) -> &str {
        "tou_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (times, names, points) = match arrays.as_slice() {
            [times, names] => (times, names, None),
            [times, names, points] => (times, names, Some(points.as_string::<i32>())),
            _ => return Err(exec_datafusion_err!("tou_bucket wants a time, a calendar and perhaps a usage point")),
        };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        buckets(&self.calendars, times, names.as_string::<i32>(), points).map(ColumnarValue::Array)
    }
}

fn buckets(
    calendars: &Calendars,
    times: &TimestampMicrosecondArray,
    names: &StringArray,
    points: Option<&StringArray>,
) -> Result<ArrayRef> {
    let mut found = StringBuilder::new();
    // Rows commonly come by usage point and in order of time, so the last walk is kept.
    let mut walk: Option<(&str, Option<&str>, BucketWalk<'_>)> = None;
    for row in 0..times.len() {
        if times.is_null(row) || names.is_null(row) {
            found.append_null();
            continue;
        }
        let (name, at) = (names.value(row), time_of(times, row)?);
        let point = points.filter(|points| points.is_valid(row)).map(|points| points.value(row));
        let Some(calendar) = calendars.get(name) else {
            let known: Vec<_> = calendars.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(exec_datafusion_err!("there is no calendar '{name}'; the configuration has {known}"));
        };
        if !walk.as_ref().is_some_and(|(of, by, _)| *of == name && *by == point) {
            let id = point.map(UsagePointId::new).transpose().map_err(|error| exec_datafusion_err!("{error}"))?;
            walk = Some((name, point, calendar.walk(id.as_ref())));
        }
        let bucket = walk.as_mut().and_then(|(_, _, walk)| walk.at(at).bucket);
        found.append_option(bucket.map(|bucket| calendar.bucket_name(bucket)));
    }
    Ok(Arc::new(found.finish()))
}

/// `billing_boundary(ts, zone, day)`: the first instant of the billing cycle that an instant lies in, for cycles that begin
/// on that day of the month.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BillingBoundary {
    signature: Signature,
}

impl BillingBoundary {
    fn new() -> Self {
        let arguments = vec![instant(), DataType::Utf8, DataType::Int64];
        Self { signature: Signature::exact(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for BillingBoundary {
    fn name(&self) -> &str {
        "billing_boundary"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [times, zones, days] = arrays.as_slice() else {
            return Err(exec_datafusion_err!("billing_boundary wants a time, a zone and a day of the month"));
        };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let (zones, days) = (zones.as_string::<i32>(), days.as_primitive::<Int64Type>());
        boundaries(times, zones, days).map(ColumnarValue::Array)
    }
}

fn boundaries(times: &TimestampMicrosecondArray, zones: &StringArray, days: &Int64Array) -> Result<ArrayRef> {
    let mut known: HashMap<&str, Zone> = HashMap::new();
    let mut found = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || zones.is_null(row) || days.is_null(row) {
            found.push(None);
            continue;
        }
        let (name, at, day) = (zones.value(row), time_of(times, row)?, days.value(row));
        if !(1..=LAST_BILLING_DAY).contains(&day) {
            return Err(exec_datafusion_err!("cycles begin on a day from 1 to {LAST_BILLING_DAY}, not on {day}"));
        }
        if !known.contains_key(name) {
            known.insert(name, Zone::parse(name).map_err(|e| exec_datafusion_err!("{e}"))?);
        }
        let zone = known.get(name).ok_or_else(|| exec_datafusion_err!("no zone {name}"))?;
        let civil = zone.day_of(at);
        let by = i32::try_from(day - 1).unwrap_or(0);
        let month =
            if i64::from(civil.day()) < day { civil.first_of_month().plus_months(-1) } else { civil.first_of_month() };
        found.push(Some(zone.start_of_day(month.plus_days(by)).micros()));
    }
    Ok(Arc::new(found.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
}

fn time_of(times: &TimestampMicrosecondArray, row: usize) -> Result<Timestamp> {
    let micros = times.value(row);
    Timestamp::from_micros(micros).map_err(|_| exec_datafusion_err!("{micros} is beyond the calendar"))
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use datafusion::prelude::SessionContext;
    use meterlake_model::calendar::{Calendar, CalendarEvent, CalendarPlan, CalendarRule, DayKinds, MonthDays};

    use super::*;

    fn context() -> SessionContext {
        let mut plan = CalendarPlan::new("home", Zone::parse("Europe/Madrid").unwrap(), ["valley", "peak", "critical"]);
        plan.default = Some(0);
        plan.years = Some([2026].into());
        plan.rules = vec![CalendarRule::new(DayKinds::workdays(), MonthDays::all(), (8 * 60, 22 * 60), 1)];
        plan.events = vec![CalendarEvent {
            from: Timestamp::parse_rfc3339("2026-11-20T17:00:00Z").unwrap(),
            to: Timestamp::parse_rfc3339("2026-11-20T18:00:00Z").unwrap(),
            bucket: 2,
            points: Some([UsagePointId::new("E1").unwrap()].into()),
        }];
        let calendar = Calendar::prove(plan).unwrap();
        let context = SessionContext::new();
        let calendars = Arc::new(Calendars::from([("home".to_owned(), calendar)]));
        functions(&calendars).into_iter().for_each(|function| context.register_udf(function));
        context
    }

    async fn ask(call: &str) -> std::result::Result<String, String> {
        let frame = context().sql(&format!("SELECT {call}")).await.map_err(|error| error.to_string())?;
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        Ok(array_value_to_string(batches[0].column(0), 0).unwrap())
    }

    fn at(time: &str) -> String {
        format!("arrow_cast('{time}', 'Timestamp(Microsecond, Some(\"UTC\"))')")
    }

    #[tokio::test]
    async fn the_bucket_is_that_of_the_wall_clock_and_of_the_point_s_events() {
        for (time, more, expected) in [
            ("2026-11-20T06:59:59Z", "", "valley"),
            ("2026-11-20T07:00:00Z", "", "peak"),
            ("2026-07-20T06:00:00Z", "", "peak"),
            ("2026-11-20T17:30:00Z", "", "peak"),
            ("2026-11-20T17:30:00Z", ", 'E1'", "critical"),
            ("2026-11-20T17:30:00Z", ", 'E2'", "peak"),
            ("2025-11-20T17:30:00Z", "", ""),
        ] {
            let call = format!("tou_bucket({}, 'home'{more})", at(time));
            assert_eq!(ask(&call).await.as_deref(), Ok(expected), "{call}");
        }
        let error = ask(&format!("tou_bucket({}, 'hoem')", at("2026-11-20T17:30:00Z"))).await.unwrap_err();
        assert!(error.contains("there is no calendar 'hoem'; the configuration has home"), "{error}");
    }

    #[tokio::test]
    async fn a_cycle_begins_at_the_civil_midnight_of_its_day() {
        for (time, day, expected) in [
            ("2026-11-20T17:30:00Z", 1, "2026-10-31T23:00:00Z"),
            ("2026-11-20T17:30:00Z", 20, "2026-11-19T23:00:00Z"),
            ("2026-11-20T17:30:00Z", 21, "2026-10-20T22:00:00Z"),
            ("2026-01-15T00:00:00Z", 28, "2025-12-27T23:00:00Z"),
            ("2026-10-31T23:00:00Z", 1, "2026-10-31T23:00:00Z"),
            ("2026-10-31T22:59:59Z", 1, "2026-09-30T22:00:00Z"),
        ] {
            let call = format!("billing_boundary({}, 'Europe/Madrid', {day})", at(time));
            assert_eq!(ask(&call).await.as_deref(), Ok(expected), "{call}");
        }
        let error = ask(&format!("billing_boundary({}, 'UTC', 31)", at("2026-11-20T17:30:00Z"))).await.unwrap_err();
        assert!(error.contains("not on 31"), "{error}");
    }
}
