//! Of whom a check asks: a predicate over what the registry knows of a place, a channel and a meter.
//!
//! `commodity = 'electricity' and class in ('shop', 'workshop') and not active`. What the registry does not know equals nothing:
//! `class = 'x'` fails for it, and `class != 'x'` holds.

use std::fmt;

/// The longest predicate, in bytes.
const MAX_LENGTH: usize = 4096;
/// The deepest brackets.
const MAX_DEPTH: usize = 20;

/// What a predicate can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// `electricity` or `water`.
    Commodity,
    /// The channel of the finding.
    Channel,
    /// The place of supply.
    UsagePoint,
    /// Who is billed.
    Customer,
    /// The part of the network that feeds it.
    Node,
    /// Customer class.
    Class,
    /// Civil time.
    Zone,
    /// The meter of the finding.
    Meter,
    /// Whether the account is active: `true` or `false`.
    Active,
    /// Whether it is known to use water at all hours: `true` or `false`.
    ContinuousUse,
}

impl Attribute {
    /// All with their names in predicates.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Commodity, "commodity"),
        (Self::Channel, "channel"),
        (Self::UsagePoint, "usage_point_id"),
        (Self::Customer, "customer_id"),
        (Self::Node, "node_id"),
        (Self::Class, "class"),
        (Self::Zone, "zone"),
        (Self::Meter, "meter_id"),
        (Self::Active, "active"),
        (Self::ContinuousUse, "continuous_use"),
    ];

    /// The name in predicates.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(attribute, _)| *attribute == self).map_or("", |(_, name)| name)
    }

    const fn is_flag(self) -> bool {
        matches!(self, Self::Active | Self::ContinuousUse)
    }
}

/// What is known of what a finding is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// See [`Attribute::Commodity`].
    pub commodity: Option<&'a str>,
    /// See [`Attribute::Channel`].
    pub channel: Option<&'a str>,
    /// See [`Attribute::UsagePoint`].
    pub usage_point: Option<&'a str>,
    /// See [`Attribute::Customer`].
    pub customer: Option<&'a str>,
    /// See [`Attribute::Node`].
    pub node: Option<&'a str>,
    /// See [`Attribute::Class`].
    pub class: Option<&'a str>,
    /// See [`Attribute::Zone`].
    pub zone: Option<&'a str>,
    /// See [`Attribute::Meter`].
    pub meter: Option<&'a str>,
    /// See [`Attribute::Active`].
    pub active: Option<bool>,
    /// See [`Attribute::ContinuousUse`].
    pub continuous_use: Option<bool>,
}

impl<'a> Subject<'a> {
    fn get(&self, attribute: Attribute) -> Option<&'a str> {
        let flag = |flag: Option<bool>| flag.map(|flag| if flag { "true" } else { "false" });
        match attribute {
            Attribute::Commodity => self.commodity,
            Attribute::Channel => self.channel,
            Attribute::UsagePoint => self.usage_point,
            Attribute::Customer => self.customer,
            Attribute::Node => self.node,
            Attribute::Class => self.class,
            Attribute::Zone => self.zone,
            Attribute::Meter => self.meter,
            Attribute::Active => flag(self.active),
            Attribute::ContinuousUse => flag(self.continuous_use),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// The attribute is one of these.
    Is(Attribute, Vec<String>),
    Known(Attribute),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

impl Node {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Is(attribute, texts) => {
                subject.get(*attribute).is_some_and(|value| texts.iter().any(|text| text == value))
            }
            Self::Known(attribute) => subject.get(*attribute).is_some(),
            Self::Not(node) => !node.holds(subject),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(subject)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(subject)),
        }
    }
}

/// A predicate; the default holds for everyone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Scope {
    text: String,
    node: Option<Node>,
}

impl Scope {
    /// Reads a predicate; empty text holds for everyone. The error says what is wrong, as in "`scope` …".
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MAX_LENGTH {
            return Err(format!("is longer than {MAX_LENGTH} bytes"));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let node = parser.any()?;
        match parser.tokens.get(parser.at) {
            None => Ok(Self { text: text.to_owned(), node: Some(node) }),
            Some((token, place)) => Err(format!("has {token} at place {place}, where `and` or `or` is wanted")),
        }
    }

