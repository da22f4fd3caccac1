//! Several requests in a row, each made of what the earlier ones gave; and what undoes them, if one fails.
//!
//! Decides from values: a declaration and the steps as they stand give what is to be done next. So a saga needs no state of
//! its own: whoever looks at its steps after a crash goes on where it was.

pub mod template; // requests with places for earlier results

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::jobs::job::Status;

/// Steps in one saga.
pub const MOST_STEPS: usize = 50;

/// A saga as its caller declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// For `{{input.*}}`.
    #[serde(default, deserialize_with = "or_nothing")]
    pub input: Map<String, Value>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// For `{{steps.NAME.*}}`: letters, digits, `_` and `-`; another one for each step.
    pub name: String,
    /// Where it would be sent.
    #[serde(default = "chat", deserialize_with = "or_chat")]
    pub path: String,
    /// Its body; texts may hold places for earlier results.
    pub request: Map<String, Value>,
    /// Undoes it, if a later step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Undo>,
}

/// What undoes a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    #[serde(default = "chat", deserialize_with = "or_chat")]
    pub path: String,
    pub request: Map<String, Value>,
}

/// Null is as good as nothing.
fn or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn or_chat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(chat))
}

fn chat() -> String {
    "/v1/chat/completions".to_owned()
}

/// Why a declaration cannot be carried out: the member at fault, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{at}`: {reason}")]
pub struct Undeclared {
    pub at: String,
    pub reason: String,
    /// Each step is fine; together they are not.
    pub is_conflict: bool,
}

impl Declared {
    /// Names are fine and every place in a text leads to the input or to an earlier step.
    pub fn check(&self) -> Result<(), Undeclared> {
        let wrong = |at: String, reason: String| Err(Undeclared { at, reason, is_conflict: false });
        if self.steps.is_empty() || self.steps.len() > MOST_STEPS {
            return wrong("steps".to_owned(), format!("a saga has 1 to {MOST_STEPS} steps"));
        }
        let mut known: Vec<&str> = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            let at = |member: &str| format!("steps[{number}].{member}");
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if step.name.is_empty() || step.name.len() > 64 || !step.name.bytes().all(fits) {
                return wrong(at("name"), "a name has 1 to 64 letters, digits, `_` or `-`".to_owned());
            }
            if known.contains(&step.name.as_str()) {
                let reason = format!("`{}` is the name of an earlier step, too", step.name);
                return Err(Undeclared { at: at("name"), reason, is_conflict: true });
            }
            template::check(&step.request, &self.input, &known).map_err(|reason| Undeclared {
                at: at("request"),
                reason,
                is_conflict: false,
            })?;
            known.push(&step.name);
            if let Some(undo) = &step.compensate {
                template::check(&undo.request, &self.input, &known).map_err(|reason| Undeclared {
                    at: at("compensate.request"),
                    reason,
                    is_conflict: false,
                })?;
            }
        }
        Ok(())
    }
}

/// How a step or its undoing stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub status: Status,
    /// The body of its answer.
    pub body: Value,
    pub error: Option<String>,
}

/// Steps by their numbers, and what undoes them by theirs; only those that were begun.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub steps: BTreeMap<usize, Done>,
    pub undone: BTreeMap<usize, Done>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Send this to that path, as the step with this number or as what undoes it.
    Begin {
        number: usize,
        undoes: bool,
        path: String,
        request: Map<String, Value>,
    },
    /// Something is under way.
    Wait {
        number: usize,
        undoes: bool,
    },
    Completed,
    /// A step failed, and what was done before it is undone as far as that worked. A sentence.
    Failed(String),
}

impl Declared {
    /// What is to be done, given how everything stands.
    pub fn next(&self, standing: &Standing) -> Next {
        let results = self.results(standing);
        for (number, step) in self.steps.iter().enumerate() {
            match standing.steps.get(&number) {
                None => return self.begin(number, false, &step.path, &step.request, &results, standing),
                Some(done) if !done.status.has_ended() => return Next::Wait { number, undoes: false },
                Some(done) if done.status == Status::Completed => {}
                Some(done) => {
                    let error = done.error.as_deref().unwrap_or(done.status.as_str());
                    return self.undo(number, &format!("step `{}` failed: {error}", step.name), &results, standing);
                }
            }
        }
        Next::Completed
    }

    /// What undoes the steps before one, last first.
    fn undo(&self, failed: usize, why: &str, results: &Map<String, Value>, standing: &Standing) -> Next {
        let mut stuck = Vec::new();
        for (number, step) in self.steps.iter().enumerate().take(failed).rev() {
            let Some(undo) = &step.compensate else { continue };
            match standing.undone.get(&number) {
                None => {
                    return match template::filled(&undo.request, &self.input, results) {
                        Ok(request) => Next::Begin { number, undoes: true, path: undo.path.clone(), request },
                        Err(reason) => Next::Failed(format!("{why}; `{}` cannot be undone: {reason}", step.name)),
                    };
                }
                Some(done) if !done.status.has_ended() => return Next::Wait { number, undoes: true },
                Some(done) if done.status == Status::Completed => {}
                Some(_) => stuck.push(step.name.as_str()),
            }
        }
        Next::Failed(match stuck.is_empty() {
            true => why.to_owned(),
            false => format!("{why}; what undoes {} failed, too", stuck.join(", ")),
        })
    }

