//! `translation`: from one human language to another. Translating a program is `coding`.

use super::super::rule::{Rule, When, ask};

pub(super) const RULES: &[Rule] = &[
    ask("asks to translate", 4.5, r"\A(?:translate|translation|give me the \S+ translation)\b"),
    ask("asks to translate", 3.4, r"\btranslate (?:the|this|that|it|these|from|to|into|following|my|above|below|all|every)\b|\btranslat(?:e|ion)\b[^.\n]{0,60}\b(?:in)?to\b|\btranslation (?:of|into)\b|\b(?:english|french|german|spanish|chinese|japanese|korean|arabic|italian|portuguese|russian|dutch|hindi|turkish|polish|latin) (?:translation|version) of\b"),
    ask("asks for another language", 4.0, r"\b(?:say|put|write|express|render|rewrite|phrase|read) (?:this|that|it|the following|these)\b[^.?\n]{0,30}\b(?:in|into|to) (?:english|french|german|spanish|chinese|mandarin|japanese|korean|arabic|italian|portuguese|russian|dutch|hindi|turkish|polish|vietnamese|thai|greek|hebrew|swedish|ukrainian|latin|indonesian)\b|\bhow (?:do|would|can) (?:you|i|we) say\b.{0,60}\b(?:in|auf|en)\b"),
    ask("now in another language", 3.0, r"\A(?:and |now |ok |okay |then |please )*in(?:to)? (?:english|french|german|spanish|chinese|japanese|korean|arabic|italian|portuguese|russian|dutch|hindi|turkish|polish)\b").when(When::Brief),
    ask("a program to be translated", -3.5, r"\btranslate (?:\S+ ){0,4}(?:code|script|program|function|sql|query|snippet)\b|\btranslate\b[^.\n]{0,80}\b(?:to|into) (?:proper )?(?:python|rust|java|javascript|typescript|c\+\+|c#|go|datalog|sql|kotlin|swift|ruby|php)\b"),
    ask("asks to translate (Chinese)", 5.5, r"翻译|译(?:成|为|文)|(?:用|以)(?:英语|英文|法语|德语|日语|韩语|西班牙语)(?:怎么)?(?:说|表达)|(?:转换|改写)(?:成|为)(?:英文|英语|中文|汉语|法语|德语|日语)"),
    ask("asks to translate (Japanese, Korean)", 5.0, r"翻訳|訳して|번역"),
    ask("asks to translate (Spanish, Portuguese, Italian)", 4.8, r"\b(?:traduce|traduzca|traducir|traduza|traduz|traduzir|traduci|tradurre|tradúce\w*)\b|\btraducción\b|\btradução\b|\btraduzione\b|\b¿?cómo se dice\b|\bcome si dice\b|\bcomo se diz\b"),
    ask("asks to translate (German)", 4.8, r"übersetz|\bwie (?:sagt man|heißt|lautet)\b.{0,60}\b(?:auf|übersetzung)\b"),
    ask("asks to translate (French)", 4.8, r"\btradui\w*|\btraduction\b|\bcomment (?:dit-on|on dit|dire)\b.{0,60}\ben\b"),
    ask("asks to translate (Russian)", 4.8, r"перевед|перевод|Перевед"),
];
