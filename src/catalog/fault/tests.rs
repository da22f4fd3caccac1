//! The grammar of faults.

use super::*;

#[test]
fn every_separator_and_spelling_says_the_same() {
    let wanted = Fault {
        status: Some(503),
        headers: vec![("retry-after".into(), "2".into())],
        delay: Duration::from_millis(200),
        slice: 1,
        breaks: Some(Break { how: Breaking::Cut, after: Some(5) }),
        ..Fault::default()
    };
    for text in [
        "status=503; retry-after=2; delay=200ms; slice=1; cut-after=5",
        "status=503,retry_after=2,delay=200ms,slice=1,cut_after=5",
        " status=503 retry-after=\"2\" delay=200ms  slice=1\tcut-after=5 ",
    ] {
        assert_eq!(Fault::parse(text), Ok(wanted.clone()), "{text}");
    }
    assert_eq!(Fault::parse(""), Ok(Fault::default()));
}

#[test]
fn a_value_in_quotes_may_hold_what_separates_words() {
    let fault = Fault::parse("retry-after=\"Wed, 21 Oct 2015 07:28:00 GMT\" header=\"x-note: a; b\"").expect("a fault");
    let headers = [("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), ("x-note", "a; b")];
    assert_eq!(fault.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn every_known_word_is_understood() {
    for word in Fault::WORDS {
        let value = match word {
            "status" => "503",
            "interim" => "103",
            "header" => "x-a:b",
            "delay" | "first_token" | "pace" => "5ms",
            "body" => "html",
            "usage" => "absurd",
            "encoding" | "pretend" => "gzip",
            "bomb" | "flood_bytes" => "1MiB",
            "length" => "-5",
            "rate" => "20%",
            "redirect" => "http://example.com/",
            _ if ["slice", "tokens", "flood"].contains(&word) || word.ends_with("after") => "3",
            _ => "true",
        };
        let mut fault = Fault::default();
        assert_eq!(fault.set(word, Some(value)), Ok(()), "{word}");
        assert_ne!(fault, Fault::default(), "{word} does something");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    for (text, word) in [
        ("sttus=503", "`sttus`"),
        ("status=abc", "`abc`"),
        ("status=99", "`99`"),
        ("delay=5", "`5`"),
        ("delay", "needs a value"),
        ("stall=perhaps", "`perhaps`"),
        ("body=poem", "`poem`"),
        ("header=nonsense", "NAME:VALUE"),
        ("interim=200", "`200`"),
    ] {
        let message = Fault::parse(text).expect_err(text).to_string();
        assert!(message.contains(word), "{text}: {message}");
    }
}

#[test]
fn directives_are_found_in_a_prompt() {
    let found: Vec<&str> = directives("hi [[fault status=503 on=large]] there [[fault stall]] [[fault open").collect();
    assert_eq!(found, [" status=503 on=large", " stall"]);
    let fault = Fault::parse("status=503 on=demo/large").expect("a fault");
    assert!(fault.concerns("large") && !fault.concerns("small"));
}