    fn begin(
        &self,
        number: usize,
        undoes: bool,
        path: &str,
        request: &Map<String, Value>,
        results: &Map<String, Value>,
        standing: &Standing,
    ) -> Next {
        match template::filled(request, &self.input, results) {
            Ok(request) => Next::Begin { number, undoes, path: path.to_owned(), request },
            // An earlier answer is not what this step needs: that is a failure like any other.
            Err(reason) => {
                let why = format!("step `{}` cannot be made: {reason}", self.steps[number].name);
                self.undo(number, &why, results, standing)
            }
        }
    }

    /// What texts may refer to: by step, its whole body and the text that a model said.
    fn results(&self, standing: &Standing) -> Map<String, Value> {
        let done = |(number, step): (usize, &Step)| {
            let done = standing.steps.get(&number).filter(|done| done.status == Status::Completed)?;
            let text = template::text_of(&done.body);
            let json = serde_json::from_str::<Value>(template::without_fence(&text)).unwrap_or_default();
            let result = serde_json::json!({"body": done.body, "text": text, "json": json});
            Some((step.name.clone(), result))
        };
        self.steps.iter().enumerate().filter_map(done).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared() -> Declared {
        let undo = |what: &str| json!({"request": {"messages": [{"content": format!("undo {what}: {{{{steps.{what}.text}}}}")}]}});
        serde_json::from_value(json!({
            "input": {"topic": "wells"},
            "steps": [
                {"name": "one", "request": {"messages": [{"content": "about {{input.topic}}"}]}, "compensate": undo("one")},
                {"name": "two", "request": {"messages": [{"content": "more of {{steps.one.text}}"}]}, "compensate": undo("two")},
                {"name": "three", "request": {"messages": [{"content": "last"}]}},
            ],
        }))
        .expect("a saga")
    }

    fn done(status: Status, text: &str) -> Done {
        Done { status, body: json!({"choices": [{"message": {"content": text}}]}), error: Some("e: broken".to_owned()) }
    }

    fn content(next: &Next) -> (usize, bool, &str) {
        let Next::Begin { number, undoes, request, .. } = next else { panic!("{next:?}") };
        (*number, *undoes, request["messages"][0]["content"].as_str().expect("text"))
    }

    #[test]
    fn steps_go_on_one_after_the_other_with_what_came_before() {
        let saga = declared();
        saga.check().expect("fine");
        let mut standing = Standing::default();
        assert_eq!(content(&saga.next(&standing)), (0, false, "about wells"));
        standing.steps.insert(0, done(Status::Running, ""));
        assert_eq!(saga.next(&standing), Next::Wait { number: 0, undoes: false });
        standing.steps.insert(0, done(Status::Completed, "a \"deep\" one"));
        assert_eq!(content(&saga.next(&standing)), (1, false, "more of a \"deep\" one"));
        standing.steps.insert(1, done(Status::Completed, "b"));
        standing.steps.insert(2, done(Status::Completed, "c"));
        assert_eq!(saga.next(&standing), Next::Completed);
    }

    #[test]
    fn a_failure_undoes_what_was_done_last_first_and_goes_on_if_undoing_fails() {
        let saga = declared();
        let mut standing = Standing::default();
        standing.steps.insert(0, done(Status::Completed, "a"));
        standing.steps.insert(1, done(Status::Completed, "b"));
        standing.steps.insert(2, done(Status::Dead, ""));
        assert_eq!(content(&saga.next(&standing)), (1, true, "undo two: b"));
        standing.undone.insert(1, done(Status::Failed, ""));
        assert_eq!(content(&saga.next(&standing)), (0, true, "undo one: a"));
        standing.undone.insert(0, done(Status::Completed, ""));
        let Next::Failed(why) = saga.next(&standing) else { panic!("it has failed") };
        assert_eq!(why, "step `three` failed: e: broken; what undoes two failed, too");
        standing.steps.insert(0, done(Status::Failed, ""));
        standing.steps.retain(|number, _| *number == 0);
        assert_eq!(saga.next(&standing), Next::Failed("step `one` failed: e: broken".to_owned()), "nothing to undo");
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_its_place() {
        let wrong = |change: &dyn Fn(&mut Value)| {
            let mut value = serde_json::to_value(declared()).expect("JSON");
            change(&mut value);
            let saga: Declared = serde_json::from_value(value).expect("a saga");
            saga.check().expect_err("wrong").to_string()
        };
        let later = wrong(&|saga| saga["steps"][0]["request"]["messages"][0]["content"] = json!("{{steps.two.text}}"));
        assert!(later.starts_with("`steps[0].request`: ") && later.contains("steps.two"), "{later}");
        let twice = wrong(&|saga| saga["steps"][1]["name"] = json!("one"));
        assert!(twice.starts_with("`steps[1].name`"), "{twice}");
        assert!(wrong(&|saga| saga["input"] = json!({})).contains("input.topic"));
        assert!(wrong(&|saga| saga["steps"] = json!([])).contains("1 to 50"));
    }
}
