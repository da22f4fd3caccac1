//! `coding`: write, complete, explain, fix, convert or review programs, queries, commands, configuration.

use super::super::rule::{Rule, When, ask, text};

pub(super) const RULES: &[Rule] = &[
    ask(
        "asks for a program",
        3.2,
        r"\b(?:write|create|make|build|develop|implement|generate|code|design|give|show|provide|produce|need|output|suggest|draft|have|want|program)\b[^.?!\n]*\b(?:function|program|script|code|snippet|class|method|module|algorithm|regexp?|regular expressions?|sql|query|macro|webpage|web app|web ?site|plugin|api|component|dockerfile|makefile|unit tests?|test cases?|parser|compiler|cli|gui|applet|stylesheet|html|css|svg|xaml|yaml|cron|shader|app|one-liner|pipeline|schema|struct)\b",
    ),
    ask("opens with a programming job", 2.0, r"\A(?:implement|refactor|debug|code|compile|program|write code|fix (?:this|the|my) (?:code|bug|error|function|program))\b"),
    ask("asks to write a function", 2.0, r"\Awrite (?:a|an|me a|some)? ?(?:\S+ ){0,3}(?:functions?|programs?|scripts?|code|class|query|queries|macro|regex)\b"),
    ask("asks about given code", 2.5, r"\b(?:this|the|following|my|given|above|below|your|our|existing|sample) (?:\S+ ){0,3}(?:code|script|program|function|snippet|query|regex|stack ?trace|dockerfile|codebase|class|struct|html document|source)\b"),
    ask("asks to repair a program", 1.8, r"\b(?:find|fix|debug|resolve|troubleshoot|solve|root cause)\b[^.?!\n]*\b(?:bugs?|error|issue|exception|syntax|crash|compil)\w*\b"),
    ask("asks how to do it in a program", 1.5, r"\bhow (?:to|do|can|would|should|could)\b[^?\n]*\b(?:code|in (?:python|c|c\+\+|java|rust|go|swift|kotlin|r|sql|bash|linux|excel|matlab|javascript|typescript|react|vue|css)|function|script|command line|compile|debug|deploy|install|import|parse|render|callback|query|endpoint|library|package|server|array|string|loop|file|class|database|api)\b"),
    text(
        "names a programming language",
        1.6,
        r"\b(?:python3?|javascript|typescript|node\.?js|java|c\+\+|cpp|c#|csharp|golang|rust|ruby|php|swift|kotlin|scala|perl|haskell|ocaml|elixir|fortran|cobol|matlab|powershell|bash|vb\.net|vba|assembly|solidity|lua|dart|racket|prolog|julia|verilog|vhdl|datalog|clojure|lisp)(?:[^a-z+#]|\z)",
    )
    .when(When::Moderate),
    ask("in a programming language", 1.0, r"\b(?:in|using|with|to) (?:python3?|javascript|typescript|java|c\+\+|c#|c|golang|go|rust|ruby|php|swift|kotlin|scala|perl|haskell|r|matlab|powershell|bash|vb\.net|vba|sql|node\.?js|lua|scheme|css|html)(?:[ .,:;?!\n]|\z)"),
    text(
        "names a library or a tool for programmers",
        1.5,
        r"\b(?:pandas|numpy|pytorch|tensorflow|keras|sklearn|scikit|matplotlib|seaborn|django|flask|fastapi|react|vue ?\d?|angular|svelte|next\.?js|express\.?js|tailwind|bootstrap|jquery|spring boot|laravel|symfony|rails|docker|kubernetes|k8s|helm|terraform|ansible|nginx|postgres(?:ql)?|mysql|sqlite|mongodb|clickhouse|redis|kafka|graphql|selenium|puppeteer|pyqt\d?|pyside\d?|qt|opencv|cuda|openssl|git|github actions|gitlab|jenkins|npm|yarn|webpack|cargo|maven|gradle|cmake|gcc|arduino|esp32|raspberry pi|unity|roblox|godot|unreal|android studio|jetpack compose|xcode|swiftui|flutter|jq|awk|sed|ffmpeg|wsl|systemd|iptables|ssh|sqlalchemy|hibernate|linq|autohotkey|argparse|dataframe|ggplot|langchain|onnx|pyspark|snowflake|dbt)\b",
    )
    .when(When::Moderate),
    text("a fenced block of code", 1.6, r"```"),
    text("lines of code", 2.0, r"^\s*(?:def \w+\(|class \w+[:({ ]|import \w+|from \w+ import|#include ?[<\x22]|using namespace|public (?:static |class |void )|private \w+|fn \w+|func \w+\(|function \w*\(|const \w+ ?=|let \w+ ?=|var \w+ ?=|package \w+|assert \w+|elif |else:|return \w|if \(|for \(|while \(|#!/|print(?:f|ln)?\(|console\.log)"),
    text("fragments of code", 1.3, r"\w\(\w*\) ?\{|\);\n|\};?\n|=> ?\{|</(?:div|html|body|p|span|script|g|svg)>|console\.log|std::|system\.out|self\.\w|\w+\.\w+\(\w*\)|\bnull\b.{0,40}\bnull\b|== ?['\x22\w]|print\(|&&|\|\||->\w"),
    text("a query", 2.2, r"\bselect\b[^.\n]{1,80}\bfrom\b[^.\n]{0,80}\b(?:where|join|group by|order by|limit|;)|\b(?:create|alter|drop) table\b|\binsert into\b"),
    text("asks that the code passes tests", 2.0, r"your code should (?:pass|satisfy)|\bassert \w+\("),
    text("an error message", 1.4, r"\b(?:traceback|stack ?trace|segmentation fault|nullpointer\w*|typeerror|valueerror|syntaxerror|keyerror|runtimeerror|undefined reference|cannot find (?:module|symbol)|exit code|errno|uncaught|permission denied|connection (?:closed|refused))\b"),
    ask("terms of the trade", 1.0, r"\b(?:linux|ubuntu|command line|terminal|frontend|backend|codebase|repository|repo|rest api|json|csv|xml|url|http|localhost|database|data ?set|recursion|recursive|leetcode|linked list|binary (?:search|tree)|array|compile|runtime|multithread\w*|async\w*|regex|gpu|neural network|machine learning model|training loop|transformer|browser|web server|web scraping|scrape|endpoint|boilerplate|flexbox|data structure|pattern-matching|composable|firmware|vm|kernel)\b"),
    ask("an element of a list or a number to work on", 0.8, r"\A(?:write|find|check|sort|count|remove|reverse)\b[^.\n]*\b(?:lists?|tuples?|strings?|arrays?|dictionar(?:y|ies)|integers?|matrix|subarray|substring|nested|elements?)\b"),
    ask("about a program (Chinese)", 3.0, r"代码|编程|函数|python|javascript|java程序|写(?:一个|出|一段)?.{0,20}(?:程序|脚本|算法|正则)|编写.{0,30}(?:程序|脚本|算法)|sql|数据库查询|正则表达式|报错|调试|编译|html|变量|字符串"),
    ask("about a program (Spanish)", 2.8, r"\b(?:escribe|crea|implementa|corrige|explica|haz)\b[^.\n]*\b(?:función|programa|código|script|consulta|clase|algoritmo)\b"),
    ask("about a program (German)", 2.8, r"\b(?:schreib\w*|erstell\w*|implementier\w*|korrigier\w*|erklär\w*|programmier\w*)\b[^.\n]*\b(?:funktion|programm|code|skript|abfrage|klasse|algorithmus)"),
    ask("about a program (French)", 2.8, r"(?:écri\w*|cré\w*|implément\w*|corrig\w*|expliqu\w*)[^.\n]*\b(?:fonction|programme|code|script|requête|classe|algorithme)\b"),
    ask("terms of the trade, how to", 1.6, r"\bhow (?:to|do|can|would)\b[^?\n]*\b(?:toolbar|fragment|widget|entity|schema|drupal|wordpress|sap|windows service|dataset|images?|install|configure|column|spatial|selenium|textbox|gui|button|service|container|node|cluster|plugin|extension|domain|proxy|vbs|nix|git|branch|merge|call|view|layout|pixel|fetch|store)\b"),
    ask("builds a piece of software", 1.6, r"\b(?:write|make|create|build|design)\b[^.\n]*\b(?:extension|livescript|widget|bot|chatbot|game|gui|dashboard|crawler|scraper|addon|add-on|mod|simulation|simulating|notation|service|interface|template)\b"),
    ask("a persona that knows programs is still a persona", -2.5, r"\A(?:you are|sei un|eres un|tu es un|você é um|du bist ein)\b[^.\n]*\b(?:assistant|asistente|assistente|assistent|specializ\w+|especiali\w+|spécialisé)\b").when(When::Brief),
    ask("differences between languages are knowledge", -2.0, r"\b(?:differences? between|advantages of|history of|popular)\b").when(When::Brief),
    ask("a script for the screen is not a program", -4.0, r"\b(?:animation|video|youtube|movie|podcast|film|play) script\b|\bscript for (?:a|an|the) (?:\S+ )?(?:video|youtube|movie|podcast|film|play|commercial|episode)\b"),
];
