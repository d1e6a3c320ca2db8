use super::*;
use proptest::prelude::*;
use serde_json::Value as Serde;

fn builder(depth: usize, values: usize) -> Builder {
    Builder::new(Limits { depth, values })
}

/// Builds what `value` holds.
fn build(value: &Serde, builder: &mut Builder) -> Result<(), Refusal> {
    match value {
        Serde::Null => builder.null(),
        Serde::Bool(truth) => builder.boolean(*truth),
        Serde::Number(number) => builder.number(&number.to_string()),
        Serde::String(text) => builder.text(text),
        Serde::Array(items) => {
            builder.list()?;
            items.iter().try_for_each(|item| build(item, builder))?;
            builder.end()
        }
        Serde::Object(members) => {
            builder.object()?;
            for (name, member) in members {
                builder.key(name)?;
                build(member, builder)?;
            }
            builder.end()
        }
    }
}

/// What a document says, member by member.
fn said(value: Value<'_>) -> Serde {
    match value.kind() {
        Kind::Null => Serde::Null,
        Kind::True => Serde::Bool(true),
        Kind::False => Serde::Bool(false),
        Kind::Number => serde_json::from_str(value.raw()).unwrap(),
        Kind::Text { .. } => Serde::String(value.unescaped().into_owned()),
        Kind::List => value.items().map(said).collect(),
        Kind::Object => value.members().map(|(key, value)| (key.unescaped().into_owned(), said(value))).collect(),
    }
}

fn any_value() -> impl Strategy<Value = Serde> {
    let leaf = prop_oneof![
        Just(Serde::Null),
        any::<bool>().prop_map(Serde::from),
        any::<i64>().prop_map(Serde::from),
        any::<String>().prop_map(Serde::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Serde::from),
            prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..5)
                .prop_map(|members| Serde::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_built_is_what_is_read(value in any_value()) {
        let mut builder = builder(8, 1_000);
        build(&value, &mut builder).unwrap();
        prop_assert_eq!(said(builder.finish().unwrap().root()), value);
    }

    #[test]
    fn what_is_built_and_what_is_parsed_say_the_same(value in any_value()) {
        let limits = Limits { depth: 8, values: 1_000 };
        let text = value.to_string();
        let parsed = crate::decode::json::parse(text.as_bytes(), limits).unwrap();
        prop_assert_eq!(said(parsed.root()), value);
    }

    /// A decoder at fault builds in any order: nothing panics, and what is finished can be walked.
    #[test]
    fn no_order_of_calls_makes_it_panic(calls in prop::collection::vec(0_u8..7, 0..60)) {
        let mut builder = builder(4, 20);
        for call in calls {
            let _ = match call {
                0 => builder.object(),
                1 => builder.list(),
                2 => builder.end(),
                3 => builder.key("k"),
                4 => builder.text("t"),
                5 => builder.number("1"),
                _ => builder.null(),
            };
        }
        if let Ok(document) = builder.finish() {
            said(document.root());
        }
    }
}

#[test]
fn an_object_is_not_closed_behind_a_name_without_a_value() {
    let mut builder = builder(4, 20);
    builder.object().unwrap();
    builder.key("a").unwrap();
    builder.object().unwrap();
    builder.key("b").unwrap();
    assert!(builder.end().is_err());
    builder.null().unwrap();
    builder.end().unwrap();
    builder.end().unwrap();
    assert_eq!(said(builder.finish().unwrap().root()).to_string(), r#"{"a":{"b":null}}"#);
}

#[test]
fn what_is_kept_is_written_once_and_a_copy_says_the_same() {
    let mut one = builder(4, 20);
    let name = one.place("name");
    let value = one.place("12.5");
    one.list().unwrap();
    for _ in 0..3 {
        one.object().unwrap();
        one.key_at(name).unwrap();
        one.scalar_at(Kind::Number, value).unwrap();
        one.end().unwrap();
    }
    one.end().unwrap();
    assert_eq!(one.text.len(), "name12.5".len());
    let one = one.finish().unwrap();
    let mut two = builder(4, 20);
    two.copy(one.root()).unwrap();
    assert_eq!(said(two.finish().unwrap().root()), said(one.root()));
    assert_eq!(said(one.root()).to_string(), r#"[{"name":12.5},{"name":12.5},{"name":12.5}]"#);
}

#[test]
fn a_part_of_a_topic_is_a_text() {
    let value = Value::of_text("gw-7");
    assert_eq!((value.kind(), value.raw(), &*value.unescaped()), (Kind::Text { escaped: false }, "gw-7", "gw-7"));
    assert_eq!((value.items().count(), value.members().count()), (0, 0));
}

#[test]
fn depth_and_count_are_limited() {
    let mut deep = builder(2, 10);
    deep.list().unwrap();
    deep.list().unwrap();
    assert_eq!(deep.list().unwrap_err().reason, DeadReason::TooLarge);
    let mut long = builder(2, 3);
    long.list().unwrap();
    long.null().unwrap();
    long.text("x").unwrap();
    assert_eq!(long.number("1").unwrap_err().reason, DeadReason::TooLarge);
}

#[test]
fn what_is_not_closed_is_no_document() {
    let mut builder = builder(2, 10);
    builder.object().unwrap();
    builder.key("a").unwrap();
    assert!(builder.end().is_err());
    assert!(builder.finish().is_err());
    assert!(super::Builder::new(Limits { depth: 1, values: 1 }).finish().is_err());
}
