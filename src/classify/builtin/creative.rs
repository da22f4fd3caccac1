//! `creative`: compose new text: stories, poems, mails, posts, advertisements, essays, dialogues.

use super::super::rule::{Rule, When, ask};

pub(super) const RULES: &[Rule] = &[
    ask(
        "asks to compose a text",
        3.2,
        r"\b(?:write|compose|draft|create|craft|generate|make up|come up with|develop|produce|prepare|pen|invent|give me|tell|structure|introduce)\b[^.?!\n]*\b(?:story|stories|poems?|haiku|sonnet|limerick|songs?|lyrics|rap|e-?mails?|letters?|essays?|blog(?: post)?|posts?|tweets?|articles?|novel|scenes?|screenplay|play|monologue|dialogues?|dialog|conversation|speech|jokes?|riddle|pun|slogans?|taglines?|ads?|advert\w*|commercials?|press release|newsletter|reviews?|cover letter|resume|cv|biography|bio|obituary|toast|invitation|caption|product description|job (?:description|ad|posting)|fairy tale|fable|parody|podcast|video script|animation script|metaphors?|proverb|greeting|plot|character|backstory|headlines?|proposal|statement of purpose|essay|survey|quiz|literature review|section of|background section|requirements specification|goals|course|workshops?|report|brochure|flyer|manual|announcement|description)\b",
    ),
    ask(
        "opens with composing",
        1.2,
        r"\A(?:write|compose|draft|craft|pen|create|generate|come up with|make up|brainstorm|invent|expand)\b(?: \S+){0,8} (?:an?|the|some|\d+[- ]star|about|sentences?|paragraphs?)\b",
    ),
    ask(
        "asks for a funny or imaginary thing",
        1.6,
        r"\b(?:funny|humorous|hilarious|imaginary|fictional|captivating|catchy|whimsical|heartfelt|spooky|vivid|compelling|engaging|creative) (?:\S+ ){0,2}(?:story|poem|scene|joke|email|post|essay|answer|article|review|intro|opening|character|name|blog|storyline|question)\b",
    ),
    ask(
        "a text from key words or facts",
        2.8,
        r"\b(?:generate|form|write|make|create|put)\b[^.\n]*\b(?:sentences?|paragraph|text|story|passage)\b[^.\n]*\b(?:with (?:all|the|these)|that contains?|that ends|using|concepts|words|facts|key plot points)\b|\bput the concepts together\b|\bgenerate a sentence\b|\bgiven the (?:facts|list of concepts)\b",
    ),
    ask(
        "a text from a summary, a title, a plot",
        3.2,
        r"\bmatches this summary\b|\b(?:given|following|this) title\b|\bexpand(?:ed)? (?:the|this|an?|news)\b|\bbuild a (?:movie|story) plot\b|\bfrom (?:the following|this|key) (?:summary|outline|plot|plot points)\b|\bwrite an? \S* ?(?:article|story|dialogue|script|post) (?:with|from|that|about|based|around)\b|\bfacts, compose\b|\bstorylines?\b|\boutline into\b|\bstructured data\b",
    ),
    ask(
        "asks to go on with a text",
        2.6,
        r"\A(?:complete|continue|finish) (?:the|this|my) (?:\S+ )?(?:story|paragraph|lyrics|poem|song|sentence|essay|text|article|script|dialogue)\b",
    ),
    ask(
        "asks for a joke",
        2.6,
        r"\A(?:tell|give|write|make)(?: me)? (?:an? )?(?:\S+ ){0,2}(?:jokes?|pun|riddle|metaphor|simile|tongue twister)\b",
    ),
    ask(
        "a style to write in",
        1.2,
        r"\bin the style of\b|\bin the voice of\b|\bwith (?:vivid|sensory|rich) \w+|\b\d+[- ]words?\b|\bword count\b|\btone should\b",
    ),
    ask(
        "a reply to write",
        2.4,
        r"\A(?:reply|respond) to (?:the|this) (?:e-?mail|message|letter|review)\b|\b(?:resignation|apology|recommendation|thank[- ]you|complaint|formal|love) (?:letter|e-?mail|note)\b|\bby sending an email\b",
    ),
    ask(
        "ideas for names",
        1.6,
        r"\b(?:brainstorm|suggest|come up with|think of|give me|list) (?:\S+ ){0,4}(?:names?|ideas? for|titles|slogans|resolutions|flavou?rs?)\b",
    ),
    ask(
        "asks to write a text (Chinese)",
        2.8,
        r"(?:写|撰写|创作|编写|生成|起草|拟|编|续写|作|提供|设计|填写|制作|编辑).{0,40}(?:故事|小说|诗|文章|作文|短文|邮件|信|广告|文案|新闻|报道|报告|演讲|对话|剧本|歌词|口号|标语|笑话|简历|手册|介绍|段落|散文|日记|评论|总结|推文|推荐|方案|计划|论文|脚本|剧情|句子|描述|稿|日程|梗概|概要|开场白|话术|模板|传记|情节|谜语|对联|祝福|通知|faq)",
    ),
    ask(
        "asks for a story or an advertisement (Chinese)",
        1.6,
        r"广告|故事|诗歌|小说|作文|口号|新闻稿|文案|剧本|散文|短文|篇.{0,16}(?:文章|作文|论文)|想象力|创意|构思",
    ),
    ask(
        "opens with composing (Chinese)",
        1.2,
        r"\A(?:写|撰写|创作|编写|生成|起草|续写|设计|为.{1,30}(?:写|编写|撰写|创作|设计|生成)|根据.{1,40}(?:写|编写|撰写|创作|生成|编辑)|以.{1,30}为(?:题|主题)|给我(?:一个|写|讲))",
    ),
    ask("a length in characters (Chinese)", 1.4, r"\d+ ?字"),
    ask(
        "asks to compose (Spanish)",
        3.0,
        r"\b(?:escribe|redacta|crea|compón|inventa|cuéntame)\b[^.\n]*\b(?:historia|cuento|poema|canción|correo|carta|ensayo|artículo|eslogan|anuncio|guion|discurso|chiste|publicación)\b",
    ),
    ask(
        "asks to compose (German)",
        3.0,
        r"\b(?:schreib\w*|verfass\w*|dicht\w*|erfinde\w*|erzähl\w*|entwirf)\b[^.\n]*\b(?:geschichte|gedicht|lied|e-?mail|brief|aufsatz|artikel|slogan|werbe\w*|rede|witz|beitrag|märchen|drehbuch|erzählung)",
    ),
    ask(
        "asks to compose (French)",
        3.0,
        r"(?:écri\w*|rédige\w*|compose\w*|invente\w*|raconte\w*|crée\w*)[^.\n]*\b(?:histoire|conte|poème|chanson|e-?mail|courriel|lettre|essai|article|slogan|annonce|discours|blague|publication|scénario)\b",
    ),
    ask(
        "a plan, a recipe or advice is not a text to compose",
        -0.8,
        r"\b(?:recipe|workout|meal plan|itinerary|best practices|step-by-step instructions|checklist|grocery)\b",
    )
    .when(When::Brief),
    ask(
        "concepts into a sentence",
        2.8,
        r"\bconcepts to a sentence\b|\bsyllabus\b|\bmake up (?:a|an|some)\b|\bwrite an? (?:answer|service catalog\w*|speech|statement)\b",
    ),
    ask(
        "asks to compose (Chinese), other kinds",
        2.0,
        r"一篇|一段(?:描述|文字|关于|介绍)|随笔|给我一个句子|描绘|编写一个段落|生成一组问题",
    ),
    ask(
        "a new text from a summary (Chinese)",
        4.0,
        r"(?:根据|给定|基于).{0,20}(?:摘要|大纲|标题|主题|关键词|描述|信息|资料|内容).{0,12}(?:生成|写|编写|撰写|创作|编辑).{0,16}(?:文章|新闻|故事|报道|邮件|总结|概要|报告)",
    ),
];
