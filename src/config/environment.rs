/// Where `${VAR}` and `{ env: NAME }` look. A trait, so that tests need not change the process.
pub trait Environment {
    /// The value of a variable; `None` where it is not set or not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// All variables whose names begin with `prefix`, in any order.
    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)>;

    /// Whether whoever started the process gave this variable to its pipelines, so that no list of the node need name it.
    fn is_given(&self, _name: &str) -> bool {
        false
    }

    /// Why the file that is being read must not name this variable, and what would help; none where it may.
    fn refuses(&self, _name: &str) -> Option<(String, String)> {
        None
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        // Not `vars()`: that panics at a variable of any program that is not UTF-8.
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(prefix))
            .collect()
    }
}

/// No variables at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEnvironment;

impl Environment for NoEnvironment {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn with_prefix(&self, _prefix: &str) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl<const N: usize> Environment for [(&str, &str); N] {
    fn var(&self, name: &str) -> Option<String> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.iter().filter(|(name, _)| name.starts_with(prefix)).map(owned).collect()
    }
}
