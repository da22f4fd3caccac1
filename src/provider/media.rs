//! Where the bytes of an image or a file are: in a `data:` address, or somewhere else.

use std::borrow::Cow;

/// A `data:` address taken apart: `data:image/png;base64,iVBOR..`.
#[derive(Debug, PartialEq, Eq)]
pub struct Inline<'a> {
    /// In lower case, without parameters.
    pub media_type: String,
    /// Base64.
    pub data: Cow<'a, str>,
}

/// Reads a `data:` address (RFC 2397). `None` if it is none, or not in base64: no provider takes percent-encoding.
pub fn inline(url: &str) -> Option<Inline<'_>> {
    let (head, data) = strip_scheme(url)?.split_once(',')?;
    let mut parameters = head.split(';').map(str::trim);
    let media_type = parameters.next().unwrap_or_default().to_ascii_lowercase();
    if !parameters.any(|parameter| parameter.eq_ignore_ascii_case("base64")) {
        return None;
    }
    // Encoders that follow MIME break lines; both translators' providers want one piece.
    let data = match data.contains(|c: char| c.is_ascii_whitespace()) {
        true => data.split_ascii_whitespace().collect::<String>().into(),
        false => data.into(),
    };
    Some(Inline { media_type, data })
}

fn strip_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_at_checked(5)?;
    scheme.eq_ignore_ascii_case("data:").then_some(rest)
}

pub fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// The media type that the end of a URL's path or of a file name suggests.
pub fn guess(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" => "text/html",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_address_gives_its_type_and_its_bytes() {
        let read = inline("data:IMAGE/PNG;charset=x;base64,aGk=").expect("a data address");
        assert_eq!((read.media_type.as_str(), &*read.data), ("image/png", "aGk="));
        assert_eq!(inline("data:image/png;base64,aG\n k=").expect("broken lines").data, "aGk=");
        assert_eq!(inline("data:text/plain,hi"), None, "not base64");
        assert_eq!(inline("https://x.example/a.png"), None);
        assert_eq!(inline("é"), None);
    }

    #[test]
    fn an_ending_suggests_a_type() {
        assert_eq!(guess("https://x.example/a.PNG?size=1"), Some("image/png"));
        assert_eq!(guess("https://x.example/photo"), None);
    }
}
