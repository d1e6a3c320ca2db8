//! Everything that is wrong is told at once, and only once.

use super::*;

fn read(text: &str) -> Vec<String> {
    let (doc, table) = Document::parse("f.toml", text);
    {
        let mut root = Section::root(&doc, &table);
        let mut a = root.section("a");
        a.integer::<u16>("port", 1..=65535);
        a.boolean("on");
        a.duration("every", Duration::from_secs(1)..=Duration::from_secs(3600));
        for mut b in root.sections("b") {
            let name = b.text("name");
            b.required("name", name);
        }
    }
    doc.into_problems().iter().map(ToString::to_string).collect()
}

#[test]
fn all_problems_come_at_once_in_order_of_lines() {
    let text = "[a]\nport = 70000\nno = 1\nevery = \"2h\"\n\n[[b]]\nname = \"x\"\n\n[[b]]\nnmae = \"y\"\n\n[c]\n";
    assert_eq!(
        read(text),
        [
            "f.toml:2: `a.port` is 70000; 1 to 65535 is allowed",
            "f.toml:3: unknown key `a.no`; did you mean `on`?",
            "f.toml:4: `a.every` is \"2h\"; \"1s\" to \"1h\" is allowed",
            "f.toml:9: `b.name` is missing",
            "f.toml:10: unknown key `b.nmae`; did you mean `name`?",
            "f.toml:12: unknown key `c`; known here: a, b",
        ]
    );
}

#[test]
fn syntax_errors_come_beside_the_rest() {
    let problems = read("[a]\nport = \non = 3\n\n[[b]]\nname = \"x\n");
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems.iter().any(|p| p == "f.toml:3: `a.on` is the number 3; true or false is wanted"), "{problems:#?}");
}
