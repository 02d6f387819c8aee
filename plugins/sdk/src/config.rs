//! The plugin's `config:`, as the host hands it over: JSON text, `{}` where the pipeline has none.

use serde::de::DeserializeOwned;

/// Reads the configuration of a plugin that has one.
///
/// A key that no field takes is an error: a misspelt rule that is ignored would be a check that never happens.
pub fn parse_config<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let mut unknown = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let config = serde_ignored::deserialize(&mut deserializer, |path| unknown.push(path.to_string()))
        .map_err(|error| format!("config: {error}"))?;
    deserializer.end().map_err(|error| format!("config: {error}"))?;
    if unknown.is_empty() { Ok(config) } else { Err(format!("config: unknown key {}", unknown.join(", "))) }
}

/// Accepts the empty configuration of a plugin that has none. Without a JSON parser, which would be most of its size.
pub fn no_config(json: &str) -> Result<(), String> {
    let mut inside = json.trim().chars().filter(|c| !c.is_whitespace());
    match (inside.next(), inside.next(), inside.next()) {
        (Some('{'), Some('}'), None) => Ok(()),
        _ => Err("config: this plugin takes no configuration".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Limits {
        #[serde(default)]
        most: u32,
    }

    #[test]
    fn a_key_that_no_field_takes_is_named() {
        assert_eq!(parse_config(r#"{"most": 3}"#), Ok(Limits { most: 3 }));
        assert_eq!(parse_config::<Limits>(r#"{"mots": 3, "x": {}}"#), Err("config: unknown key mots, x".to_owned()));
    }

    #[test]
    fn a_wrong_type_says_where() {
        let error = parse_config::<Limits>(r#"{"most": "many"}"#).unwrap_err();
        assert!(error.contains("invalid type") && error.contains("column"), "{error}");
    }

    #[test]
    fn a_plugin_without_configuration_takes_only_the_empty_one() {
        assert_eq!(no_config(" { } "), Ok(()));
        assert!(no_config(r#"{"most": 3}"#).is_err());
    }
}
