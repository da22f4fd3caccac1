//! Who was asked, in the words of OpenTelemetry's GenAI conventions.

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::attribute::{number, text};
use crate::catalog::Provider;

/// One provider.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// `gen_ai.provider.name`.
    name: String,
    /// Empty for the demo, which is nowhere.
    address: String,
    port: Option<u16>,
}

impl Peer {
    /// A provider that the configuration does not have any more.
    pub fn unknown(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub fn of(provider: &Provider) -> Self {
        let uri: Option<http::Uri> = provider.base_url.replace(['{', '}'], "").parse().ok();
        let port = uri.as_ref().and_then(|uri| {
            uri.port_u16().or(match uri.scheme_str()? {
                "https" => Some(443),
                "http" => Some(80),
                _ => None,
            })
        });
        let address = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default().to_owned();
        Self { name: well_known(provider.preset.unwrap_or(&provider.name)).to_owned(), address, port }
    }

    /// For a span or a data point.
    pub fn attributes(&self) -> Vec<KeyValue> {
        let mut attributes = vec![text("gen_ai.provider.name", self.name.clone())];
        if !self.address.is_empty() {
            attributes.push(text("server.address", self.address.clone()));
            attributes.extend(self.port.map(|port| number("server.port", port.into())));
        }
        attributes
    }
}

/// The conventions' names for some of ours; others go by their own.
fn well_known(name: &str) -> &str {
    match name {
        "azure" => "azure.ai.openai",
        "bedrock" => "aws.bedrock",
        "gemini" => "gcp.gemini",
        "vertex" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "moonshot" => "moonshot_ai",
        "xai" => "x_ai",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Auth, Format};

    #[test]
    fn a_provider_is_named_as_the_conventions_do_and_found_where_it_is() {
        for (name, url, expected) in [
            ("vertex", "https://{model}.example.com/v1", ("gcp.vertex_ai", "model.example.com", Some(443))),
            ("mine", "http://127.0.0.1:8080/v1", ("mine", "127.0.0.1", Some(8080))),
            ("demo", "", ("demo", "", None)),
        ] {
            let peer = Peer::of(&Provider::new(name, Format::OpenAi, url, Auth::None));
            assert_eq!((peer.name.as_str(), peer.address.as_str(), peer.port), expected);
        }
    }
}
