//! `roleplay`: take a persona, play a game, stay in character.
//!
//! A persona is often only the frame of a job ("You are an expert in X. Write ..."), which keeps the job's task. So a
//! persona alone weighs less than a job, and a brief turn that opens with one and asks for nothing else wins by default.

use super::super::rule::{Rule, When, ask};

pub(super) const RULES: &[Rule] = &[
    ask("opens with a persona", 1.6, r"\A(?:you are (?:an?|the|now|my|in|playing)|you're|you will be|you'll be|act as|act like|imagine you are|imagine that you are|imagine yourself|assume the role|take on the role|pretend|play the role|your role is|behave (?:as|like)|be my|respond as|from now on you are)\b"),
    ask("a persona and little else", 2.2, r"\A(?:you are (?:an?|the|now|my)|you're|act as|act like|assume the role|your role is)\b").when(When::Moderate),
    ask("asks to pretend", 3.0, r"\A(?:imagine (?:you are|that you are|yourself)|pretend|as an? (?:\S+ ){1,4}(?:captain|colonist|superhero|knight|wizard|pirate|alien|robot|king|queen|explorer|traveler|detective|vampire|dragon|warrior|ghost|chef|survivor)|if you were an?)\b|\bpretend (?:to be|you are|that you)\b|\bintroduce yourself as\b|\bwhat would you (?:say|tell)\b|\bhow would you (?:introduce|declare|describe|explain) (?:your|yourself)"),
    ask("a game to play", 2.6, r"\blet'?s (?:play|role-?play|pretend)\b|\b(?:role-?play|rpg|text adventure|text[- ]based (?:game|adventure)|dungeon master|game master|interactive (?:story|fiction)|choose your own adventure|improv)\b"),
    ask("stay in character", 1.6, r"\b(?:stay in character|in character|in-character|never break character|speak (?:as|like) (?:a|an|the)|answer as (?:a|an)|in the persona)\b"),
    ask("what the persona is to do when spoken to", 1.4, r"\b(?:i will (?:describe|provide|give|type|ask|share|say|be|tell)|when (?:i|users?) (?:share|ask|give|say)|i will act as|my first (?:request|question|sentence|command) is|your (?:role|job|task) is to|you (?:help|specialize|communicate|understand|have|think|break down|respond|explain|write for|value|prioritize|balance|excel|love))\b").when(When::Moderate),
    ask("opens with a persona (Chinese)", 4.0, r"\A(?:你是|你现在是|假设你是|假装你是|扮演|充当|想象你是|你将扮演|作为一(?:名|个|位))|角色扮演"),
    ask("opens with a persona (Japanese, Korean)", 4.0, r"\Aあなたは|당신은"),
    ask("opens with a persona (Spanish, Portuguese, Italian)", 4.0, r"\A(?:eres|actúa como|imagina que eres|tú eres|você é|voce é|aja como|atue como|sei un|sei uno|sei una|agisci come|quiero que actúes|quero que você|voglio che tu)"),
    ask("opens with a persona (German)", 4.0, r"\A(?:du bist|sie sind|handle als|agiere als|stell dir vor, du|spiel\w* die rolle|tu so, als|ich möchte, dass du)\b"),
    ask("opens with a persona (French)", 4.0, r"\A(?:tu es|vous êtes|agis comme|agis en tant que|imagine que tu es|joue le rôle|fais comme si|je veux que tu)\b"),
    ask("opens with a persona (Dutch, Russian, Turkish, Arabic)", 4.0, r"\A(?:je bent|jij bent|ты |вы |Ты |Вы |sen bir|أنت)"),
];
