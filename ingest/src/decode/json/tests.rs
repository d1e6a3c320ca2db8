use super::*;
use crate::decode::document::Value;
use proptest::prelude::*;

fn within(depth: usize, values: usize) -> Limits {
    Limits { depth, values }
}

fn parse(text: &str) -> Result<Document<'_>, JsonError> {
    super::parse(text.as_bytes(), within(16, 10_000))
}

#[test]
fn what_is_json_is_read_and_what_is_not_is_refused_at_its_place() {
    for text in ["0", "-0.5e+3", " {} ", "[]", "[1,2]", "{\"a\":{\"b\":[null,true,false]}}", "\"\\u00e9\\n\"", "4e+05"]
    {
        assert!(parse(text).is_ok(), "{text}");
    }
    for (text, at) in [
        ("", 0),
        ("01", 1),
        ("1.", 2),
        ("+1", 0),
        ("[1,]", 3),
        ("{\"a\" 1}", 5),
        ("{a:1}", 1),
        ("\"a", 2),
        ("\"\\x\"", 2),
        ("\"\u{1}\"", 1),
        ("1 2", 2),
        ("nul", 0),
        ("NaN", 0),
        ("[1", 2),
        ("{\"a\":1,}", 7),
    ] {
        match parse(text).err() {
            Some(JsonError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(super::parse(b"\"\xff\"", within(16, 16)).err(), Some(JsonError::NotUtf8(1)));
}

#[test]
fn depth_and_count_are_limited() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(16)).is_ok());
    assert_eq!(parse(&deep(17)).err(), Some(JsonError::TooDeep(16)));
    assert_eq!(parse(&deep(100_000)).err(), Some(JsonError::TooDeep(16)));
    assert_eq!(super::parse(b"[1,2,3]", within(16, 3)).err(), Some(JsonError::TooMany(3)));
    assert!(super::parse(b"[1,2,3]", within(16, 4)).is_ok());
}

#[test]
fn members_and_items_are_found_whatever_stands_between() {
    let json = parse("{\"a\":[1,{\"x\":[2,3]},4],\"b\\u0031\":\"x\",\"c\":1,\"c\":2}").unwrap();
    let root = json.root();
    let items: Vec<_> = root.member("a").unwrap().unwrap().items().map(Value::raw).collect();
    assert_eq!(items, ["1", "{\"x\":[2,3]}", "4"]);
    assert_eq!(root.member("b1").unwrap().unwrap().raw(), "x");
    assert!(root.member("c").is_err());
    assert!(root.member("d").unwrap().is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::parse(&bytes, within(16, 100));
    }

    #[test]
    fn it_reads_exactly_what_serde_json_reads(text in "[\\[\\]{}:,\"0-9a-e.\\\\untrulfs +-]{0,24}") {
        // serde_json takes lone surrogates for an error, and so do we only when they are used.
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let ours = parse(&text);
        if theirs.is_ok() || !text.contains("\\u") {
            let range = theirs.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok() || range, "{}", text);
        }
    }

    #[test]
    fn escapes_resolve_as_serde_json_resolves_them(text in any::<String>()) {
        let quoted = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(parse(&quoted).unwrap().root().unescaped().into_owned(), text);
    }
}
