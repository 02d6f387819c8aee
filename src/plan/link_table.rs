//! Whether a plugin may have what it imports: import within manifest, manifest within grant, grant within the ceilings of
//! tenant and node. One line for each thing that is asked, and the reason of its verdict. Pure: nothing is read or linked.

use std::fmt;

use portcullis_config::{Ceilings, EgressGrant, EgressMode, Grants, Location};
use portcullis_policy::covers;

use super::grant::{Grant, ceiling};
use super::needed;
use crate::plugin::{Ask, Examined, Imported, LinkError, Takes, Wish};

/// A plugin with what its operator, its tenant and the node say of it.
pub(crate) struct Case<'a> {
    pub(crate) examined: &'a Examined,
    /// The plugin's entry in its pipeline.
    pub(crate) entry: &'a Location,
    pub(crate) grants: &'a Grants,
    /// The places that its configuration names, as rules.
    pub(crate) named: &'a [String],
    /// With its name.
    pub(crate) tenant: Option<(&'a str, &'a Ceilings)>,
    pub(crate) node: &'a Ceilings,
    pub(crate) production: bool,
}

/// What was found, line by line, and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) lines: Vec<Line>,
    /// Each with the place that an operator has to change.
    pub(crate) refusals: Vec<(Location, LinkError)>,
    /// What somebody should look at, with its place.
    pub(crate) warnings: Vec<(Location, String)>,
    /// What would have to be granted.
    missing: Vec<Wish>,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The interface with its version; none for what is asked or granted and not imported.
    pub import: Option<String>,
    /// Its functions that are imported.
    pub functions: Vec<String>,
    /// The key in `grants:`; none where no grant is needed or none would help.
    pub capability: Option<Wish>,
    /// What the manifest says.
    pub asked: Asked,
    /// What the operator wrote.
    pub granted: Option<Grant>,
    /// The tenant's ceiling, where it has one.
    pub tenant: Option<Grant>,
    /// The node's ceiling, where it has one.
    pub node: Option<Grant>,
    /// What follows.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Line {
    /// Whether it is about the message in work, which every plugin has.
    pub fn is_message(&self) -> bool {
        self.reason == THE_MESSAGE
    }
}

/// What the manifest says of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing of this kind is asked for.
    NotNeeded,
    /// There is no manifest: what is imported is asked for.
    NoManifest,
    /// It does not ask.
    No,
    /// It asks.
    Yes,
    /// It asks and can do without.
    Optional,
}

impl Asked {
    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "-",
            Self::NoManifest => "no manifest",
            Self::No => "no",
            Self::Yes => "yes",
            Self::Optional => "optional",
        }
    }
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is linked, or nothing is to be linked.
    Linked,
    /// The same, and somebody should look at it.
    Warned,
    /// The plugin does not run.
    Refused,
}

impl Verdict {
    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Warned => "warned",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Decides every line.
pub(crate) fn judge(case: &Case<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    if case.examined.claimed.is_none() {
        let at = case.entry.clone();
        if case.production {
            judgement.refusals.push((at, LinkError::ManifestMissing));
        } else {
            judgement
                .warnings
                .push((at, "the component has no manifest: what it imports counts as asked for".to_owned()));
        }
    }
    for import in &case.examined.imports {
        let line = match import.takes {
            Takes::Nothing => plain(import, Verdict::Linked, THE_MESSAGE),
            Takes::Inert => plain(import, Verdict::Linked, INERT),
            Takes::NotAvailable(reason) => {
                let error = LinkError::ImportNotAvailable { import: import.interface.clone(), reason };
                judgement.refuse(case.entry, error);
                plain(import, Verdict::Refused, reason)
            }
            Takes::Unknown => {
                judgement.refuse(case.entry, LinkError::ImportUnknown { import: import.interface.clone() });
                plain(import, Verdict::Refused, "this host does not know it")
            }
            Takes::Grant(wish) => case.line(wish, Some(import)),
        };
        judgement.lines.push(line);
    }
    for wish in Wish::ALL {
        let imports = case.imports(wish);
        let asks_or_has = case.ask(wish).is_some() || Grant::of(case.grants, wish).is_some();
        if imports.is_empty() && asks_or_has {
            judgement.lines.push(case.line(wish, None));
        }
        if !imports.is_empty() || asks_or_has {
            case.conclude(wish, &imports, &mut judgement);
        }
    }
    judgement.merge(&case.suggestion(&judgement.missing));
    judgement
}

fn plain(import: &Imported, verdict: Verdict, reason: &str) -> Line {
    Line {
        import: Some(import.interface.clone()),
        functions: import.functions.clone(),
        capability: None,
        asked: Asked::NotNeeded,
        granted: None,
        tenant: None,
        node: None,
        verdict,
        reason: reason.to_owned(),
    }
}

impl Case<'_> {
    fn ask(&self, wish: Wish) -> Option<&Ask> {
        self.examined.claimed.as_ref()?.manifest.ask(wish)
    }

