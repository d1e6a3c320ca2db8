//! Reads a formula: sums of products of signed values, with brackets.

use super::{Function, MAX_DEPTH, MAX_LENGTH, Name, Node, Ratio, Sign};
use crate::channel::Channel;
use crate::decimal::parse_scaled;
use crate::id::UsagePointId;

const NUMBER_SCALE: u8 = 9;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number(String),
    Word(String),
    Text(String),
    Mark(char),
}

struct Parser {
    /// Each with its place, counted from 1.
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

pub(super) fn formula(text: &str) -> Result<Node, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("is longer than {MAX_LENGTH} letters"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let node = parser.sum()?;
    match parser.tokens.get(parser.at) {
        None => Ok(node),
        Some((token, place)) => Err(format!("has `{}` at place {place}, where an operator is wanted", shown(token))),
    }
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, String> {
    let letters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(letter) = letters.get(at).copied() {
        let begin = at;
        let run = |from: usize, is: &dyn Fn(char) -> bool| -> String {
            letters[from..].iter().copied().take_while(|letter| is(*letter)).collect()
        };
        let token = match letter {
            ' ' | '\t' | '\n' => {
                at += 1;
                continue;
            }
            '0'..='9' | '.' => Token::Number(run(at, &|c| c.is_ascii_digit() || c == '.')),
            'a'..='z' | 'A'..='Z' | '_' => Token::Word(run(at, &|c| c.is_ascii_alphanumeric() || c == '_')),
            '"' => {
                let inside = run(at + 1, &|c| c != '"');
                at += inside.chars().count() + 2;
                if at > letters.len() {
                    return Err(format!("has a text at place {} that does not end", begin + 1));
                }
                tokens.push((Token::Text(inside), begin + 1));
                continue;
            }
            '+' | '-' | '*' | '/' | '(' | ')' | '[' | ']' | ',' | '@' => Token::Mark(letter),
            other => return Err(format!("has `{other}` at place {}, which means nothing here", at + 1)),
        };
        at += match &token {
            Token::Number(text) | Token::Word(text) => text.len(),
            Token::Text(_) | Token::Mark(_) => 1,
        };
        tokens.push((token, begin + 1));
    }
    Ok(tokens)
}

fn shown(token: &Token) -> String {
    match token {
        Token::Number(text) | Token::Word(text) => text.clone(),
        Token::Text(text) => format!("\"{text}\""),
        Token::Mark(mark) => mark.to_string(),
    }
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        let (token, _) = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token.clone())
    }

    fn takes(&mut self, mark: char) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((Token::Mark(found), _)) if *found == mark);
        self.at += usize::from(found);
        found
    }

    fn wants(&mut self, mark: char) -> Result<(), String> {
        if self.takes(mark) {
            return Ok(());
        }
        Err(match self.tokens.get(self.at) {
            None => format!("ends where `{mark}` is wanted"),
            Some((token, place)) => format!("has `{}` at place {place}, where `{mark}` is wanted", shown(token)),
        })
    }

    fn sum(&mut self) -> Result<Node, String> {
        self.chain([('+', Sign::Plus), ('-', Sign::Minus)], Self::product)
    }

    fn product(&mut self) -> Result<Node, String> {
        self.chain([('*', Sign::Times), ('/', Sign::By)], Self::value)
    }

    fn chain(&mut self, signs: [(char, Sign); 2], part: fn(&mut Self) -> Result<Node, String>) -> Result<Node, String> {
        self.deeper(|parser| {
            let mut node = part(parser)?;
            while let Some((_, sign)) = signs.iter().find(|(mark, _)| parser.takes(*mark)) {
                node = Node::Two(*sign, Box::new(node), Box::new(part(parser)?));
            }
            Ok(node)
        })
    }

    /// Every recursion goes through here, so that no text can make it too deep.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        // A bracket is three levels: value, sum and product.
        if self.depth >= MAX_DEPTH * 3 {
            return Err(format!("has more than {MAX_DEPTH} brackets or signs within each other"));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn value(&mut self) -> Result<Node, String> {
        if self.takes('-') {
            return self.deeper(|parser| Ok(Node::Negative(Box::new(parser.value()?))));
        }
        if self.takes('(') {
            let node = self.deeper(Self::sum)?;
            self.wants(')')?;
            return Ok(node);
        }
        let place = self.tokens.get(self.at).map_or(0, |(_, place)| *place);
        match self.next() {
            Some(Token::Number(text)) => number(&text).map(Node::Number),
            Some(Token::Word(word)) if self.takes('(') => self.call(&word),
            Some(Token::Word(word)) => self.name(word).map(Node::Name),
            Some(token) => Err(format!("has `{}` at place {place}, where a number or a name is wanted", shown(&token))),
            None => Err("ends where a number, a name or a bracket is wanted".to_owned()),
        }
    }

    fn call(&mut self, word: &str) -> Result<Node, String> {
        let function = match word {
            "min" => Function::Min,
            "max" => Function::Max,
            "abs" => Function::Abs,
            "sum" => return self.sum_over(),
            other => return Err(format!("has no function `{other}`; there are min, max, abs and sum")),
        };
        let mut values = vec![self.deeper(Self::sum)?];
        while self.takes(',') {
            values.push(self.deeper(Self::sum)?);
        }
        self.wants(')')?;
        if function == Function::Abs && values.len() != 1 {
            return Err(format!("gives abs {} values; 1 is wanted", values.len()));
        }
        Ok(Node::Call(function, values))
    }

    fn sum_over(&mut self) -> Result<Node, String> {
        let channel = match self.next() {
            Some(Token::Word(word)) => Channel::by_name(&word),
            _ => None,
        };
        let channel = channel.ok_or("wants the name of a channel in sum(...)")?;
        self.wants(')')?;
        Ok(Node::Name(Name::Sum(channel)))
    }

    fn name(&mut self, word: String) -> Result<Name, String> {
        let channel = Channel::by_name(&word);
        if self.takes('@') {
            let channel = channel.ok_or_else(|| match self.tokens.get(self.at) {
                Some((Token::Text(_), _)) => format!("names a usage point behind `{word}`, which is no channel"),
                _ => format!("wants a usage point in quotes behind `{word}@`"),
            })?;
            let Some(Token::Text(point)) = self.next() else {
                return Err(format!("wants a usage point in quotes behind `{word}@`"));
            };
            let point = UsagePointId::new(&point).map_err(|error| format!("names a usage point: {error}"))?;
            return Ok(Name::Use(channel, Some(point)));
        }
        if let Some(channel) = channel {
            return Ok(Name::Use(channel, None));
        }
        if !self.takes('[') {
            return Ok(Name::Determinant(word, String::new()));
        }
        let Some(Token::Text(part)) = self.next() else {
            return Err(format!("wants the name of a part in quotes behind `{word}[`"));
        };
        self.wants(']')?;
        Ok(Name::Determinant(word, part))
    }
}

fn number(text: &str) -> Result<Ratio, String> {
    let complaint = || format!("has the number {text}; at most {NUMBER_SCALE} decimals and 18 digits are possible");
    let scaled = parse_scaled(text, NUMBER_SCALE).map_err(|_| complaint())?;
    Ratio::new(i128::from(scaled), 10_i128.pow(u32::from(NUMBER_SCALE))).ok_or_else(complaint)
}
