//! `analysis`: work on text that is given: summarise, extract, answer from it, compare, read a table.

use super::super::rule::{Rule, When, ask, text};

pub(super) const RULES: &[Rule] = &[
    ask("asks for a summary", 3.0, r"\b(?:summari[sz](?:e|es|ing)|sum up|sum the|tl;?dr|in a nutshell|condense|distill?|abstract of|synopsis of|boil (?:it|this) down|recap)\b|\b(?:a|the|brief|short|concise|quick|one-sentence|executive) summar(?:y|ies)\b|\bsummary (?:of|for)\b"),
    ask("asks for the main points", 2.6, r"\b(?:key|main|most important|central) (?:points?|ideas?|takeaways?|arguments?|facts?|findings|themes?|information|highlights|insights)\b|\bbullet points\b.*\b(?:from|of)\b"),
    ask("asks to extract", 2.8, r"\A(?:extract|identify all|list all|find all|pull out|retrieve|parse|highlight|pick out)\b|\bextract (?:the|all|key|any|information|names)\b"),
    ask(
        "asks to answer from a given text",
        3.0,
        r"\b(?:following|given|above|below|this|provided|preceding|attached) (?:\S+ ){0,2}(?:passage|context|paragraph|article|text|excerpt|document|documents|articles|background|story|plot|dialogue|conversation|transcript|report|table|data|dataset|abstract|email|review|movie plot|background article|information)\b",
    )
    .when(When::Ample),
    text("a question beside its context", 2.6, r"^(?:context|passage|paragraph|article|background|document|movie plot|excerpt|text|dialogue|transcript) ?\d?:|\bcontext: "),
    text("a question set apart", 1.2, r"^question ?\d?:|\bthe question:|answer (?:the|this|correctly the) (?:following |above )?question").when(When::Ample),
    ask("asks to answer from the text only", 2.0, r"\b(?:based on|according to|using only|related to|refers? to|contains? an answer|is in|from) (?:the|this|these|that) (?:\S+ ){0,2}(?:context|passage|paragraph|article|text|information|conversation|table|plot|document|movie plot|data|paper|report)s?\b"),
    ask("no answer is an answer", 2.0, r"\b(?:un-?answerable|isn't answerable|can(?:not|'t) answer|no answer|not enough information|insufficient information|cannot be answered)\b").when(When::Ample),
    ask("asks about the plot that follows", 1.8, r"\b(?:movie plot|this movie|film proposal|plot summary|movie title:)").when(When::Ample),
    ask("the answer is in a quoted text", 2.6, r"\bi know that the answer to\b|\bcan you tell me what it is\b|, what is it ?\?|\bi have a test where\b"),
    ask("asks for a title of a given text", 2.6, r"\b(?:generate|write|suggest|give|create|choose|propose|pick) (?:me )?(?:a|the|an appropriate|a suitable) (?:\S+ )?(?:title|headline) (?:for|of|to)\b|\bwhat (?:is|would be) a good title\b"),
    ask("asks to combine documents", 2.2, r"\b(?:synthesi[sz]e|merge|combine|consolidate|edit|distill) (?:\S+ ){0,2}(?:documents?|articles?|reports|sources|texts)\b"),
    ask("asks to analyse or compare what is given", 1.8, r"\A(?:analy[sz]e|compare|contrast|interpret|examine|review|assess|critique|evaluate|break down|diagnose)\b"),
    ask("asks to analyse", 1.0, r"\b(?:analy[sz]e|analysis of|interpret|compare and contrast|pros and cons of the)\b").when(When::Ample),
    ask("asks to put given data into a form", 1.6, r"\b(?:into a table|as a table|table format|into json|as json|json format|in a csv|to bullet points)\b").when(When::Ample),
    ask("asks for keywords or entities", 2.0, r"\b(?:named entit\w+|key ?words? (?:from|in|of)|keyphrases?|entities (?:from|in))\b"),
    ask("a dialogue to read", 1.2, r"^[a-z]\w+: [^\n]+\n[a-z]\w+: [^\n]+\n").when(When::Ample),
    ask("a question for the given text", 1.6, r"\b(?:generate|write|create|ask|come up with) (?:a |some |\d )?(?:\S+ )?questions? (?:about|from|based on|whose|that can be answered|using)\b"),
    ask("summarise or extract (Chinese)", 3.2, r"摘要|总结(?:以下|下|这|上|一下|对话|客户|文|其)|概括|概述|提取|抽取|关键信息|关键词|核心观点|主要内容|主旨|中心思想|找出|归纳|整理"),
    ask("answer from a given text (Chinese)", 3.2, r"(?:根据|基于|阅读|结合|依据|从|对于|给出|给定|用)(?:以下|下面|下列|以上|上述|上面|下方|给出|给定|所?提供|一段|这|该|下)的?.{0,30}(?:文章|文本|对话|段落|内容|材料|信息|故事|短文|表格|数据|诗句|描述|采访|新闻|图表|问答|选项).{0,60}(?:回答|问题|判断|提取|总结|分析|找|列出|给出|选|摘要|概要|填)"),
    ask("answer from a dialogue (Chinese)", 3.6, r"(?:基于|根据)(?:以上|上述|上面|以下)的?(?:对话|内容|采访|文章|信息|文本)|文章内容|从(?:以下|下面|下列)(?:的)?(?:文本|文章|段落|句子|诗句|选项|三个选项)"),
    ask("a title for a given text (Chinese)", 2.6, r"(?:适当|合适|恰当)?的?标题.{0,3}(?::|：)|(?:为|给)(?:这|以下|下面|该|下列).{0,16}(?:标题|题目)|生成一个(?:标题|问题)"),
    ask("a dialogue to read (Chinese)", 1.6, r"(?:客户|用户|客服|顾客|医生|记者|学生|老师|病人|患者|父亲|儿子|经纪人|面试官)(?::|：)").when(When::Ample),
    ask("a choice among options (Chinese)", 1.6, r"选项|选择(?:最佳|正确|一个|合适)|选出"),
    ask("summarise or extract (Spanish)", 3.0, r"\A(?:resum\w+|extrae\w*|analiza\w*|compara\w*)\b|\b(?:según|basándote en|en base a) (?:el|este|la|esta) (?:texto|artículo|párrafo|conversación|tabla)\b"),
    ask("summarise or extract (German)", 3.0, r"\b(?:fass\w* .{0,60}zusammen|zusammenfassung|extrahier\w*|analysier\w*|vergleich\w*)\b|\b(?:laut|anhand|basierend auf) (?:dem|des|der|diesem) (?:text|artikel|absatz|tabelle|gespräch)"),
    ask("summarise or extract (French)", 3.0, r"\A(?:résum\w*|extrai\w*|analys\w*|compar\w*)|\b(?:selon|d'après|à partir de|en te basant sur) (?:le|ce|la|cet|cette) (?:texte|article|paragraphe|conversation|tableau)\b"),
    ask("relations between given facts", 2.6, r"\Ainformation:|\bhas the relation\b|\brelationship between '"),
    ask("details from a biography", 2.6, r"\b(?:read the|following|the) (?:bio|biography) below\b|\bfollowing bio\b|\bgive details on\b|\bkey details\b"),
    text("rows of a table", 2.4, r"^[^,\n]{1,30}(?:,[^,\n]{1,30}){3,}\n[^,\n]{1,30}(?:,[^,\n]{1,30}){3,}\n|^\|?[^|\n]+\|[^|\n]+\|[^|\n]*\n\|?[^|\n]+\|"),
    ask("a question about given sentences (Chinese)", 2.0, r"(?:句子|文字|表格|定义|对话|文本|正文)(?::|：)?.{0,40}(?:回答|问题)|基于以下|压缩|参与者|正文"),
];
