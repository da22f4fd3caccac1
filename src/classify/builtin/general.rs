//! `general`: knowledge, explanations, advice, recommendations, small talk; also what no other task claims.

use super::super::rule::{Rule, When, ask, text};

pub(super) const RULES: &[Rule] = &[
    ask(
        "a plain question",
        1.0,
        r"\A(?:what|who|when|where|why|which|how|is|are|does|do|did|was|were|if|in what|should|has|have)\b",
    )
    .when(When::Brief),
    ask(
        "asks to answer a question",
        1.8,
        r"\A(?:answer|q:|question:|formulate an answer|combine facts|final exam|here's a complex question)\b",
    )
    .when(When::Moderate),
    ask(
        "asks to explain or describe",
        1.4,
        r"\A(?:explain|describe|define|discuss|tell me (?:about|how|what|why)|what is|what are|give me (?:the|an?) (?:definition|example|list|overview|recipe|cooking)|provide (?:\d+|a list|step|an overview))\b",
    ),
    ask(
        "asks for advice or a plan",
        1.6,
        r"\b(?:recommend|suggest|advice|tips|what should i|how (?:can|do|should|would) (?:i|you|we|one|people|individuals|governments)|best (?:way|practices|strategies)|plan (?:a|for|me)|planning a|itinerary|recipe|in your opinion|checklist|workout|side[- ]effects|effective (?:ways|strategies)|pros and cons|good idea)\b",
    ),
    ask(
        "asks for a list",
        0.9,
        r"\A(?:list|name|give|make|provide|rank|suggest|recommend|create a list|make a list|generate)\b",
    )
    .when(When::Brief),
    ask("what if", 1.6, r"\Awhat if\b|\bhow might\b|\bhow (?:do|does) (?:the|cultural|language|social)\b"),
    ask(
        "about what someone feels or does next",
        2.4,
        r"\bgiven the context: |\band i was wondering\b|\bfeel afterwards\b|\bwant to do next\b|\bpredict a possible question\b",
    ),
    text("a question with lettered answers", 1.6, r"^\(?a[.)] ?[^\n]*\n+\(?b[.)] ?"),
    ask("a blank to fill", 1.0, r"_{3,}"),
    ask(
        "asks about the world (Chinese)",
        2.0,
        r"回答|解释|什么是|是什么|为什么|哪些|哪个|如何|怎么|怎样|谁|介绍|描述|列出|列举|简述|说明|建议|推荐|请问|说出|优缺点|优点|原因|影响|定义|区别|给我|步骤|概念",
    ),
    ask(
        "opens with a question (Chinese)",
        1.4,
        r"\A(?:回答|解释|什么|为什么|列出|列举|简述|说明|描述|介绍|如何|给出(?:下列|以下)问题|解决(?:以下|下列|下面)问题|提供|告诉|说出|讨论|谈谈|分析|推荐|建议|问题|用自己的话)",
    ),
    ask("a question (Spanish)", 1.6, r"\A¿|\b(?:qué es|cuál es|por qué|cómo puedo|explica|recomienda)\b"),
    ask("a question (German)", 1.6, r"\A(?:was|wer|wann|wo|warum|wie|welche[rsn]?|erkläre?|empfiehl|nenne?)\b"),
    ask("a question (French)", 1.6, r"\A(?:qu'est-ce|qui|quand|pourquoi|comment|quel(?:le)?s?|explique\w*|où)\b"),
    ask("a question about a quoted source", 3.0, r"\Athis question refers to the following information"),
    ask(
        "asks for words, a budget, a plan, not for a text",
        1.8,
        r"\b(?:synonyms?|antonyms?|adjectives?|collocations|meaning|budget|menu|recipe|plan|examples? of|spells)\b",
    )
    .when(When::Brief),
    ask("an opinion or a discussion (Chinese)", 1.4, r"论点|观点|意见|看法|辩论|情节|相关信息|历史|比较"),
];
