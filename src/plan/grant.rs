//! Grants and ceilings in one form: the text as it is typed under `grants:`, with its place.

use portcullis_config::{Ceilings, Clock, Grants, Location, PluginLogLevel};
use portcullis_policy::{Rule, covers};

use crate::plugin::Wish;

/// What somebody typed under a key of `grants:` or `ceilings:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// As it is typed: `coarse`, `true`, the rules of an egress list one after the other.
    pub text: String,
    /// Where.
    pub at: Location,
}

impl Grant {
    /// What was granted of a capability.
    pub(crate) fn of(grants: &Grants, wish: Wish) -> Option<Self> {
        match wish {
            Wish::Log => grants.log.as_ref().map(|log| Self::new(log.value.as_str(), &log.at)),
            Wish::Clock => grants.clock.as_ref().map(|clock| Self::new(clock.value.as_str(), &clock.at)),
            Wish::Random => grants.random.as_ref().map(|at| Self::new("true", at)),
            Wish::Egress => grants.egress.as_ref().map(|egress| {
                let rules = egress.rules.iter().map(|rule| rule.rule.canonical());
                Self::new(&format!("[{}]", rules.collect::<Vec<_>>().join(", ")), &egress.at)
            }),
        }
    }

    /// What of it a level does not allow.
    pub(crate) fn above(grants: &Grants, wish: Wish, ceilings: &Ceilings) -> Vec<Self> {
        let is_above = match wish {
            Wish::Log => grants.log.as_ref().zip(ceilings.log.as_ref()).is_some_and(|(log, ceiling)| {
                // A lower level lets more lines through.
                ceiling.value.is_none_or(|lowest| log.value < lowest)
            }),
            Wish::Clock => grants
                .clock
                .as_ref()
                .zip(ceilings.clock.as_ref())
                .is_some_and(|(clock, ceiling)| ceiling.value.is_none_or(|finest| clock.value > finest)),
            Wish::Random => grants.random.is_some() && ceilings.random.as_ref().is_some_and(|ceiling| !ceiling.value),
            Wish::Egress => return egress_above(grants, ceilings),
        };
        Self::of(grants, wish).filter(|_| is_above).into_iter().collect()
    }

    fn new(text: &str, at: &Location) -> Self {
        Self { text: text.to_owned(), at: at.clone() }
    }
}

fn egress_above(grants: &Grants, ceilings: &Ceilings) -> Vec<Grant> {
    let (Some(egress), Some(ceiling)) = (&grants.egress, &ceilings.egress) else { return Vec::new() };
    let ceiling: Vec<Rule> = ceiling.iter().map(|rule| rule.value.clone()).collect();
    let above = egress.rules.iter().filter(|rule| !covers(&ceiling, &rule.rule));
    above.map(|rule| Grant::new(&rule.rule.canonical(), &rule.at)).collect()
}

/// The ceiling of a capability, where a level has one.
pub(crate) fn ceiling(ceilings: &Ceilings, wish: Wish) -> Option<Grant> {
    match wish {
        Wish::Log => {
            ceilings.log.as_ref().map(|log| Grant::new(log.value.map_or("none", PluginLogLevel::as_str), &log.at))
        }
        Wish::Clock => {
            ceilings.clock.as_ref().map(|clock| Grant::new(clock.value.map_or("none", Clock::as_str), &clock.at))
        }
        Wish::Random => {
            ceilings.random.as_ref().map(|random| Grant::new(if random.value { "true" } else { "none" }, &random.at))
        }
        Wish::Egress => {
            let rules = ceilings.egress.as_ref()?;
            let text: Vec<String> = rules.iter().map(|rule| rule.value.to_string()).collect();
            // An empty list has no place of its own, so its key stands for it.
            let at = rules.first().map_or_else(|| Location::of("ceilings.egress"), |rule| rule.at.clone());
            Some(Grant::new(&format!("[{}]", text.join(", ")), &at))
        }
    }
}
