//! Between Arrow's types and the Delta protocol's names for them, for the few types that our tables use.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
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

/// How a table's schema differs from what this program writes; `None` when it does not.
pub(crate) fn difference(expected: &Schema, found: &Schema) -> Option<String> {
    for field in expected.fields() {
        match found.field_with_name(field.name()) {
            Err(_) => {
                return Some(format!(
                    "it lacks the column {}: an older program wrote it, and it is not brought up to date; begin a new lake",
                    field.name()
                ));
            }
            Ok(other) if !same_type(field, other) => {
                return Some(format!(
                    "column {} is {} and should be {}",
                    field.name(),
                    other.data_type(),
                    field.data_type()
                ));
            }
            Ok(_) => {}
        }
    }
    let extra = found.fields().iter().find(|f| expected.field_with_name(f.name()).is_err())?;
    Some(format!("it has the column {}, which this program does not know: a newer program wrote it", extra.name()))
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
    fn collected_tables_have_names_for_all_their_types() {
        for spec in schema::collected() {
            let text = to_delta(spec.name, &spec.schema).unwrap();
            assert!(text.starts_with(r#"{"fields":[{"metadata":{},"name":"#), "{text}");
        }
        let text = to_delta("x", &schema::meter_events().schema).unwrap();
        assert!(text.contains(r#""name":"ts","nullable":false,"type":"timestamp""#), "{text}");
    }

    #[test]
    fn a_newer_or_older_schema_is_told_apart() {
        let field = |name: &str, t: DataType| Field::new(name, t, true);
        let ours = Schema::new(vec![field("a", DataType::Int32), field("b", DataType::Utf8)]);
        let check = |fields: Vec<Field>| difference(&ours, &Schema::new(fields));
        assert_eq!(check(vec![field("a", DataType::Int32), field("b", DataType::Utf8)]), None);
        let newer = vec![field("a", DataType::Int32), field("b", DataType::Utf8), field("c", DataType::Utf8)];
        assert!(check(newer).unwrap().contains("newer program"));
        assert!(check(vec![field("a", DataType::Int32)]).unwrap().contains("lacks the column b: an older"));
        let other = vec![field("a", DataType::Int64), field("b", DataType::Utf8)];
        assert_eq!(check(other).unwrap(), "column a is Int64 and should be Int32");
    }
}
