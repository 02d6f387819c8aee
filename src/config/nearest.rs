/// `allowed: a, b, c; did you mean `b`?`
pub(crate) fn help<S: AsRef<str>>(word: &str, found: Option<&str>, names: impl IntoIterator<Item = S>) -> String {
    const SHOWN: usize = 40;
    let names: Vec<S> = names.into_iter().collect();
    let mut shown: Vec<&str> = names.iter().map(AsRef::as_ref).take(SHOWN).collect();
    if names.len() > SHOWN {
        shown.push("...");
    }
    let mut text = if shown.is_empty() { format!("{word}: none") } else { format!("{word}: {}", shown.join(", ")) };
    if let Some(name) = found.and_then(|found| nearest(found, names.iter().map(AsRef::as_ref))) {
        text.push_str(&format!("; did you mean `{name}`?"));
    }
    text
}

/// The name that a typing error most likely meant.
pub(crate) fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64; // the distance costs the product of both lengths
    let plain = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let wanted: Vec<char> = plain(found).chars().collect();
    if wanted.is_empty() || wanted.len() > LENGTH_MAX {
        return None;
    }
    names
        .filter(|name| name.len() <= LENGTH_MAX)
        .map(|name| (distance(&wanted, &plain(name).chars().collect::<Vec<_>>()), name))
        .filter(|(distance, name)| *distance <= (name.chars().count().max(wanted.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(one: &[char], other: &[char]) -> usize {
    let width = other.len() + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..width).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = Vec::with_capacity(width);
        next.push(i + 1);
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&row, j) + usize::from(a != b)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_what_a_typing_error_meant() {
        let names = ["order", "source", "plugins", "dead_letter", "sink"];
        let of = |found| nearest(found, names.into_iter());
        assert_eq!(of("plugin"), Some("plugins"));
        assert_eq!(of("soruce"), Some("source"));
        assert_eq!(of("dead-letter"), Some("dead_letter"));
        assert_eq!(of("deadLetter"), Some("dead_letter"));
        assert_eq!(of("Sink"), Some("sink"));
        assert_eq!(of("zzzzzz"), None);
        assert_eq!(of(""), None);
        assert_eq!(of(&"s".repeat(10_000)), None);
    }

    #[test]
    fn the_help_lists_what_is_allowed() {
        assert_eq!(help("allowed", Some("kee"), ["key", "none"]), "allowed: key, none; did you mean `key`?");
        assert_eq!(help("declared", Some("x"), Vec::<String>::new()), "declared: none");
        assert!(help("allowed", None, (0..100).map(|n| n.to_string())).ends_with("39, ..."));
    }
}
