//! `classification`: choose from a small set of answers for a given text.

use super::super::rule::{Rule, When, ask};

pub(super) const RULES: &[Rule] = &[
    ask(
        "asks to classify",
        3.4,
        r"\b(?:classif(?:y|ies|ied|ication of)|categori[sz]e|label (?:the|this|each)|assign (?:a|the) (?:label|category)|sort (?:the|these) .{0,30} into)\b",
    ),
    ask(
        "asks for a category",
        3.2,
        r"\b(?:which|what|pick one|choose (?:a|one|the)|best|one|correct|possible|all the|the following) (?:\S+ )?(?:category|categories|label|labels|class|topic|section of a newspaper|descriptor|genre|tag)\b|\bwhat category\b|\bbest descriptor\b|\blist of categories\b|\bwhich section\b",
    ),
    ask(
        "a choice of kinds",
        2.0,
        r"\b(?:is this|is the following|would this|are these|what is this) (?:\S+ ){0,4}(?:asking (?:about|for)|regarding|about|piece of)\b|\boptions are\b|\bone of the following categories\b|\bchoose from\b|\bcandidates include\b",
    ),
    ask(
        "asks for the sentiment",
        3.4,
        r"\bsentiment\b|\b(?:positive|negative|favou?rable)(?:,? or | and |/|, )(?:\S+ )?(?:negative|positive|neutral|unfavou?rable)\b|\b(?:positive|negative) (?:tone|impact|review)\b|\bis this (?:product |movie )?review (?:positive|negative)\b",
    ),
    ask(
        "asks what a reviewer felt",
        3.2,
        r"\b(?:how does|how did|did|would|does|is|was) the (?:viewer|reviewer|user|author|customer|writer|critic|speaker)\b[^?\n]*\b(?:feel|enjoy|like|find|recommend|think|satisfied|happy|good or bad)|\bwould you (?:recommend|say he was|say she was)|\b(?:satisfied or dissatisfied|good or bad)\b|\bhow would you rate\b|-rating of this\b",
    ),
    ask(
        "asks whether two texts say the same",
        3.4,
        r"\b(?:mean|convey|say|ask(?:ing)?) the same\b|\bduplicates?\b|\bparaphrases? (?:each other|sentence|of (?:the|sentence))|\bis that a paraphrase\b|\bequivalent\b.{0,20}\bnot equivalent\b|\bsame meaning\b|\bsame thing\b|\bmerge these (?:two )?questions\b|\bcan we rewrite sentence\b|\b(?:are|tell if) they (?:are )?the same\b",
    ),
    ask(
        "two sentences side by side",
        1.6,
        r"^(?:sentence|sent|question|text|premise|hypothesis) ?[12a-b]? ?[:.] [^\n]+\n+(?:sentence|sent|question|text|premise|hypothesis) ?[2b]? ?[:.]",
    ),
    ask(
        "asks about entailment",
        3.0,
        r"\bentail\w*|\bcontradict(?:s|ion|ory)?\b.{0,40}\b(?:neutral|entail)|\bdoes (?:the|this) (?:premise|hypothesis)\b",
    ),
    ask(
        "asks for a fixed answer",
        2.4,
        r"\b(?:output|answer|respond|reply|return|say|print)(?: with)?(?: only| either)? ?\x22?(?:yes|no|true|false|0|1|positive|negative|ethical)\x22?(?:,| or | if | for |\b)|\byes or no[.?]?\s*\z|\btrue or false\b|\btrue, false,? or\b|\bnot at all, no, maybe\b",
    ),
    ask(
        "asks to detect or to judge",
        2.4,
        r"\A(?:detect|identify|determine|decide|predict|judge|verify|check|tell(?: me)?|find|fact[- ]check\w*)\b[^.?\n]*\b(?:if|whether|toxic\w*|spam|hate speech|offensive|intent|sarcas\w*|true|false|bias\w*|stereotype|emotion|topic|language of|genre|category|polarity|part of speech|pos tag|positive|negative)\b",
    ),
    ask(
        "spam, hate, toxicity",
        1.2,
        r"\b(?:spam|hate speech|toxic language|toxic|phishing email|promotion email|gender-biased|passive-aggressive|clickbait)\b",
    ),
    ask(
        "into groups",
        1.6,
        r"\binto (?:\d|two|three|four|five) (?:\S+ )?(?:categories|groups|classes)\b|\bgroup (?:the|these|them)\b",
    ),
    ask(
        "a review to judge",
        1.4,
        r"^(?:review|product review|tweet|comment):|\bbased on this review\b|\bthis (?:product |movie |app )?review\b",
    )
    .when(When::Ample),
    ask(
        "asks to match statements",
        1.6,
        r"\bmatch (?:the|each|these)\b[^.\n]*\b(?:statement|item|list|column|to one of)\b",
    ),
    ask(
        "asks to classify (Chinese)",
        3.8,
        r"分类|归类|类别|分成.{0,20}(?:类|组|情感)|分(?:别)?(?:为|成).{0,40}(?:或|和|类)|情感(?:分析|极性|倾向)|极性|属于.{0,12}(?:类|哪)|词性|描述为.{0,12}或|积极.{0,8}消极|正面.{0,8}负面|肯定.{0,6}否定|归为",
    ),
    ask("a judgement (Chinese)", 1.4, r"\A(?:判断|识别|确定|检测).{0,60}(?:是否|是.{0,10}还是|类型|情感|主题)"),
    ask("asks to classify (Spanish)", 3.4, r"\b(?:clasific\w+|categoriz\w+|sentimiento|positiv[oa] o negativ[oa])\b"),
    ask(
        "asks to classify (German)",
        3.4,
        r"\b(?:klassifizier\w*|kategorisier\w*|stimmung|positiv oder negativ|ordne .{0,60} zu)\b",
    ),
    ask(
        "asks to classify (French)",
        3.4,
        r"\b(?:class(?:e|ez|ifie\w*|er)|catégoris\w*|positif ou négatif|positive ou négative)\b",
    ),
    ask(
        "asks what kind of thing a question asks for",
        2.0,
        r"\bquestion asking (?:for|about)\b|\bis this asking\b|\bpick one:|\brefers to which one\b|\bdescription, entity\b|\bworld news, sports|\balso be used to answer\b|\basking the same\b|\bsupports? the claim\b|\bin a (?:flattering|favou?rable)\b|\bdecrease or increase\b|\bincrease or decrease\b|\bwould the following review\b",
    ),
    ask(
        "a verdict (Chinese)",
        2.0,
        r"真伪|是否(?:正确|相似|相同|属于)|还是.{1,20}(?:问题|关系|句|类)|标记为|组别|相似性|开放问题",
    ),
];
