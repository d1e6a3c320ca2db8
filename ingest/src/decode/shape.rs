//! Values in rows or in parallel lists, made into readings with named values.

use meterlake_config::payload_map::Shape;
use meterlake_model::DeadReason;

use super::document::{Builder, Document, Kind, Place, Value};
use super::find::Places;
use super::{LIMITS, Refusal};

/// A list of objects for what stands at `samples`; `None` where it is one already.
pub(super) fn reshaped(
    shape: &Shape,
    sample: Value<'_>,
    places: &Places<'_>,
) -> Result<Option<Document<'static>>, Refusal> {
    let mut builder = Builder::new(LIMITS);
    match shape {
        Shape::Plain => return Ok(None),
        Shape::Columns(names) => {
            let names = names.iter().map(|name| builder.place(name)).collect::<Vec<_>>();
            rows(&mut builder, &names, sample)?;
        }
        Shape::ColumnsAt(path) => {
            let list = places.find(path)?.filter(|list| list.kind() == Kind::List).ok_or_else(|| {
                Refusal::new(DeadReason::MissingField, format!("no list of names stands at `{path}`"))
            })?;
            let names = list.items().map(|name| builder.place(&name.unescaped())).collect::<Vec<_>>();
            rows(&mut builder, &names, sample)?;
        }
        Shape::Parallel => parallel(&mut builder, sample)?,
    }
    builder.finish().map(Some)
}

/// A list of rows, or one row.
fn rows(builder: &mut Builder, names: &[Place], sample: Value<'_>) -> Result<(), Refusal> {
    builder.list()?;
    let mut items = sample.items().peekable();
    if items.peek().is_some_and(|item| item.kind() == Kind::List) {
        items.try_for_each(|item| row(builder, names, item))?;
    } else {
        row(builder, names, sample)?;
    }
    builder.end()
}

fn row(builder: &mut Builder, names: &[Place], row: Value<'_>) -> Result<(), Refusal> {
    let count = row.items().count();
    if row.kind() != Kind::List || count != names.len() {
        let found = if row.kind() == Kind::List { format!("a list of {count}") } else { row.described() };
        let detail = format!("a row is {found}; a list of {} values is wanted", names.len());
        return Err(Refusal::new(DeadReason::BadValue, detail));
    }
    builder.object()?;
    for (name, value) in names.iter().zip(row.items()) {
        builder.key_at(*name)?;
        builder.copy(value)?;
    }
    builder.end()
}

/// Member by member the first items, then the second ones; what is no list belongs to every reading.
fn parallel(builder: &mut Builder, sample: Value<'_>) -> Result<(), Refusal> {
    let mut shared = Vec::new();
    let mut lists = Vec::new();
    for (name, value) in sample.members() {
        let name = builder.place(&name.unescaped());
        match value.kind() {
            Kind::List => lists.push((name, value.items().collect::<Vec<_>>())),
            Kind::Object => {}
            kind => shared.push((name, kind, builder.place(&value.unescaped()))),
        }
    }
    let Some(length) = lists.first().map(|(_, items)| items.len()) else {
        let detail = format!("the reading is {}; lists that run in parallel are wanted", sample.described());
        return Err(Refusal::new(DeadReason::BadValue, detail));
    };
    if let Some((_, other)) = lists.iter().find(|(_, items)| items.len() != length) {
        let detail = format!("of two lists that run in parallel one has {length} values, one {}", other.len());
        return Err(Refusal::new(DeadReason::BadValue, detail));
    }
    builder.list()?;
    for at in 0..length {
        builder.object()?;
        for (name, kind, value) in &shared {
            builder.key_at(*name)?;
            builder.scalar_at(*kind, *value)?;
        }
        for (name, items) in &lists {
            builder.key_at(*name)?;
            builder.copy(items[at])?;
        }
        builder.end()?;
    }
    builder.end()
}