    fn asked(&self, wish: Wish) -> Asked {
        match (&self.examined.claimed, self.ask(wish)) {
            (None, _) => Asked::NoManifest,
            (Some(_), None) => Asked::No,
            (Some(_), Some(ask)) if ask.optional => Asked::Optional,
            (Some(_), Some(_)) => Asked::Yes,
        }
    }

    fn imports(&self, wish: Wish) -> Vec<&Imported> {
        self.examined.imports.iter().filter(|import| import.takes == Takes::Grant(wish)).collect()
    }

    fn line(&self, wish: Wish, import: Option<&Imported>) -> Line {
        let granted = Grant::of(self.grants, wish);
        let (verdict, reason) = self.verdict(wish, import.is_some());
        Line {
            import: import.map(|import| import.interface.clone()),
            functions: import.map(|import| import.functions.clone()).unwrap_or_default(),
            capability: Some(wish),
            asked: self.asked(wish),
            granted,
            tenant: self.tenant.and_then(|(_, ceilings)| ceiling(ceilings, wish)),
            node: ceiling(self.node, wish),
            verdict,
            reason,
        }
    }

    fn verdict(&self, wish: Wish, imported: bool) -> (Verdict, String) {
        let granted = Grant::of(self.grants, wish);
        let asked = self.asked(wish);
        if let Some((_, level, _)) = self.above(wish).first() {
            return (Verdict::Refused, format!("above the ceiling of {level}"));
        }
        match (imported, asked, granted.is_some()) {
            (true, Asked::No, _) => (Verdict::Refused, "imported, and the manifest does not ask for it".to_owned()),
            (true, Asked::Optional, false) => (Verdict::Linked, REFUSES_EACH_CALL.to_owned()),
            (true, _, false) => (Verdict::Refused, "not granted".to_owned()),
            (false, Asked::Yes, false) => {
                (Verdict::Refused, "the manifest asks for it, and it is not granted".to_owned())
            }
            (false, Asked::Optional, false) => {
                (Verdict::Linked, "optional, and neither imported nor granted".to_owned())
            }
            (false, _, true) => (Verdict::Warned, "over-grant: the component does not import it".to_owned()),
            (_, _, true) => match self.uncovered(wish).first() {
                Some(destination) if asked == Asked::Optional => {
                    (Verdict::Linked, format!("no grant covers {destination}, which is optional"))
                }
                Some(destination) => (Verdict::Refused, format!("no grant covers {destination}")),
                None if !self.unasked().is_empty() && wish == Wish::Egress => {
                    (Verdict::Warned, format!("over-grant: nobody asked for {}", self.unasked().join(", ")))
                }
                None if wish == Wish::Egress && self.refuses_every_call() => {
                    (Verdict::Warned, "no rule: every call is refused".to_owned())
                }
                None => (Verdict::Linked, self.why(wish)),
            },
            (false, _, false) => (Verdict::Linked, String::new()),
        }
    }

    fn why(&self, wish: Wish) -> String {
        self.ask(wish).map_or_else(|| "granted".to_owned(), |ask| format!("\"{}\"", ask.reason))
    }

