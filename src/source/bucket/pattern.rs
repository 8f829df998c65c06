//! `match = "**/metadata-*.json"` → which names are read. `*` and `?` stay within a folder, `**/` is any folders or
//! none, `[0-9]` one character of several; all else stands for itself, also `{{…}}` and `%{…}`, which are what
//! unresolved placeholders leave in names.

use std::borrow::Cow;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};

/// Patterns of names, of which one has to fit.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<Regex>);

/// What metadata documents are called: the vendor's names, and copies with a number behind.
const USUAL: [&str; 4] = ["**/*.json", "**/*.json.[0-9]", "**/metadata*.txt", "**/metadata*.txt.[0-9]"];

impl Default for Patterns {
    fn default() -> Self {
        Self(USUAL.iter().filter_map(|text| compile(text).ok()).collect())
    }
}

impl Patterns {
    /// Whether a name is to be read.
    pub(super) fn fit(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    let mut out = String::from("(?s)^");
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(behind) = rest.strip_prefix("**/") {
            out.push_str("(?:.*/)?");
            rest.len() - behind.len()
        } else if rest.starts_with("**") {
            out.push_str(".*");
            2
        } else {
            match first {
                '*' => out.push_str("[^/]*"),
                '?' => out.push_str("[^/]"),
                '[' => {
                    let end = rest
                        .find(']')
                        .filter(|end| *end > 1)
                        .ok_or_else(|| format!("`{text}` opens a `[` that no `]` closes"))?;
                    let set = rest.get(1..end).unwrap_or_default();
                    if !set.chars().all(|c| c.is_alphanumeric() || c == '-') {
                        return Err(format!("`[{set}]` in `{text}` holds more than letters, digits and `-`"));
                    }
                    out.push_str(&format!("[{set}]"));
                    rest = rest.get(end + 1..).unwrap_or_default();
                    continue;
                }
                other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
            first.len_utf8()
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    out.push('$');
    Regex::new(&out).map_err(|_| format!("`{text}` is no pattern"))
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            One(String),
            Many(Vec<String>),
        }
        let texts = match Text::deserialize(from).map_err(|_| D::Error::custom("a pattern or a list of patterns"))? {
            Text::One(text) => vec![text],
            Text::Many(texts) => texts,
        };
        if texts.is_empty() {
            return Err(D::Error::custom("an empty list of patterns fits no name"));
        }
        texts.iter().map(|text| compile(text).map_err(D::Error::custom)).collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for Patterns {
    fn schema_name() -> Cow<'static, str> {
        "Patterns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A pattern of names, or a list of them: `*` and `?` within a folder, `**/` any folders, `[0-9]` one of several characters",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
            "examples": ["**/metadata-*.json"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Patterns {
        Patterns(vec![compile(text).expect(text)])
    }

    #[test]
    fn the_names_of_the_vendor_are_read_and_media_are_not() {
        let usual = Patterns::default();
        for name in [
            "metadata-48213.json",
            "metadata-48213.txt",
            "metadata/2026/02/17/call-337.json",
            "metadata//chat-1.json",
            "{{date}}/%{id}.json",
            "metadata-1.json.2",
        ] {
            assert!(usual.fit(name), "{name}");
        }
        for name in ["call-1.mp3", "chat-1.txt", "call-1-photo-2.jpg", "a.json.part", "metadata-1.json/x.mp4"] {
            assert!(!usual.fit(name), "{name}");
        }
    }

    #[test]
    fn signs_mean_what_they_say_and_the_rest_itself() {
        assert!(of("**/metadata-*.json").fit("a/b/metadata-1.json") && of("**/metadata-*.json").fit("metadata-1.json"));
        assert!(!of("*.json").fit("a/b.json") && of("a?.json").fit("a☎.json"));
        assert!(of("{{date}}/a+(b).json").fit("{{date}}/a+(b).json"));
        assert!(of("**").fit("any/thing") && of("v[0-9a].x").fit("v3.x"));
        for wrong in ["a[", "a[]", "a[^x]"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
    }
}
