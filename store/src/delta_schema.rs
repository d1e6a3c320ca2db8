//! Between Arrow's types and the Delta protocol's names for them, for the few types that our tables use; and how a
//! table's schema may grow.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::StoreError;

/// The schema string of a Delta table's metadata.
pub(crate) fn to_delta(table: &str, schema: &Schema) -> Result<String, StoreError> {
    let fields = schema
        .fields()
        .iter()
        .map(|f| {
            let kind = type_name(f.data_type()).ok_or_else(|| StoreError::Rows {
                table: table.to_owned(),
                reason: format!("column {} has type {}, which no table can hold", f.name(), f.data_type()),
            })?;
            Ok(json!({"name": f.name(), "type": kind, "nullable": f.is_nullable(), "metadata": {}}))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    Ok(json!({"type": "struct", "fields": fields}).to_string())
}

fn type_name(data_type: &DataType) -> Option<Value> {
    Some(match data_type {
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("binary"),
        DataType::Boolean => json!("boolean"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float64 => json!("double"),
        DataType::Date32 => json!("date"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => json!("timestamp"),
        DataType::Decimal128(precision, scale) if *scale >= 0 => json!(format!("decimal({precision},{scale})")),
        DataType::List(element) => {
            json!({"type": "array", "elementType": type_name(element.data_type())?, "containsNull": element.is_nullable()})
        }
        _ => return None,
    })
}

/// Reads [`to_delta`] back.
pub(crate) fn from_delta(text: &str) -> Result<Schema, String> {
    #[derive(Deserialize)]
    struct Struct {
        fields: Vec<StructField>,
    }
    #[derive(Deserialize)]
    struct StructField {
        name: String,
        #[serde(rename = "type")]
        kind: Value,
        nullable: bool,
    }
    let schema: Struct = serde_json::from_str(text).map_err(|e| format!("its schema cannot be read: {e}"))?;
    let fields = schema.fields.into_iter().map(|f| match arrow_type(&f.kind) {
        Some(kind) => Ok(Field::new(f.name, kind, f.nullable)),
        None => Err(format!("column {} has the type {}, which this program does not know", f.name, f.kind)),
    });
    Ok(Schema::new(fields.collect::<Result<Vec<_>, _>>()?))
}

fn arrow_type(kind: &Value) -> Option<DataType> {
    let Some(name) = kind.as_str() else {
        let element = arrow_type(kind.get("elementType")?)?;
        let nullable = kind.get("containsNull")?.as_bool()?;
        return Some(DataType::List(Arc::new(Field::new("element", element, nullable))));
    };
    Some(match name {
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "boolean" => DataType::Boolean,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "double" => DataType::Float64,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => {
            let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// The columns that a table must gain before this program can use it: none when it has all of them.
///
/// # Errors
/// What cannot be grown into, and what to do: another type, a column that this program does not know, a new column
/// that may not be null, as it is in every row that is there already.
pub(crate) fn missing(expected: &Schema, found: &Schema) -> Result<Vec<FieldRef>, String> {
    let extra = names(found.fields().iter().filter(|f| expected.field_with_name(f.name()).is_err()));
    if !extra.is_empty() {
        return Err(format!(
            "it has columns that this program does not know ({extra}): a newer program wrote it; start that program, or \
             a newer one, on this lake"
        ));
    }
    for field in expected.fields() {
        if let Ok(other) = found.field_with_name(field.name())
            && !same_type(field, other)
        {
            return Err(format!(
                "column {} is {} and should be {}; types do not change: begin a new lake",
                field.name(),
                other.data_type(),
                field.data_type()
            ));
        }
    }
    let missing: Vec<FieldRef> =
        expected.fields().iter().filter(|f| found.field_with_name(f.name()).is_err()).cloned().collect();
    let strict = names(missing.iter().filter(|f| !f.is_nullable()));
    if !strict.is_empty() {
        return Err(format!(
            "it lacks columns that may not be null ({strict}), as they would be in the rows that are there: an older \
             program wrote it; begin a new lake"
        ));
    }
    Ok(missing)
}

/// A schema with further columns at its end, before the partition columns: what is there keeps its place.
pub(crate) fn grown(found: &Schema, partition_by: &[String], more: Vec<FieldRef>) -> Schema {
    let (last, first): (Vec<FieldRef>, Vec<FieldRef>) =
        found.fields().iter().cloned().partition(|f| partition_by.contains(f.name()));
    Schema::new(first.into_iter().chain(more).chain(last).collect::<Vec<_>>())
}

/// Whether a table may become this while others have it open: it keeps every column and gains only nullable ones.
pub(crate) fn check_growth(before: &Schema, after: &Schema) -> Result<(), String> {
    for field in before.fields() {
        match after.field_with_name(field.name()) {
            Ok(other) if same_type(field, other) => {}
            Ok(other) => {
                let (from, to) = (field.data_type(), other.data_type());
                return Err(format!("column {} was changed from {from} to {to}", field.name()));
            }
            Err(_) => return Err(format!("column {} was taken away", field.name())),
        }
    }
    let mut new = after.fields().iter().filter(|f| before.field_with_name(f.name()).is_err());
    match new.find(|f| !f.is_nullable()) {
        Some(strict) => Err(format!("column {} was added, which may not be null", strict.name())),
        None => Ok(()),
    }
}

fn names<'a>(fields: impl Iterator<Item = &'a FieldRef>) -> String {
    fields.map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn same_type(a: &Field, b: &Field) -> bool {
    match (a.data_type(), b.data_type()) {
        // The name of a list's element is not part of the protocol.
        (DataType::List(a), DataType::List(b)) => a.data_type() == b.data_type(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn collected_tables_have_names_for_all_their_types_and_are_read_back() {
        for spec in schema::collected() {
            let text = to_delta(spec.name, &spec.schema).unwrap();
            assert!(text.starts_with(r#"{"fields":[{"metadata":{},"name":"#), "{text}");
            assert_eq!(from_delta(&text).unwrap(), *spec.schema);
        }
        let text = to_delta("x", &schema::meter_events().schema).unwrap();
        assert!(text.contains(r#""name":"ts","nullable":false,"type":"timestamp""#), "{text}");
        let list = DataType::List(Arc::new(Field::new("element", DataType::Decimal128(18, 6), true)));
        let kinds = [list, DataType::Date32, DataType::Boolean, DataType::Float64, DataType::Int64];
        let fields: Vec<_> = kinds.into_iter().zip('a'..).map(|(kind, n)| Field::new(n, kind, true)).collect();
        let schema = Schema::new(fields);
        assert_eq!(from_delta(&to_delta("x", &schema).unwrap()).unwrap(), schema);
    }

    fn field(name: &str, kind: DataType) -> Field {
        Field::new(name, kind, true)
    }

    #[test]
    fn a_newer_or_older_schema_is_told_apart() {
        let strict = Field::new("d", DataType::Utf8, false);
        let ours = Schema::new(vec![field("a", DataType::Int32), field("b", DataType::Utf8)]);
        let check = |fields: Vec<Field>| missing(&ours, &Schema::new(fields));
        assert_eq!(check(vec![field("a", DataType::Int32), field("b", DataType::Utf8)]).unwrap(), []);
        assert_eq!(check(vec![field("a", DataType::Int32)]).unwrap(), [Arc::new(field("b", DataType::Utf8))]);
        let newer =
            ours.fields().iter().map(|f| f.as_ref().clone()).chain([field("c", DataType::Utf8), strict.clone()]);
        let refusal = check(newer.collect()).unwrap_err();
        assert!(refusal.contains("(c, d): a newer program wrote it; start that program"), "{refusal}");
        let other = vec![field("a", DataType::Int64), field("b", DataType::Utf8)];
        assert!(check(other).unwrap_err().starts_with("column a is Int64 and should be Int32"));
        let asks = Schema::new(vec![field("a", DataType::Int32), strict]);
        let refusal = missing(&asks, &Schema::new(vec![field("a", DataType::Int32)])).unwrap_err();
        assert!(refusal.contains("may not be null (d)"), "{refusal}");
    }

    #[test]
    fn columns_are_added_before_the_partitions_and_nothing_else_is_growth() {
        let before = Schema::new(vec![field("a", DataType::Int32), field("month", DataType::Utf8)]);
        let more = vec![Arc::new(field("b", DataType::Utf8))];
        let after = grown(&before, &["month".to_owned()], more);
        assert_eq!(after.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["a", "b", "month"]);
        assert_eq!(check_growth(&before, &after), Ok(()));
        assert!(check_growth(&after, &before).unwrap_err().contains("b was taken away"));
        let strict = Schema::new(vec![
            field("a", DataType::Int32),
            field("month", DataType::Utf8),
            Field::new("c", DataType::Utf8, false),
        ]);
        assert!(check_growth(&before, &strict).unwrap_err().contains("may not be null"));
        let other = Schema::new(vec![field("a", DataType::Int64), field("month", DataType::Utf8)]);
        assert!(check_growth(&before, &other).unwrap_err().contains("changed from Int32 to Int64"));
    }
}