    /// The refusals and warnings of a capability, once for all interfaces that need it.
    fn conclude(&self, wish: Wish, imports: &[&Imported], judgement: &mut Judgement) {
        let granted = Grant::of(self.grants, wish);
        for (grant, level, ceiling) in self.above(wish) {
            let error = LinkError::GrantAboveCeiling { grant: format!("`{wish}: {}`", grant.text), level, ceiling };
            judgement.refusals.push((grant.at, error));
        }
        let names = || imports.iter().map(|import| import.interface.clone()).collect::<Vec<_>>();
        let asked = self.asked(wish);
        let refusal = match (&granted, asked) {
            (_, Asked::No) if !imports.is_empty() => {
                Some(LinkError::ImportOutsideManifest { imports: names(), capabilities: vec![wish.as_str()] })
            }
            (None, Asked::Yes | Asked::NoManifest) if !imports.is_empty() => Some(LinkError::ImportNotGranted {
                imports: names(),
                capabilities: vec![wish.as_str()],
                yaml: String::new(),
            }),
            (None, Asked::Yes) => {
                Some(LinkError::GrantMissing { asks: vec![format!("`{wish}`")], yaml: String::new() })
            }
            (Some(_), Asked::Yes) if !self.uncovered(wish).is_empty() => {
                Some(LinkError::GrantMissing { asks: self.uncovered(wish), yaml: String::new() })
            }
            _ => None,
        };
        if matches!(refusal, Some(LinkError::ImportNotGranted { .. } | LinkError::GrantMissing { .. })) {
            judgement.missing.push(wish);
        }
        if let Some(refusal) = refusal {
            judgement.refusals.push((granted.map_or_else(|| self.entry.clone(), |grant| grant.at), refusal));
        } else if let Some(grant) = granted {
            if imports.is_empty() {
                judgement.warnings.push((grant.at, format!("over-grant: the component does not import `{wish}`")));
            } else if wish == Wish::Egress && self.refuses_every_call() {
                judgement.warnings.push((grant.at, self.no_rule()));
            } else if wish == Wish::Egress && !self.unasked().is_empty() {
                let message = format!("over-grant: the manifest does not ask for {}", self.unasked().join(", "));
                judgement.warnings.push((grant.at, message));
            }
        }
    }

    /// What was granted above a ceiling: the grant, whose ceiling, and the ceiling with its place.
    fn above(&self, wish: Wish) -> Vec<(Grant, String, String)> {
        let tenant = self.tenant.map(|(name, ceilings)| (format!("tenant `{name}`"), ceilings));
        let levels = tenant.into_iter().chain([("the node".to_owned(), self.node)]);
        let above = levels.flat_map(|(level, ceilings)| {
            let named = ceiling(ceilings, wish)
                .map_or_else(String::new, |ceiling| format!("`{wish}: {}` ({})", ceiling.text, ceiling.at));
            Grant::above(self.grants, wish, ceilings)
                .into_iter()
                .map(move |grant| (grant, level.clone(), named.clone()))
        });
        above.collect()
    }

    /// The destinations of the manifest that no grant covers. An operator who grants a part of one (some paths, some
    /// methods) has granted that one: less than what was asked is the point of a grant.
    fn uncovered(&self, wish: Wish) -> Vec<String> {
        let (Some(ask), Some(egress)) = (self.ask(wish), &self.grants.egress) else { return Vec::new() };
        let granted: Vec<_> = egress.rules.iter().filter_map(|rule| whole(&rule.rule)).collect();
        let is_covered = |destination: &&String| {
            let rule = portcullis_policy::Rule::parse_ceiling(destination);
            rule.is_ok_and(|rule| covers(&granted, &rule))
        };
        ask.egress.iter().filter(|destination| !is_covered(destination)).cloned().collect()
    }

    /// The whole `grants:` that would be enough, with what is there already.
    fn suggestion(&self, missing: &[Wish]) -> String {
        let lines = Wish::ALL.into_iter().filter_map(|wish| {
            let granted = Grant::of(self.grants, wish);
            match (granted, missing.contains(&wish)) {
                (None, true) => Some(needed::least(wish, self.destinations(wish), self.examined)),
                // The rules that are there would be too long a line.
                (Some(_), true) => Some(format!("egress: [..., {}]", needed::items(&self.uncovered(wish)))),
                (Some(_), false) if wish == Wish::Egress => Some("egress: [...]".to_owned()),
                (Some(grant), false) => Some(format!("{wish}: {}", grant.text)),
                (None, false) => None,
            }
        });
        format!("grants: {{ {} }}", lines.collect::<Vec<_>>().join(", "))
    }

