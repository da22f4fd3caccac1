//! `housekeeping`: what chat front ends ask behind the user's back: titles, tags, follow-ups, search queries.
//!
//! These calls are frequent, short and unimportant, so they are worth telling apart: a small model will do. They wrap
//! the conversation, which is full of other tasks' words, so their weights are high and anchored at the start.

use super::super::rule::{Rule, ask};

const DECISIVE: f64 = 12.0;

pub(super) const RULES: &[Rule] = &[
    // Open WebUI starts its background prompts with this heading and ends them with the history.
    ask(
        "a background task of a chat front end",
        DECISIVE,
        r"\A(?:### )?task:\s+(?:generate|create|suggest|analy[sz]e the chat|you are an autocompletion|determine)\b.*(?:title|tags?|follow-?up|quer|categor|autocomplet|emoji|chat history|search)",
    ),
    ask("an autocompletion of what the user types", DECISIVE, r"\A(?:### )?task:\s+you are an autocompletion system"),
    ask("a chat history in tags", 3.0, r"</?chat_history>|### chat history:"),
    ask(
        "a title for the conversation",
        DECISIVE,
        r"\A(?:provide|generate|create|write|give|suggest|come up with|make|return|reply with)\b.{0,60}\b(?:title|headline|name)\b.{0,40}\b(?:for|of|to|that summari[sz]es|summari[sz]ing|describing)\b.{0,20}\b(?:conversation|chat|discussion|thread)\b",
    ),
    ask(
        "a title for the conversation",
        DECISIVE,
        r"\A(?:summari[sz]e|name|title) (?:the|this|our|my) (?:conversation|chat|discussion)\b.{0,30}\b(?:in|with|using|as a)\b.{0,30}(?:words?|title|phrase|topic)",
    ),
    ask(
        "a title for the conversation",
        DECISIVE,
        r"\b(?:concise|short|brief),? (?:\S+ )?(?:\d+|two|three|four|five|six)[- ](?:to )?(?:\d+|\S+)?[- ]?words?\b.{0,30}\b(?:title|phrase|headline)\b.{0,60}\b(?:conversation|chat|header|user's query|discussion)\b",
    ),
    ask(
        "a summary of the conversation so far",
        DECISIVE,
        r"\A(?:write |create |provide |give me )?(?:a )?(?:brief |short |concise |detailed )?summar(?:y of|i[sz]e) (?:the|our|this) (?:conversation|chat|discussion|dialogue)(?: history)? (?:so far|above|up to|to date|thus far)",
    ),
    ask(
        "follow-up questions for the user",
        DECISIVE,
        r"\A(?:suggest|generate|provide|propose)\b.{0,30}\bfollow-?up (?:questions?|prompts?)\b.{0,60}\b(?:user|conversation|chat)\b",
    ),
    ask(
        "a title for the conversation (other languages)",
        DECISIVE,
        r"(?:生成|起|拟|取|总结).{0,30}(?:对话|聊天|会话).{0,20}标题|为(?:本次|这个|这段|以上|当前)?(?:对话|聊天|会话).{0,20}标题|\A(?:genera|crea|escribe|propon).{0,40}título.{0,30}(?:conversación|chat)|\A(?:erstelle|generiere|schreibe|gib).{0,40}titel.{0,30}(?:unterhaltung|gespräch|chat|konversation)|\A(?:génère|générez|crée|écris|donne).{0,40}titre.{0,30}(?:conversation|discussion|chat)",
    ),
];

/// Some front ends put the order into the system message and the conversation into the user's.
pub(in super::super) fn is_housekeeping(system: &str) -> bool {
    // 512 bytes at most, and nearly always empty: plain searches are enough.
    let system = system.to_ascii_lowercase();
    let makes =
        ["generate", "create", "write", "you are a", "your task", "produce"].iter().any(|verb| system.contains(verb));
    let thing = [
        "title generator",
        "title for the conversation",
        "title for this conversation",
        "title for the chat",
        "conversation title",
        "chat title",
        "name for the conversation",
        "thread title",
        "title of the conversation",
        "follow-up questions for the user",
        "conversation summarizer",
    ];
    makes && thing.iter().any(|thing| system.contains(thing))
}
