//! Names that are not known yet: what a template may give, what `allow` lets through, what a subject with wildcards reads.

use std::collections::HashSet;

use portcullis_config::{Part, Template};

/// A set of names.
#[derive(Clone, Debug)]
pub(super) struct Glob(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    One(Class),
    /// Any number of them.
    Many(Class),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Char(char),
    /// Within a token.
    NoDot,
    Any,
}

impl Class {
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Char(one), Self::Char(other)) => one == other,
            (Self::Char('.'), Self::NoDot) | (Self::NoDot, Self::Char('.')) => false,
            _ => true,
        }
    }
}

impl Glob {
    /// This name and no other.
    pub(super) fn exactly(name: &str) -> Self {
        Self(name.chars().map(|c| Piece::One(Class::Char(c))).collect())
    }

    /// A pattern of `allow`: `*` is one or more characters other than `.`.
    pub(super) fn of_allow(pattern: &str) -> Self {
        let mut glob = Self(Vec::new());
        pattern.chars().for_each(|c| if c == '*' { glob.some(Class::NoDot) } else { glob.one(c) });
        glob
    }

    /// A subject of NATS: `*` is a token, `>` the rest.
    pub(super) fn of_subject(subject: &str) -> Self {
        let mut glob = Self(Vec::new());
        for c in subject.chars() {
            match c {
                '*' => glob.some(Class::NoDot),
                '>' => glob.some(Class::Any),
                c => glob.one(c),
            }
        }
        glob
    }

    /// What a template may give, for messages of a channel where that is known.
    pub(super) fn of_template(template: &Template, channel: Option<&str>) -> Self {
        let mut glob = Self(Vec::new());
        for part in template.parts() {
            match (part, channel) {
                (Part::Text(text), _) => text.chars().for_each(|c| glob.one(c)),
                (Part::Channel, Some(channel)) => channel.chars().for_each(|c| glob.one(c)),
                _ => glob.some(Class::Any),
            }
        }
        glob
    }

    /// Whether there is a name in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let mut seen = HashSet::from([(0, 0)]);
        let mut next = vec![(0, 0)];
        while let Some((one, two)) = next.pop() {
            let (mine, its) = (self.0.get(one).copied(), other.0.get(two).copied());
            let steps = match (mine, its) {
                (None, None) => return true,
                (Some(Piece::One(mine)), Some(Piece::One(its))) => {
                    [mine.meets(its).then_some((one + 1, two + 1)), None]
                }
                (Some(Piece::Many(mine)), Some(Piece::One(its))) => {
                    [Some((one + 1, two)), mine.meets(its).then_some((one, two + 1))]
                }
                (Some(Piece::One(mine)), Some(Piece::Many(its))) => {
                    [Some((one, two + 1)), mine.meets(its).then_some((one + 1, two))]
                }
                (Some(Piece::Many(_)), Some(Piece::Many(_))) => [Some((one + 1, two)), Some((one, two + 1))],
                (Some(Piece::Many(_)), None) => [Some((one + 1, two)), None],
                (None, Some(Piece::Many(_))) => [Some((one, two + 1)), None],
                (Some(Piece::One(_)), None) | (None, Some(Piece::One(_))) => [None, None],
            };
            next.extend(steps.into_iter().flatten().filter(|step| seen.insert(*step)));
        }
        false
    }

    fn one(&mut self, c: char) {
        self.0.push(Piece::One(Class::Char(c)));
    }

    fn some(&mut self, class: Class) {
        self.0.extend([Piece::One(class), Piece::Many(class)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_patterns_meet_where_one_name_is_in_both() {
        let (allow, subject) = (Glob::of_allow, Glob::of_subject);
        for (one, other) in [
            (allow("*"), Glob::exactly("orders")),
            (allow("orders.*"), Glob::exactly("orders.eu")),
            (allow("o*s.*-x"), subject("*.a-x")),
            (allow("a.*"), subject(">")),
            (subject("a.>"), subject("*.b.c")),
        ] {
            assert!(one.meets(&other) && other.meets(&one), "{one:?} {other:?}");
        }
        for (one, other) in [
            (allow("*"), Glob::exactly("orders.eu")),
            (allow("orders.*"), Glob::exactly("orders.")),
            (allow("a.*"), subject("b.>")),
            (subject("a.>"), Glob::exactly("a")),
            (subject("a.*"), subject("a.*.c")),
        ] {
            assert!(!one.meets(&other) && !other.meets(&one), "{one:?} {other:?}");
        }
    }
}
