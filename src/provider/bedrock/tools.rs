//! Tools and the format of the answer: `toolConfig` and `outputConfig`.

use serde_json::{Value, json};

use super::NAME;
use super::block::cache_point;
use super::maker::Maker;
use crate::provider::adapter::Untranslatable;
use crate::provider::anthropic::{ANSWER_TOOL, encode::close};
use crate::provider::wanted::{Format, Function, Tool, ToolChoice, Wanted, refuse};

/// How a wanted schema is asked for.
pub enum Schema {
    No,
    /// By `outputConfig`.
    Format {
        name: String,
        schema: Value,
    },
    /// By a tool that must be called; see [`ANSWER_TOOL`].
    Tool(Value),
}

impl Schema {
    /// `name` is the caller's for the schema.
    pub fn of(format: &Format, name: Option<&str>, maker: Maker) -> Self {
        let Format::Schema(schema) = format else { return Self::No };
        let mut closed = schema.clone();
        if maker.answers_by_schema() && close(&mut closed) {
            return Self::Format { name: name.unwrap_or("answer").to_owned(), schema: closed };
        }
        Self::Tool(schema.clone())
    }

    /// The member `outputConfig`. The schema is text there.
    pub fn output_config(&self) -> Option<Value> {
        let Self::Format { name, schema } = self else { return None };
        let schema = json!({"name": name, "schema": schema.to_string()});
        Some(json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}))
    }
}

/// The member `toolConfig`.
#[derive(Default)]
pub struct Tools {
    list: Vec<Value>,
    choice: Option<Value>,
    /// Some tool must be called.
    pub is_forced: bool,
}

impl Tools {
    /// `called` are the tools that the conversation has used: Converse wants them declared as long as it does.
    pub fn of(
        wanted: &Wanted,
        schema: &Schema,
        called: &[String],
        maker: Maker,
        notes: &mut Vec<String>,
    ) -> Result<Self, Untranslatable> {
        let mut tools = Self::default();
        let mut choice = wanted.choice.clone();
        if choice == Some(ToolChoice::None) {
            if called.is_empty() {
                choice = None;
            } else {
                notes.push(format!("`tool_choice` `none` has no equivalent at {NAME} in a conversation with tools"));
            }
        }
        if called.is_empty() && wanted.choice == Some(ToolChoice::None) {
            // Tools that must not be called are not offered, which says the same.
        } else {
            for (index, tool) in wanted.tools.iter().enumerate() {
                match tool {
                    Tool::Function(function) => tools.declare(function, maker, notes),
                    Tool::Other { kind, .. } => {
                        let reason = format!("{NAME} knows no tool of type `{kind}`");
                        return Err(refuse(format!("tools[{index}]"), reason));
                    }
                }
            }
            tools.declare_used(wanted, called);
        }
        if let Schema::Tool(schema) = schema {
            let free = matches!(choice, None | Some(ToolChoice::Auto | ToolChoice::Required));
            // Beside the caller's tools the answer is one more way to go on; alone it is the only one.
            choice = match &choice {
                Some(ToolChoice::Named(name)) => Some(ToolChoice::Named(name.clone())),
                _ if free && !wanted.tools.is_empty() => Some(ToolChoice::Required),
                _ => Some(ToolChoice::Named(ANSWER_TOOL.to_owned())),
            };
            tools.list.push(json!({"toolSpec": {
                "name": ANSWER_TOOL,
                "description": "Give the final answer.",
                "inputSchema": {"json": schema},
            }}));
        }
        tools.is_forced = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
        tools.choice = choice.and_then(|choice| match choice {
            ToolChoice::Auto => Some(json!({"auto": {}})),
            ToolChoice::None => None,
            ToolChoice::Required => Some(json!({"any": {}})),
            ToolChoice::Named(name) => Some(json!({"tool": {"name": name}})),
        });
        if !wanted.parallel && !tools.list.is_empty() {
            notes.push(format!("`parallel_tool_calls` has no equivalent at {NAME} and was left out"));
        }
        Ok(tools)
    }

    fn declare(&mut self, function: &Function, maker: Maker, notes: &mut Vec<String>) {
        let mut schema = function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        if let Value::Object(members) = &mut schema
            && !members.contains_key("type")
        {
            members.insert("type".into(), json!("object"));
        }
        let mut spec = json!({"name": function.name, "inputSchema": {"json": schema}});
        if let Some(description) = &function.description {
            spec["description"] = json!(description);
        }
        // The same models that answer by a schema call by one (user guide, Structured outputs).
        if maker.answers_by_schema() && function.extra.get("strict") == Some(&json!(true)) {
            spec["strict"] = json!(true);
        }
        self.list.push(json!({ "toolSpec": spec }));
        let control = function.extra.get("cache_control").filter(|control| !control.is_null());
        match (control, maker) {
            (Some(control), Maker::Claude(_)) => self.list.push(cache_point(control)),
            (Some(_), _) => notes.push("`cache_control` of a tool has no equivalent for this model".to_owned()),
            (None, _) => {}
        }
    }

    /// Declares tools that the conversation has used and the request does not offer any more.
    fn declare_used(&mut self, wanted: &Wanted, called: &[String]) {
        let mut declared: Vec<&str> = wanted.functions().map(|function| function.name.as_str()).collect();
        // Where the request offers tools, Converse does not look for those of the past.
        for name in called.iter().filter(|_| wanted.tools.is_empty()) {
            if !declared.contains(&name.as_str()) {
                declared.push(name);
                let schema = json!({"json": {"type": "object"}});
                self.list.push(json!({"toolSpec": {"name": name, "inputSchema": schema}}));
            }
        }
    }

    pub fn config(self) -> Option<Value> {
        if self.list.is_empty() {
            return None;
        }
        let mut config = json!({ "tools": self.list });
        if let Some(choice) = self.choice {
            config["toolChoice"] = choice;
        }
        Some(config)
    }
}
