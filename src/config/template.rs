use std::fmt;

/// A text with places that each message fills: `orders.{{key}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// `{{key}}`
    Key,
    /// `{{channel}}`: the topic or subject that the message came from.
    Channel,
    /// `{{header.NAME}}`: the last header of that name.
    Header(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((place, behind)) = after.split_once("}}") else {
                return Err("`{{` without its `}}`".to_owned());
            };
            push_text(&mut parts, before)?;
            parts.push(match place.trim() {
                "key" => Part::Key,
                "channel" => Part::Channel,
                other => match other.strip_prefix("header.") {
                    Some(name) if !name.is_empty() => Part::Header(name.to_owned()),
                    _ => return Err(format!("no message has a `{{{{{other}}}}}`")),
                },
            });
            rest = behind;
        }
        push_text(&mut parts, rest)?;
        Ok(Self { parts })
    }

    /// The pieces in their order; two texts never stand side by side.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The text, where no place is filled by the message.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            [] => Some(""),
            _ => None,
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), String> {
    if text.contains("}}") {
        return Err("`}}` without its `{{`".to_owned());
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Key => f.write_str("{{key}}"),
            Part::Channel => f.write_str("{{channel}}"),
            Part::Header(name) => write!(f, "{{{{header.{name}}}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_is_text_and_places() {
        let template = Template::parse("a.{{ key }}.{{header.tenant}}{{channel}}").unwrap();
        let expected =
            [Part::Text("a.".into()), Part::Key, Part::Text(".".into()), Part::Header("tenant".into()), Part::Channel];
        assert_eq!(template.parts(), expected);
        assert_eq!(template.fixed(), None);
        assert_eq!(Template::parse("orders").unwrap().fixed(), Some("orders"));
    }

    #[test]
    fn what_no_message_has_is_refused() {
        for text in ["{{value}}", "{{key", "a}}", "{{header.}}", "{{}}", "{{{key}}"] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_a_template_is_written_as_it_was_read(text in "[a-z{}. ]{0,30}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
            }
        }
    }
}
