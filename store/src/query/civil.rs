//! Civil time in SQL: `civil_time`, `civil_day` and `civil_hour` of an instant in a zone.
//!
//! DataFusion's own functions are not safe for local days; these ask our calendar, the one that bills by.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use meterlake_model::{CivilDay, Timestamp, Zone};

use crate::schema::instant;

const DAY_S: i64 = 86_400;

/// What is told of the civil time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Time,
    Day,
    Hour,
}

/// The functions, for every session.
pub(super) fn functions() -> [ScalarUDF; 3] {
    [Part::Time, Part::Day, Part::Hour].map(|part| ScalarUDF::from(Civil::new(part)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Civil {
    part: Part,
    signature: Signature,
}

impl Civil {
    fn new(part: Part) -> Self {
        Self { part, signature: Signature::exact(vec![instant(), DataType::Utf8], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Civil {
    fn name(&self) -> &str {
        match self.part {
            Part::Time => "civil_time",
            Part::Day => "civil_day",
            Part::Hour => "civil_hour",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Part::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
            Part::Day => DataType::Date32,
            Part::Hour => DataType::Int32,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [times, zones] = arrays.as_slice() else {
            return Err(exec_datafusion_err!("{} wants a time and a zone", self.name()));
        };
        let local = local_seconds(times.as_primitive::<TimestampMicrosecondType>(), zones.as_string::<i32>())?;
        let part = |of: fn(i64) -> i64| local.iter().map(move |l| l.and_then(|(s, _)| i32::try_from(of(s)).ok()));
        let array: ArrayRef = match self.part {
            Part::Time => {
                let micros = local.iter().map(|l| l.map(|(s, rest)| s * 1_000_000 + rest));
                Arc::new(micros.collect::<TimestampMicrosecondArray>())
            }
            Part::Day => Arc::new(part(|s| s.div_euclid(DAY_S)).collect::<Date32Array>()),
            Part::Hour => Arc::new(part(|s| s.rem_euclid(DAY_S) / 3600).collect::<Int32Array>()),
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// What the wall clock shows, in seconds since 1970 there, and the microseconds besides.
fn local_seconds(times: &TimestampMicrosecondArray, zones: &StringArray) -> Result<Vec<Option<(i64, i64)>>> {
    let first = CivilDay::new(1970, 1, 1).map_err(|e| exec_datafusion_err!("{e}"))?;
    let mut known: HashMap<&str, Zone> = HashMap::new();
    let mut local = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || zones.is_null(row) {
            local.push(None);
            continue;
        }
        let name = zones.value(row);
        if !known.contains_key(name) {
            known.insert(name, Zone::parse(name).map_err(|e| exec_datafusion_err!("{e}"))?);
        }
        let (Some(zone), Ok(at)) = (known.get(name), Timestamp::from_micros(times.value(row))) else {
            return Err(exec_datafusion_err!("{} is beyond the calendar", times.value(row)));
        };
        // Zones have been whole minutes away from UTC for longer than there are readings.
        let minute = i64::from(zone.day_of(at).days_since(first)) * DAY_S + i64::from(zone.minute_of_day(at)) * 60;
        let micros = at.micros();
        local.push(Some((minute + micros.div_euclid(1_000_000).rem_euclid(60), micros.rem_euclid(1_000_000))));
    }
    Ok(local)
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn check(time: &str, zone: &str, expected: [&str; 3]) {
        let context = SessionContext::new();
        functions().into_iter().for_each(|f| context.register_udf(f));
        let call = |f: &str| format!("{f}(arrow_cast('{time}', 'Timestamp(Microsecond, Some(\"UTC\"))'), {zone})");
        let query = format!("SELECT {}, {}, {}", call("civil_time"), call("civil_day"), call("civil_hour"));
        let batches = context.sql(&query).await.unwrap().collect().await.unwrap();
        let found = batches[0].columns().iter().map(|c| array_value_to_string(c, 0).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), expected, "{time} in {zone}");
    }

    #[tokio::test]
    async fn civil_time_is_that_of_the_zone_through_both_clock_changes() {
        for (time, expected) in [
            ("2026-11-20T08:00:00.25Z", ["2026-11-20T09:00:00.250", "2026-11-20", "9"]),
            ("2026-03-29T00:59:59Z", ["2026-03-29T01:59:59", "2026-03-29", "1"]),
            ("2026-03-29T01:00:00Z", ["2026-03-29T03:00:00", "2026-03-29", "3"]),
            ("2026-10-25T00:30:00Z", ["2026-10-25T02:30:00", "2026-10-25", "2"]),
            ("2026-10-25T01:30:00Z", ["2026-10-25T02:30:00", "2026-10-25", "2"]),
            ("2026-12-31T23:00:00Z", ["2027-01-01T00:00:00", "2027-01-01", "0"]),
            ("1969-12-31T22:59:59Z", ["1969-12-31T23:59:59", "1969-12-31", "23"]),
        ] {
            check(time, "'Europe/Madrid'", expected).await;
        }
        check("2026-11-20T08:00:00Z", "'Asia/Kathmandu'", ["2026-11-20T13:45:00", "2026-11-20", "13"]).await;
        check("2026-11-20T08:00:00Z", "NULL", ["", "", ""]).await;
    }

    #[tokio::test]
    async fn a_zone_that_does_not_exist_is_named() {
        let context = SessionContext::new();
        functions().into_iter().for_each(|f| context.register_udf(f));
        let error = match context.sql("SELECT civil_day(now(), 'Europe/Madird')").await {
            Ok(frame) => frame.collect().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("Europe/Madird"), "{error}");
    }
}
