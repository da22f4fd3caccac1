//! Which of Bedrock's models a region can call, by the geography in front of an inference profile's id.
//!
//! `eu.anthropic.claude-sonnet-5` is a profile that exists in European regions only; `global.` ones exist everywhere but
//! in the government's regions (Bedrock user guide, Supported Regions and models for inference profiles).

/// The geographies in front of ids, with the beginnings of the regions in which they exist.
const GEOGRAPHIES: [(&str, &[&str]); 8] = [
    ("us-gov", &["us-gov-"]),
    ("us", &["us-east-", "us-west-", "ca-"]),
    ("eu", &["eu-"]),
    ("apac", &["ap-"]),
    ("au", &["ap-southeast-2", "ap-southeast-4", "ap-southeast-6"]),
    ("jp", &["ap-northeast-1", "ap-northeast-3"]),
    ("in", &["ap-south-"]),
    ("global", &["us-east-", "us-west-", "ca-", "sa-", "eu-", "ap-", "me-", "af-", "il-", "mx-"]),
];

/// The geography of a profile's id and the model's own id; `None` for a model that is called directly.
pub fn profile(id: &str) -> Option<(&'static str, &str)> {
    let (first, model) = id.split_once('.')?;
    let (geography, _) = GEOGRAPHIES.iter().find(|(geography, _)| *geography == first)?;
    Some((geography, model))
}

/// Whether a region can call `id`. Models without a geography are in doubt callable.
pub fn reaches(region: &str, id: &str) -> bool {
    let Some((geography, _)) = profile(id) else { return true };
    let regions = GEOGRAPHIES.iter().filter(|(name, _)| *name == geography).flat_map(|(_, regions)| *regions);
    regions.into_iter().any(|start| region.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_reaches_the_profiles_of_its_geography() {
        for (region, id, reached) in [
            ("us-east-1", "us.anthropic.claude-sonnet-5", true),
            ("eu-central-1", "us.anthropic.claude-sonnet-5", false),
            ("eu-central-1", "global.anthropic.claude-sonnet-5", true),
            ("us-gov-west-1", "us.anthropic.claude-sonnet-5", false),
            ("us-gov-west-1", "us-gov.anthropic.claude-sonnet-5", true),
            ("ap-southeast-2", "au.anthropic.claude-sonnet-5", true),
            ("ap-southeast-1", "au.anthropic.claude-sonnet-5", false),
            ("ap-southeast-1", "meta.llama3-3-70b-instruct-v1:0", true),
        ] {
            assert_eq!(reaches(region, id), reached, "{region} {id}");
        }
    }
}
