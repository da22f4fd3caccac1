//! `reasoning`: mathematics, logic, puzzles, word problems, proofs.

use super::super::rule::{Rule, When, ask, text};

pub(super) const RULES: &[Rule] = &[
    ask(
        "asks for a quantity that follows from numbers",
        2.6,
        r"\bhow (?:many|much|far|long|old|fast|tall|wide|big|often|heavy)\b|\bwhat (?:is|was|will be|would be|are) (?:the|his|her|their|its) (?:\S+ ){0,3}(?:total|sum|difference|average|mean|percentage|percent|price|cost|profit|number|ratio|length|area|volume|perimeter|speed|age|amount|probability|value|weight|height|angle|distance|median|slope|product|remainder)\b|\bwhat (?:percent|percentage|fraction)\b",
    )
    .when(When::Numbers),
    ask("asks for a total", 1.2, r"\b(?:in total|altogether|in all|total (?:number|amount|cost)|remaining|left over|are left|is left|have left|each|per (?:day|hour|week|month|year|minute|person|pound)|twice as|half (?:as|of|the)|times as (?:many|much)|more than|fewer than|less than|as many|at the end|combined)\b").when(When::Numbers),
    text("amounts of money", 0.8, r"\$ ?\d").when(When::Numbers),
    ask("asks to solve or prove", 2.8, r"\A(?:solve|solving|prove|proof|compute|calculate|evaluate|simplify|factor|integrate|differentiate|derive|determine whether|show that|find the (?:value|sum|product|area|volume|degree|derivative|integral|probability|number|maximum|minimum|limit|root|solution|equation|slope|distance|characteristic|order|greatest|least)|use mental math)\b"),
    ask("asks to solve or prove", 1.5, r"\b(?:solve (?:for|the|this)|prove (?:that|the|it)|find the value|what is the value of|show your (?:work|steps)|step[- ]by[- ]step solution|math(?:ematical|ematics)? (?:problem|question|puzzle)|word problem|logic puzzle|riddle|brain ?teaser|syllogism|logically (?:sound|valid|equivalent))\b"),
    text("an equation", 2.0, r"\b\d*[xyzn] ?[-+*/^=] ?\d|\d ?(?:[+*/=^]|÷|×) ?\d*[a-z(]?\b ?=|[a-z]\([a-z]\) ?= ?[-\d(a-z]|\d ?\^ ?\d|\d[a-z] ?[-+=] ?\d|\d ?(?:×|÷) ?\d").when(When::Moderate),
    text("mathematical notation", 2.4, r"\\(?:frac|sqrt|sum|int|mathbb|ket|circ|cdot|times|le|ge|infty|alpha|theta|lambda|begin\{)|∀|∃|∈|ℝ|√|∑|∫|≤|≥|∞|π|⊂|⇒|\$[^$\n]{1,60}\^[^$\n]{1,60}\$|\$[a-z]\$|\b(?:sqrt|log|sin|cos|tan)\("),
    ask(
        "terms of mathematics",
        1.8,
        r"\b(?:equations?|polynomials?|integers?|prime numbers?|probability|theorem|lemma|matrix|matrices|eigen\w+|vector space|subgroup|abelian|homomorphism|isomorphi\w+|permutations?|ring|field extension|derivative|integral|logarithm\w*|quadratic|geometry|triangle|rectangle|circle|radius|perimeter|hypotenuse|polygon|line segment|coordinate|slope|fraction|decimal|multiple of|divisible|remainder|confidence interval|standard deviation|variance|binomial|combinatori\w+|modulo|mod \d|bijection|injective|tautology|truth table|premises?|propositional|sequences?|arithmetic|expected value|dice|cyclic|ideal|z_\d+|expression)\b",
    )
    .when(When::Moderate),
    ask(
        "terms of physics",
        2.0,
        r"\b(?:velocity|acceleration|m/s|momentum|kinetic energy|friction(?:al)?|capacitor|resistor|ohms?|voltage|magnetic field|electric field|newtons?|joules?|wavelength|frequency|isothermal|adiabatic|thermodynamic\w*|torque|angular|inclined? plane|projectile|ideal gas|circuit|pendulum|collision|inertia|photons?|diffraction|heat (?:is|added|transferred)|liters?|gravitational|kilograms?|mol|moles|equilibrium|fluid|buoyan\w+)\b",
    )
    .when(When::Numbers),
    ask("asks for the reasoning itself", 1.8, r"\b(?:reasoning step|your reasoning|step[- ]by[- ]step\. *\z|think step by step|through your reasoning|thinking logically|deduce|infer logically|explain your (?:answer|reasoning)|write down the reasoning|logical(?:ly)? (?:conclusion|reasoning|follow))\b"),
    ask("an estimate", 1.5, r"\Ahow many\b[^?]*\? (?:try to )?explain"),
    ask("a race, a queue, a relative: a classic puzzle", 1.6, r"\b(?:overt[oa]k\w+|finished (?:after|before)|taller than|older than|to the (?:left|right) of|(?:brother|sister|father|mother|son)s? (?:of|has)|all \w+ are \w+|the (?:second|third|last) person|which of these .{0,40} doesn't|different from the (?:rest|others)|same analogy|is to .{1,30} as .{1,30} is to)\b"),
    ask("a competition problem", 1.0, r"\b(?:suppose|let|given that|assume) (?:that )?[a-z]\b"),
    ask("asks for a quantity (Chinese)", 3.0, r"多少|几(?:个|只|条|本|天|元|人|次|支|米|千米|页|岁|倍|棵|辆|小时|分钟|升|块|张|名|件|箱|盒|袋|段|种|位|克|分之)|求|百分之|倍").when(When::Numbers),
    ask("a mathematical job (Chinese)", 2.6, r"计算|解方程|方程|证明|数学|应用题|概率|面积|体积|周长|平均数|因式分解|函数值|推理|逻辑|解题|乘以|除以|列式|等差|等比"),
    text("units of word problems (Chinese)", 1.0, r"\d ?(?:千克|千米|厘米|平方米|元|公顷|吨|个|只|米|人|本|棵|岁|天|盒|箱|页|台|支|条|升|克|辆)").when(When::Numbers),
    ask("asks for a quantity (Spanish, German, French)", 3.2, r"\b(?:cuánt[oa]s?|wie ?viele?|combien)\b").when(When::Numbers),
    ask("a mathematical job (Spanish, German, French)", 2.4, r"\A(?:resuelve|calcula|demuestra|löse|berechne|beweise|résou\w*|calcule[rz]?|démontre[rz]?|prouve[rz]?)"),
    ask("a word problem: facts first, then the quantity asked for", 2.6, r"[.,;!] [^.?!\n]*\b(?:how (?:many|much|long|far|old|tall|fast)|what (?:is|was|will be) (?:his|her|their|the (?:total|price|number|average|difference|age|cost|amount|grade|distance|sum)))\b[^.\n]*\?? *\z").when(When::Moderate),
    ask("a word problem that ends in an order", 2.4, r"[.,] (?:then )?(?:calculate|find|determine|compute) (?:the|how)\b").when(When::Numbers),
    ask("quantities in words", 1.0, r"\b(?:half|twice|three times|double|dozen|percent|remaining|the rest|each|per|older|younger|fewer)\b[^\n]*\bhow (?:many|much|old|long)\b"),
    ask("true or false of mathematical statements", 1.4, r"\Astatement 1 \|"),
    ask("a conversion or a rate", 2.0, r"\A(?:convert|converting)\b[^\n]*\d|\brelation between the given pairs\b|:: ?\w|\bsum to a given\b|\bmost efficient way to (?:uniformly )?sample\b").when(When::Brief),
    ask("which one fits the numbers", 1.2, r"\b(?:which|what) (?:expression|equation|number|pattern|fraction|statement|graph)\b"),
    ask("asks for a quantity (Chinese), one number", 1.8, r"\d[^\n]*(?:多少|几(?:个|只|条|本|天|元|人|次|支|米|千米|页|岁|倍|束|颗|棵|辆|小时|分钟|块|张|名|件|箱|盒|袋))"),
    ask("arithmetic in a question", 3.6, r"\d ?% of \$?\d|\A(?:what is|what's|how much is) (?:the \S+ of )?\(?\d+(?:\.\d+)? ?(?:[-+*/^x%]|plus|minus|times|divided)"),
];
