//! `rewrite`: keep the content of given text, change its form.

use super::super::rule::{Rule, ask};

pub(super) const RULES: &[Rule] = &[
    ask(
        "asks to rewrite",
        4.2,
        r"\A(?:paraphras\w+|re-?write|re-?phrase|reword|proofread|copy-?edit|polish|shorten|simplify (?:this|the|my)|edit (?:this|the|my)|tidy up|clean up (?:this|the|my) (?:text|email|paragraph))\b",
    ),
    ask(
        "asks to rewrite",
        2.6,
        r"\b(?:paraphrase (?:the|this|it|my)|rewrite (?:the|this|it|my|as|in)|rephrase|reword|proofread|say (?:this|it) (?:differently|more politely|another way)|in other words:)\b",
    ),
    ask(
        "asks to correct the language",
        3.2,
        r"\b(?:correct|fix|improve|check|find|spot)\b[^.?\n]*\b(?:grammar|grammatical|spelling|misspell\w*|punctuation|typos?|wording)\b|\bis grammatical\b",
    ),
    ask(
        "asks for another tone or form",
        3.0,
        r"\b(?:make|convert|change|turn|transform|rewrite|put)\b[^.?\n]*\b(?:sentence|text|paragraph|email|message|it|this|passage|letter|statement)\b[^.?\n]*\b(?:more|less|sound|into|to|in|to be)\b[^.?\n]*\b(?:formal|informal|professional|polite|concise|shorter|simpler|clear(?:er)?|friendly|casual|fluent|active voice|passive voice|past tense|persuasive|natural|academic|hedges|uncertainty|third person|readable)\b",
    ),
    ask(
        "asks to replace parts of a text",
        2.8,
        r"\A(?:replace|substitute|anonymi[sz]e|redact|remove|fill in|insert)\b[^.?\n]*\b(?:in the (?:\S+ )?(?:text|paragraph|sentence|passage)|names|placeholders?|words?)\b",
    ),
    ask(
        "asks to rewrite (Chinese)",
        4.6,
        r"改写|重写|重新(?:写|编辑|表达|组织|排列)|润色|改(?:成|为|编)|修改|修正|纠正|改正|换(?:一种|个).{0,6}(?:说法|方式|表达)|编辑(?:以下|下面|这|此|下列|一下|给|文|一篇|本|该|段)|(?:短文|文章|文本|段落|句子|内容)(?:进行)?编辑|简化|缩写|扩写|转换(?:为|成)|转(?:为|成|化)|替换|语法错误|错别字|病句|通顺|流畅|合并成|删除|精简|使(?:其|之|得它|它|句子)更",
    ),
    ask(
        "asks to rewrite (Spanish)",
        3.6,
        r"\A(?:reescrib\w+|parafrase\w+|corrig\w+|mejora\w* (?:el|este|la|esta)|reformul\w+|acorta\w*)\b|\bhaz(?:lo)? más (?:corto|formal|claro|sencillo)\b",
    ),
    ask(
        "asks to rewrite (German)",
        3.6,
        r"\b(?:umformulier\w*|formulier\w* .{0,60}um|umschreib\w*|schreib\w* .{0,60}\bum\b|korrigier\w* (?:den|die|diesen|folgenden)|verbesser\w* (?:den|die|diesen|folgenden)|paraphrasier\w*|kürz\w* (?:den|diesen))",
    ),
    ask(
        "asks to rewrite (French)",
        3.6,
        r"\A(?:réécri\w*|reformule\w*|paraphrase\w*|corrige\w*|améliore\w* (?:le|ce|la|cette)|raccourci\w*)|\brends?[- ](?:le|la|ce texte) plus\b",
    ),
    ask(
        "a program to be rewritten",
        -4.5,
        r"\b(?:rewrite|edit|improve|simplify|fix|correct)\b[^.\n]{0,40}\b(?:code|script|function|program|query|class|bash|python|sql|regex)\b",
    ),
];
