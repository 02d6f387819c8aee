use crate::{Code, Environment};

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpandError {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) help: String,
    /// Where in the text, in characters from 0.
    pub(super) offset: usize,
}

/// Puts variables into a text: `${NAME}`, `${NAME:-default}`, where an empty variable has no value, and `$$` for `$`.
/// Any other `$` stands for itself, so that `^a$` needs no care. A default holds no variables of its own.
/// `Ok(None)` when there is nothing to do.
pub(super) fn expand(text: &str, environment: &dyn Environment) -> Result<Option<String>, Vec<ExpandError>> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let offset = text.chars().count() - after.chars().count() - 1;
        if let Some(behind) = after.strip_prefix('$') {
            expanded.push('$');
            rest = behind;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some((reference, behind)) = inside.split_once('}') else {
                errors.push(ExpandError {
                    code: Code::EnvSyntax,
                    message: "`${` without its `}`".to_owned(),
                    help: FORMS.to_owned(),
                    offset,
                });
                return Err(errors);
            };
            match value_of(reference, environment) {
                Ok(value) => expanded.push_str(&value),
                Err((code, message, help)) => errors.push(ExpandError { code, message, help, offset }),
            }
            rest = behind;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    if errors.is_empty() { Ok(Some(expanded)) } else { Err(errors) }
}

const FORMS: &str = "write ${NAME} or ${NAME:-default}; $$ stands for one $";

fn value_of(reference: &str, environment: &dyn Environment) -> Result<String, (Code, String, String)> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err((Code::EnvSyntax, "not the name of a variable between `${` and `}`".to_owned(), FORMS.to_owned()));
    }
    if let Some((message, help)) = environment.refuses(name) {
        return Err((Code::EnvNotListed, message, help));
    }
    let set = environment.var(name).filter(|value| !value.is_empty());
    set.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        let help = format!("set it, or write a default: ${{{name}:-...}}");
        (Code::EnvMissing, format!("the environment variable `{name}` is not set"), help)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NoEnvironment;

    const ENVIRONMENT: [(&str, &str); 3] = [("HOST", "k1"), ("PORT", "9092"), ("EMPTY", "")];

    fn expanded(text: &str) -> Option<String> {
        expand(text, &ENVIRONMENT).unwrap()
    }

    #[test]
    fn variables_defaults_and_dollars_are_put_in() {
        assert_eq!(expanded("${HOST}:${PORT}").as_deref(), Some("k1:9092"));
        assert_eq!(expanded("${NONE:-127.0.0.1:9092}").as_deref(), Some("127.0.0.1:9092"));
        assert_eq!(expanded("${EMPTY:-x}").as_deref(), Some("x"));
        assert_eq!(expanded("${NONE:-}").as_deref(), Some(""));
        assert_eq!(expanded("$${HOST} $$ ^a$ $1").as_deref(), Some("${HOST} $ ^a$ $1"));
        assert_eq!(expanded("^a$"), None);
    }

    #[test]
    fn every_missing_variable_is_named_at_its_place() {
        let errors = expand("é${NONE}-${OTHER}", &NoEnvironment).unwrap_err();
        assert_eq!(
            errors.iter().map(|error| (error.code, error.offset)).collect::<Vec<_>>(),
            [(Code::EnvMissing, 1), (Code::EnvMissing, 9)]
        );
        assert!(errors[0].message.contains("`NONE`"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["${HOST", "${}", "${1A}", "${a b}", "${HOST:?x}", "${${HOST}}"] {
            assert_eq!(expand(text, &ENVIRONMENT).unwrap_err()[0].code, Code::EnvSyntax, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_doubled_dollars_give_the_text_back(text in "[a${}:\\-é ]{0,40}") {
            drop(expand(&text, &ENVIRONMENT));
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(expand(&doubled, &ENVIRONMENT).unwrap().unwrap_or(doubled), text);
        }
    }
}
