//! A path to fields, as `items[*].card`.

use std::fmt;

/// Of all rules together: each one is looked at for each member of an object on its way.
pub(crate) const MAX_PATHS: usize = 256;
const MAX_TOKENS: usize = 32;

/// A path, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Name(String),
    AnyName,
    Index(usize),
    AnyItem,
    /// Any number of levels of either kind, none included.
    AnyDepth,
}

/// Where a value stands in the one around it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Member(&'a str),
    Item(usize),
}

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (token, after) = match rest.strip_prefix('[') {
                Some(inside) => bracket(inside)?,
                None if tokens.is_empty() => bare(rest)?,
                None => bare(rest.strip_prefix('.').ok_or("has a name without a dot before it")?)?,
            };
            if tokens.len() == MAX_TOKENS {
                return Err(format!("has more than {MAX_TOKENS} steps"));
            }
            // Two of them would let a value be reached in many ways, and the work grow with their number.
            if token == Token::AnyDepth && tokens.contains(&Token::AnyDepth) {
                return Err("has `**` twice".to_owned());
            }
            tokens.push(token);
            rest = after;
        }
        match tokens.last() {
            None => Err("is empty".to_owned()),
            Some(Token::AnyDepth) => Err("ends with `**`, which names no field".to_owned()),
            Some(_) => Ok(Self { text: text.to_owned(), tokens }),
        }
    }

    pub(crate) fn token(&self, position: usize) -> Option<&Token> {
        self.tokens.get(position)
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn has_any_depth(&self) -> bool {
        self.tokens.contains(&Token::AnyDepth)
    }

    /// Whether a field of one can lie within, or around, a field of the other.
    pub(crate) fn may_meet(&self, other: &Self) -> bool {
        let both = self.tokens.iter().zip(&other.tokens);
        for (one, another) in both {
            let fits = match (one, another) {
                (Token::AnyDepth, _) | (_, Token::AnyDepth) => return true,
                (Token::AnyName, Token::Name(_) | Token::AnyName) | (Token::Name(_), Token::AnyName) => true,
                (Token::AnyItem, Token::Index(_) | Token::AnyItem) | (Token::Index(_), Token::AnyItem) => true,
                (one, another) => one == another,
            };
            if !fits {
                return false;
            }
        }
        true
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Token {
    pub(crate) fn fits(&self, place: Place<'_>) -> bool {
        match (self, place) {
            (Self::Name(name), Place::Member(member)) => name == member,
            (Self::Index(index), Place::Item(item)) => *index == item,
            (Self::AnyName, Place::Member(_)) | (Self::AnyItem, Place::Item(_)) => true,
            _ => false,
        }
    }
}

/// What stands behind the opening bracket: `*]`, `12]` or `"a.b"]`.
fn bracket(inside: &str) -> Result<(Token, &str), String> {
    const SHAPE: &str = "has a bracket that is none of `[*]`, `[3]` and `[\"name\"]`";
    let (token, after) = if inside.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(inside).into_iter::<String>();
        let Some(Ok(name)) = texts.next() else { return Err(SHAPE.to_owned()) };
        (Token::Name(name), inside.get(texts.byte_offset()..).unwrap_or_default())
    } else {
        let (index, after) = inside.split_at(inside.find(']').ok_or(SHAPE)?);
        let is_index = index.bytes().all(|byte| byte.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
        match index {
            "*" => (Token::AnyItem, after),
            index if is_index => (Token::Index(index.parse().map_err(|_| SHAPE)?), after),
            _ => return Err(SHAPE.to_owned()),
        }
    };
    after.strip_prefix(']').map(|after| (token, after)).ok_or_else(|| SHAPE.to_owned())
}

fn bare(text: &str) -> Result<(Token, &str), String> {
    let (name, after) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    // `$.a` and `/a` would be names that no message has: rules that look right and redact nothing.
    let is_foreign = name == "$" || name.starts_with('/');
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | ']' | '"' | '\'' | '\\');
    match name {
        "*" => Ok((Token::AnyName, after)),
        "**" => Ok((Token::AnyDepth, after)),
        "" => Err("has an empty name; in brackets it is `[\"\"]`".to_owned()),
        name if is_foreign || name.contains(is_odd) => Err(format!(
            "has the name `{name}`: paths are written as in customer.address.street and items[*].card, names with other characters as [\"{name}\"]"
        )),
        name => Ok((Token::Name(name.to_owned()), after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        Path::parse(text).unwrap_or_else(|error| panic!("{text} {error}")).tokens
    }

    fn name(text: &str) -> Token {
        Token::Name(text.to_owned())
    }

    #[test]
    fn a_path_is_names_and_brackets() {
        assert_eq!(tokens("customer.address.street"), [name("customer"), name("address"), name("street")]);
        assert_eq!(tokens("items[*].card"), [name("items"), Token::AnyItem, name("card")]);
        assert_eq!(tokens("[3][*]"), [Token::Index(3), Token::AnyItem]);
        assert_eq!(tokens("**.a.*"), [Token::AnyDepth, name("a"), Token::AnyName]);
        assert_eq!(tokens(r#"a["b.c]\u0041"].d"#), [name("a"), name("b.c]A"), name("d")]);
        assert_eq!(tokens(r#"[""]"#), [name("")]);
    }

    #[test]
    fn what_would_silently_match_nothing_is_refused() {
        let foreign = [
            "", "$.a", "/a/b", "a..b", ".a", "a.", "a[", "a[]", "a[01]", "a[-1]", "a['b']", "a[x]", "a[0]b", "a b",
            "a*",
        ];
        for text in foreign.into_iter().chain(["**", "a.**", "**.a.**.b", "[\"a]", "***.a", "a[99999999999999999999]"])
        {
            assert!(Path::parse(text).is_err(), "{text}");
        }
        assert!(Path::parse(&["a"; 33].join(".")).unwrap_err().contains("32"));
    }

    #[test]
    fn paths_meet_where_one_lies_within_the_other() {
        let meet = |one: &str, other: &str| Path::parse(one).unwrap().may_meet(&Path::parse(other).unwrap());
        assert!(
            meet("a", "a.b") && meet("a.b", "a") && meet("a[*].b", "a[0]") && meet("*.x", "a") && meet("a", "**.z")
        );
        assert!(!meet("a", "b") && !meet("a.b", "a.c") && !meet("a[0]", "a[1]") && !meet("a[*]", "a.b"));
    }
}
