use std::collections::BTreeMap;

use crate::Rule;
use crate::set::Set;

/// The paths of the rules of a list in ascending order, each with the rules that allow exactly it. A request finds the last
/// entry that is not behind its path; what allows it is this one or a folder around it.
#[derive(Debug, Default)]
pub(crate) struct Paths<const W: usize>(Vec<Entry<W>>);

#[derive(Debug)]
struct Entry<const W: usize> {
    path: Box<str>,
    /// Whether what lies below is meant too: the path ends in `/`.
    folder: bool,
    /// The nearest folder around it that is an entry too.
    around: Option<usize>,
    /// The rules with this path or with a folder around it.
    rules: Set<W>,
}

impl<const W: usize> Paths<W> {
    pub(crate) fn new<'a>(rules: impl Iterator<Item = (usize, &'a Rule)>) -> Self {
        let mut own: BTreeMap<&str, Set<W>> = BTreeMap::new();
        for (place, rule) in rules {
            rule.paths.iter().for_each(|path| own.entry(path).or_default().insert(place));
        }
        let mut entries: Vec<Entry<W>> = Vec::with_capacity(own.len());
        // Folders around the path that is at hand, the outermost first.
        let mut open: Vec<usize> = Vec::new();
        for (path, own) in own {
            while open.last().and_then(|at| entries.get(*at)).is_some_and(|folder| !path.starts_with(&*folder.path)) {
                open.pop();
            }
            let around = open.last().copied();
            let inherited = around.and_then(|at| entries.get(at)).map_or(Set::EMPTY, |folder| folder.rules);
            let folder = path.ends_with('/');
            if folder {
                open.push(entries.len());
            }
            entries.push(Entry { path: path.into(), folder, around, rules: own | inherited });
        }
        Self(entries)
    }

    /// The rules that have the path, or a folder that it lies in.
    pub(crate) fn of(&self, path: &str) -> Set<W> {
        let after = self.0.partition_point(|entry| *entry.path <= *path);
        let Some(mut entry) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return Set::EMPTY };
        if *entry.path == *path {
            return entry.rules;
        }
        // A folder around the path sorts before it, and whatever sorts between the two lies in that folder: so every folder
        // around the path is this entry or around it.
        let common = entry.path.bytes().zip(path.bytes()).take_while(|(one, other)| one == other).count();
        while !(entry.folder && entry.path.len() <= common) {
            let Some(around) = entry.around.and_then(|at| self.0.get(at)) else { return Set::EMPTY };
            entry = around;
        }
        entry.rules
    }
}