    /// Where it wants to go: what its manifest says, and where that leaves it to the configuration, what that says.
    fn destinations(&self, wish: Wish) -> &[String] {
        match self.ask(wish).map(|ask| ask.egress.as_slice()) {
            Some(asked @ [_, ..]) => asked,
            _ if wish == Wish::Egress => self.named,
            _ => &[],
        }
    }

    /// An empty list is a grant: the interfaces are linked, and nothing can be reached through them.
    fn refuses_every_call(&self) -> bool {
        let is_empty = |grant: &EgressGrant| grant.rules.is_empty() && grant.mode.value == EgressMode::Enforce;
        self.grants.egress.as_ref().is_some_and(is_empty)
    }

    fn no_rule(&self) -> String {
        let suggestion = needed::least(Wish::Egress, self.destinations(Wish::Egress), self.examined);
        let what = needed::to_fill_in(&suggestion).map_or("reach what it names", |_| "reach a host");
        format!("every call to the network will be refused: `egress` has no rule; with `{suggestion}` it could {what}")
    }

    /// The granted destinations that the manifest names none of; none where it leaves them to its configuration.
    fn unasked(&self) -> Vec<String> {
        let (Some(ask), Some(egress)) = (self.ask(Wish::Egress), &self.grants.egress) else { return Vec::new() };
        let asked: Vec<_> =
            ask.egress.iter().filter_map(|text| portcullis_policy::Rule::parse_ceiling(text).ok()).collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let rules = egress.rules.iter().filter(|rule| !whole(&rule.rule).is_some_and(|rule| covers(&asked, &rule)));
        rules.map(|rule| rule.rule.to_string()).collect()
    }
}

const INERT: &str = "leads nowhere by itself: no environment, no files, no streams but of what was granted";
const THE_MESSAGE: &str = "the message in work";
/// What an optional import that was not granted is linked to.
const REFUSES_EACH_CALL: &str = "optional and not granted: each call of it is refused";

/// A rule without what narrows it within its destination.
fn whole(rule: &portcullis_policy::Rule) -> Option<portcullis_policy::Rule> {
    let text = rule.to_string();
    let destination = text.split_whitespace().next().unwrap_or_default();
    portcullis_policy::Rule::parse_ceiling(destination).ok()
}

impl Judgement {
    fn refuse(&mut self, at: &Location, error: LinkError) {
        self.refusals.push((at.clone(), error));
    }

    /// All missing grants in one message: an operator who adds one line a start learns to grant without reading.
    fn merge(&mut self, suggestion: &str) {
        let mut merged: Vec<(Location, LinkError)> = Vec::with_capacity(self.refusals.len());
        for (at, refusal) in self.refusals.drain(..) {
            let earlier = merged.iter_mut().find(|(place, error)| *place == at && same_kind(error, &refusal));
            match earlier {
                Some((_, error)) => join(error, refusal),
                None => merged.push((at, refusal)),
            }
        }
        for (_, error) in &mut merged {
            if let LinkError::ImportNotGranted { yaml, .. } | LinkError::GrantMissing { yaml, .. } = error {
                suggestion.clone_into(yaml);
            }
        }
        self.refusals = merged;
    }
}

fn same_kind(one: &LinkError, other: &LinkError) -> bool {
    use LinkError::{GrantMissing, ImportNotGranted, ImportOutsideManifest};
    matches!(
        (one, other),
        (ImportNotGranted { .. }, ImportNotGranted { .. })
            | (GrantMissing { .. }, GrantMissing { .. })
            | (ImportOutsideManifest { .. }, ImportOutsideManifest { .. })
    )
}

fn join(error: &mut LinkError, other: LinkError) {
    match (error, other) {
        (
            LinkError::ImportNotGranted { imports, capabilities, .. },
            LinkError::ImportNotGranted { imports: more, capabilities: keys, .. },
        )
        | (
            LinkError::ImportOutsideManifest { imports, capabilities },
            LinkError::ImportOutsideManifest { imports: more, capabilities: keys },
        ) => {
            imports.extend(more);
            capabilities.extend(keys);
        }
        (LinkError::GrantMissing { asks, .. }, LinkError::GrantMissing { asks: more, .. }) => asks.extend(more),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
