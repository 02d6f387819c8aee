//! For the schema's test: which keys each map was asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// A map by what errors call it, with its keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keys {
    pub(crate) what: String,
    pub(crate) keys: BTreeSet<String>,
}

thread_local! {
    static MAPS: RefCell<BTreeSet<Keys>> = const { RefCell::new(BTreeSet::new()) };
}

pub(super) fn record(what: &str, keys: &[&str]) {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    MAPS.with_borrow_mut(|maps| maps.insert(Keys { what: what.to_owned(), keys }));
}

/// What is asked for while `read` runs.
pub(crate) fn recorded(read: impl FnOnce()) -> BTreeSet<Keys> {
    MAPS.with_borrow_mut(BTreeSet::clear);
    read();
    MAPS.take()
}
