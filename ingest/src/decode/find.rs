//! Follows a map's paths through a message, and judges its conditions.

use meterlake_config::payload_map::{Condition, ConditionTest, Start, Step, TopicParts, ValuePath};
use meterlake_model::DeadReason;

use super::Refusal;
use super::document::{Kind, Value, shortened};

/// Where paths begin.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    /// The reading.
    pub(super) reading: Value<'a>,
    /// The root of the message.
    pub(super) message: Value<'a>,
    /// The item of the last `[*]` on the way to the reading; the message where there is none.
    pub(super) parent: Value<'a>,
    /// The topic's levels.
    pub(super) topic: &'a TopicParts<'a>,
}

impl<'a> Places<'a> {
    /// Of the message alone, before its readings are known.
    pub(super) fn of_message(message: Value<'a>, topic: &'a TopicParts<'a>) -> Self {
        Self { reading: message, message, parent: message, topic }
    }

    /// What stands at a path. Null counts as absent; two of one name are refused, since nobody knows which is meant.
    pub(super) fn find(&self, path: &ValuePath) -> Result<Option<Value<'a>>, Refusal> {
        let value = match &path.start {
            Start::Reading => self.reading,
            Start::Message => self.message,
            Start::Parent => self.parent,
            Start::Topic(name) => return Ok(self.topic.get(name).map(Value::of_text)),
        };
        below(value, &path.steps)
    }

    /// The first that is there.
    pub(super) fn find_first(&self, paths: &[ValuePath]) -> Result<Option<Value<'a>>, Refusal> {
        for path in paths {
            if let Some(value) = self.find(path)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Whether all conditions hold.
    pub(super) fn meet_all(&self, conditions: &[Condition]) -> Result<bool, Refusal> {
        for condition in conditions {
            if !self.meet(condition)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether one of the conditions holds.
    pub(super) fn meet_any(&self, conditions: &[Condition]) -> Result<bool, Refusal> {
        for condition in conditions {
            if self.meet(condition)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn meet(&self, condition: &Condition) -> Result<bool, Refusal> {
        let found = self.find_first(&condition.paths)?;
        Ok(match &condition.test {
            ConditionTest::Exists(wanted) => found.is_some() == *wanted,
            ConditionTest::AnyOf(texts) => found.is_some_and(|value| texts.iter().any(|text| reads(value, text))),
        })
    }

    /// Where readings stand, each with its parent: the path may hold `[*]`.
    pub(super) fn find_each(&self, path: &ValuePath) -> Result<Vec<(Value<'a>, Value<'a>)>, Refusal> {
        let mut found = Vec::new();
        each(self.message, self.message, &path.steps, &mut found)?;
        Ok(found)
    }
}

fn below<'a>(mut value: Value<'a>, steps: &[Step]) -> Result<Option<Value<'a>>, Refusal> {
    for step in steps {
        let next = match step {
            Step::Key(key) => value.member(key).map_err(|()| twice(key))?,
            Step::Index(index) => value.items().nth(*index),
            Step::Where { key, text } => only(value, key, text)?,
            // Only on the way to readings, see `find_each`.
            Step::Each => None,
        };
        match next {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    Ok((value.kind() != Kind::Null).then_some(value))
}

/// The only item whose member reads so.
fn only<'a>(list: Value<'a>, key: &str, text: &str) -> Result<Option<Value<'a>>, Refusal> {
    let mut found = None;
    for item in list.items() {
        let member = item.member(key).map_err(|()| twice(key))?;
        if member.is_some_and(|member| reads(member, text)) && found.replace(item).is_some() {
            return Err(twice(&format!("{key}={text}")));
        }
    }
    Ok(found)
}

fn each<'a>(
    value: Value<'a>,
    parent: Value<'a>,
    steps: &[Step],
    found: &mut Vec<(Value<'a>, Value<'a>)>,
) -> Result<(), Refusal> {
    let Some(place) = steps.iter().position(|step| *step == Step::Each) else {
        found.extend(below(value, steps)?.map(|value| (value, parent)));
        return Ok(());
    };
    let Some(many) = below(value, &steps[..place])? else { return Ok(()) };
    for item in many.items().chain(many.members().map(|(_, member)| member)) {
        each(item, item, &steps[place + 1..], found)?;
    }
    Ok(())
}

/// Whether a scalar reads like this.
fn reads(value: Value<'_>, text: &str) -> bool {
    !matches!(value.kind(), Kind::List | Kind::Object) && value.unescaped() == text
}

/// Nobody knows which is meant.
pub(super) fn twice(name: &str) -> Refusal {
    Refusal::new(DeadReason::BadValue, format!("`{}` is there twice", shortened(name)))
}
