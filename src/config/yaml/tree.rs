use crate::Location;

/// A value with its place.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) at: Location,
}

/// How much a tree is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    /// Of scalars and keys.
    pub(crate) text_bytes: usize,
}

impl Size {
    pub(crate) fn add(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.text_bytes += other.text_bytes;
    }
}

/// What a node is.
#[derive(Clone)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
    /// Something was wrong with it that has been said already: whoever reads it gives up silently.
    Broken,
}

/// One entry of a map.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Location,
    pub(crate) value: Node,
}

/// A scalar after expansion.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Without quotes: its type follows from the text.
    pub(crate) plain: bool,
    /// As it was typed, where variables were put in. Messages show this, never what a variable held.
    pub(crate) typed: Option<String>,
}

impl Node {
    /// What a person calls it.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.resolve().describe(),
            Kind::Seq(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Broken => "an error",
        }
    }

    /// `key:` without anything.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.is_null())
    }

    /// Levels of lists and maps, a scalar being 1. The parser bounds the recursion.
    pub(crate) fn height(&self) -> usize {
        match &self.kind {
            Kind::Scalar(_) | Kind::Broken => 1,
            Kind::Seq(items) => 1 + items.iter().map(Self::height).max().unwrap_or(0),
            Kind::Map(entries) => 1 + entries.iter().map(|entry| entry.value.height()).max().unwrap_or(0),
        }
    }

    /// What a copy of it costs.
    pub(crate) fn size(&self) -> Size {
        let mut size = Size { nodes: 1, text_bytes: 0 };
        match &self.kind {
            Kind::Scalar(scalar) => size.text_bytes = scalar.text.len(),
            Kind::Broken => {}
            Kind::Seq(items) => items.iter().for_each(|item| size.add(item.size())),
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                size.add(entry.value.size());
                size.text_bytes += entry.key.len();
            }),
        }
        size
    }

    /// The same tree, all of it at one place: the variable or flag that it came from.
    pub(crate) fn relocated(self, at: &Location) -> Self {
        let kind = match self.kind {
            Kind::Seq(items) => Kind::Seq(items.into_iter().map(|item| item.relocated(at)).collect()),
            Kind::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|Entry { key, value, .. }| Entry { key, key_at: at.clone(), value: value.relocated(at) })
                    .collect(),
            ),
            other => other,
        };
        Self { kind, at: at.clone() }
    }
}