    /// Whether it holds for a subject.
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        self.node.as_ref().is_none_or(|node| node.holds(subject))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "'{text}'"),
            Self::Mark(mark) => write!(f, "`{mark}`"),
        }
    }
}

/// Each with its place, counted in letters from 1.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>, String> {
    const MARKS: [&str; 6] = ["!=", "<>", "=", "(", ")", ","];
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(letter) = rest.chars().next() {
        let place = text[..text.len() - rest.len()].chars().count() + 1;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (token, length) = if letter.is_whitespace() {
            rest = rest.trim_start();
            continue;
        } else if letter == '\'' {
            let end = rest[1..].find('\'').ok_or_else(|| format!("has a text at place {place} that does not end"))?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        } else if is_word(letter) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
            (Token::Mark(mark), mark.len())
        } else {
            return Err(format!("has `{letter}` at place {place}, which means nothing here"));
        };
        tokens.push((token, place));
        rest = &rest[length..];
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.all()?];
        while self.take_word("or") {
            nodes.push(self.all()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.one()?];
        while self.take_word("and") {
            nodes.push(self.one()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn one(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("goes deeper than {MAX_DEPTH} brackets and `not`s"));
        }
        let node = if self.take_word("not") {
            Node::Not(Box::new(self.one()?))
        } else if self.take_mark("(") {
            let node = self.any()?;
            self.mark(")")?;
            node
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node, String> {
        let attribute = match self.next() {
            Some((Token::Word(word), _)) => {
                let named = |(_, name): &&(Attribute, &str)| *name == word.to_ascii_lowercase();
                let known = || Attribute::ALL.map(|(_, name)| name).join(", ");
                let found = Attribute::ALL.iter().find(named);
                found
                    .map(|(attribute, _)| *attribute)
                    .ok_or_else(|| format!("asks for `{word}`, which the registry does not have; it has {}", known()))?
            }
            other => return Err(unexpected(other, "the name of an attribute")),
        };
        if self.take_mark("=") {
            return Ok(Node::Is(attribute, vec![self.literal(attribute)?]));
        }
        if self.take_mark("!=") || self.take_mark("<>") {
            return Ok(Node::Not(Box::new(Node::Is(attribute, vec![self.literal(attribute)?]))));
        }
        if self.take_word("is") {
            let unknown = !self.take_word("not");
            if !self.take_word("null") {
                return Err(unexpected(self.next(), "`null`"));
            }
            let known = Node::Known(attribute);
            return Ok(if unknown { Node::Not(Box::new(known)) } else { known });
        }
        let out = self.take_word("not");
        if self.take_word("in") {
            self.mark("(")?;
            let mut texts = vec![self.literal(attribute)?];
            while self.take_mark(",") {
                texts.push(self.literal(attribute)?);
            }
            self.mark(")")?;
            let node = Node::Is(attribute, texts);
            return Ok(if out { Node::Not(Box::new(node)) } else { node });
        }
        match !out && attribute.is_flag() {
            true => Ok(Node::Is(attribute, vec!["true".to_owned()])),
            false => Err(unexpected(self.next(), "`=`, `!=`, `in (…)` or `is null`")),
        }
    }

    fn literal(&mut self, attribute: Attribute) -> Result<String, String> {
        let text = match self.next() {
            Some((Token::Text(text), _)) if !attribute.is_flag() => text,
            Some((Token::Word(word), _)) if attribute.is_flag() && ["true", "false"].contains(&word.as_str()) => word,
            other if attribute.is_flag() => return Err(unexpected(other, "`true` or `false`")),
            other => return Err(unexpected(other, "a text such as 'home'")),
        };
        let known: &[&str] = if attribute == Attribute::Commodity { &["electricity", "water"] } else { &[] };
        let is_channel = attribute != Attribute::Channel || crate::channel::Channel::by_name(&text).is_some();
        match (known.is_empty() || known.contains(&text.as_str())) && is_channel {
            true => Ok(text),
            false => Err(format!("asks for {} '{text}', which there is not", attribute.as_str())),
        }
    }

    fn next(&mut self) -> Option<(Token, usize)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let there =
            matches!(self.tokens.get(self.at), Some((Token::Word(word), _)) if word.eq_ignore_ascii_case(wanted));
        self.at += usize::from(there);
        there
    }

    fn take_mark(&mut self, wanted: &str) -> bool {
        let there = matches!(self.tokens.get(self.at), Some((Token::Mark(mark), _)) if *mark == wanted);
        self.at += usize::from(there);
        there
    }

    fn mark(&mut self, wanted: &str) -> Result<(), String> {
        if self.take_mark(wanted) { Ok(()) } else { Err(unexpected(self.next(), &format!("`{wanted}`"))) }
    }
}

fn unexpected(found: Option<(Token, usize)>, wanted: &str) -> String {
    match found {
        Some((token, place)) => format!("has {token} at place {place}, where {wanted} is wanted"),
        None => format!("ends where {wanted} is wanted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Subject<'_> = Subject {
        commodity: Some("electricity"),
        channel: Some("energy_import_kwh"),
        usage_point: Some("E-1"),
        customer: None,
        node: Some("T-1"),
        class: Some("home"),
        zone: Some("Europe/Madrid"),
        meter: Some("M-1"),
        active: Some(true),
        continuous_use: Some(false),
    };

    #[test]
    fn a_scope_holds_for_those_whom_it_names() {
        for (scope, holds) in [
            ("", true),
            ("commodity = 'electricity'", true),
            ("commodity in ('electricity','water')", true),
            ("COMMODITY IN ('water')", false),
            ("class != 'home'", false),
            ("class <> 'shop' and active", true),
            ("not active or zone = 'Europe/Madrid'", true),
            ("not (active or zone = 'Europe/Madrid')", false),
            ("active = false", false),
            ("continuous_use", false),
            ("class not in ('home', 'farm')", false),
            ("customer_id is null", true),
            ("node_id is not null", true),
            ("customer_id = 'C'", false),
            ("customer_id != 'C'", true),
            // `and` binds closer than `or`.
            ("class = 'home' or class = 'shop' and active = false", true),
            ("channel = 'energy_import_kwh' and meter_id = 'M-1' and usage_point_id = 'E-1'", true),
        ] {
            assert_eq!(Scope::parse(scope).unwrap().holds(&HOME), holds, "{scope}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_scope_is_told_with_its_place() {
        for (scope, complaint) in [
            ("klass = 'home'", "asks for `klass`, which the registry does not have; it has commodity, channel"),
            ("commodity = 'gas'", "asks for commodity 'gas', which there is not"),
            ("channel = 'energy'", "asks for channel 'energy', which there is not"),
            ("class = home", "has `home` at place 9, where a text such as 'home' is wanted"),
            ("class = 'home' active", "has `active` at place 16, where `and` or `or` is wanted"),
            ("class = 'home", "has a text at place 9 that does not end"),
            ("class", "ends where `=`, `!=`, `in (…)` or `is null` is wanted"),
            ("class in ()", "has `)` at place 11, where a text such as 'home' is wanted"),
            ("active = 'yes'", "has 'yes' at place 10, where `true` or `false` is wanted"),
            ("(class = 'a'", "ends where `)` is wanted"),
            ("class = 'a' and", "ends where the name of an attribute is wanted"),
            ("class = 'a'; drop", "has `;` at place 12, which means nothing here"),
            ("class is 'a'", "has 'a' at place 10, where `null` is wanted"),
        ] {
            let error = Scope::parse(scope).unwrap_err();
            assert!(error.starts_with(complaint), "{scope}: {error}");
        }
        assert!(Scope::parse(&format!("{}active", "not ".repeat(30))).unwrap_err().starts_with("goes deeper"));
        assert!(Scope::parse(&format!("class = '{}'", "x".repeat(5000))).unwrap_err().starts_with("is longer"));
    }

    #[test]
    fn no_text_makes_the_reader_fail_badly() {
        let pieces = ["class", "=", "'é'", "(", ")", "not", "in", ",", "and", "é", "'", " "];
        for seed in 0..5000_usize {
            let text: String =
                (0..seed % 9).map(|n| pieces[(seed * 31 + n * 17 + seed / 7 * n) % pieces.len()]).collect();
            let _ = Scope::parse(&text).map(|scope| scope.holds(&HOME));
        }
    }
}
