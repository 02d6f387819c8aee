//! Which rules apply at a place of a JSON value, worked out on the way down: each path is followed as far as the names fit.

use crate::path::{Path, Place, Token};

/// What becomes of a field. In rising order: where several rules name one field, the greatest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Hash,
    Mask,
    Remove,
}

/// The paths of a configuration.
pub(crate) struct Rules {
    rules: Vec<(Effect, Path)>,
    keeps_all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Keep,
    Act(Action),
}

/// Where on their way the paths are at one value.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// A rule, and the token that its next step has to fit.
    open: Vec<(usize, usize)>,
    /// Whether everything here is kept that no action names.
    pub(crate) is_kept: bool,
}

/// One step down: the scope there, and what ends there.
pub(crate) struct Below {
    pub(crate) scope: Scope,
    pub(crate) action: Option<Action>,
    /// Whether something below is kept, though not all.
    pub(crate) keeps_below: bool,
}

/// The kind of a value that is not null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Scalar,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Object => "an object where it has an item",
            Self::Array => "an array where it has a name",
            Self::Scalar => "a value without fields",
        }
    }
}

impl Rules {
    pub(crate) fn new(actions: Vec<(Action, Path)>, keep: Option<Vec<Path>>) -> Self {
        let keeps_all = keep.is_none();
        let actions = actions.into_iter().map(|(action, path)| (Effect::Act(action), path));
        let rules = actions.chain(keep.into_iter().flatten().map(|path| (Effect::Keep, path))).collect();
        Self { rules, keeps_all }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.keeps_all
    }

    /// The scope of the whole value.
    pub(crate) fn top(&self) -> Scope {
        Scope { open: (0..self.rules.len()).map(|rule| (rule, 0)).collect(), is_kept: self.keeps_all }
    }

    pub(crate) fn below(&self, scope: &Scope, place: Place<'_>) -> Below {
        let mut below =
            Below { scope: Scope { open: Vec::new(), is_kept: scope.is_kept }, action: None, keeps_below: false };
        for &(index, position) in &scope.open {
            let Some((effect, path)) = self.rules.get(index) else { continue };
            let mut position = position;
            if path.token(position) == Some(&Token::AnyDepth) {
                // `**` stays open for the levels below, and may stand for no level at all.
                below.scope.open.push((index, position));
                position = position.saturating_add(1);
            }
            if !path.token(position).is_some_and(|token| token.fits(place)) {
                continue;
            }
            let next = position.saturating_add(1);
            if next < path.len() {
                below.scope.open.push((index, next));
                below.keeps_below |= *effect == Effect::Keep;
                continue;
            }
            match *effect {
                Effect::Keep => below.scope.is_kept = true,
                Effect::Act(action) => below.action = below.action.max(Some(action)),
            }
        }
        below
    }

    /// The first path that cannot go on in a value of this kind, though it says that it does: its field may be here in another shape.
    pub(crate) fn mismatch(&self, scope: &Scope, kind: Kind) -> Option<&Path> {
        scope.open.iter().find_map(|&(index, position)| {
            let (effect, path) = self.rules.get(index)?;
            let fits = match path.token(position)? {
                // What is not kept is gone in any case.
                _ if *effect == Effect::Keep => true,
                Token::AnyDepth => true,
                Token::Name(_) | Token::AnyName => kind == Kind::Object,
                Token::Index(_) | Token::AnyItem => kind == Kind::Array,
            };
            (!fits).then_some(path)
        })
    }
}

impl Scope {
    /// Whether nothing below needs to be looked at.
    pub(crate) fn is_done(&self) -> bool {
        self.open.is_empty() && self.is_kept
    }
}
