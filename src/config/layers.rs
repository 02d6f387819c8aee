use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use crate::yaml::{Document, Entry, Kind, Node, Scalar, parse_literal};
use crate::{Code, Diagnostics, Environment, Location};

/// The name of the node's file where none is given.
pub const NODE_FILE: &str = "portcullis.yaml";

/// `PORTCULLIS_AUDIT__FILE` is `audit.file`.
pub const VARIABLE_PREFIX: &str = "PORTCULLIS_";

/// Settings of the node that were given as flags: the uppermost layer.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<Override>);

impl Flags {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// A setting by its place in the node's file (`admin.listen`); `flag` (`--listen`) is what errors name. A value that
    /// begins with `[` or `{` is YAML.
    #[must_use]
    pub fn with(mut self, flag: &str, key: &str, value: impl Into<String>) -> Self {
        self.0.push(Override {
            name: flag.to_owned(),
            keys: key.split('.').map(str::to_owned).collect(),
            value: value.into(),
        });
        self
    }
}

/// The node's file: the one that was named, else `portcullis.yaml` beside the first pipeline file, else none.
pub fn discover_node(named: Option<&Path>, first_pipeline: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let beside = first_pipeline?.parent()?.join(NODE_FILE);
    // Whatever has that name: one that cannot be read is refused, and not taken for none.
    beside.symlink_metadata().is_ok().then_some(beside)
}

/// One setting from outside of the file.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    name: String,
    keys: Vec<String>,
    value: String,
}

/// The file under the environment under the flags. Each value keeps the place that it came from.
pub(crate) fn merge(file: Node, environment: &dyn Environment, flags: &Flags, found: &mut Diagnostics) -> Option<Node> {
    if !matches!(file.kind, Kind::Map(_)) {
        return Some(file);
    }
    let root_at = file.at.clone();
    let mut overrides = variables(environment, found);
    overrides.extend(flags.0.iter().cloned());
    let mut arena = Arena::default();
    let mut figment = Figment::from(arena.layer(root_at.file(), file));
    for given in overrides {
        let name = given.name.clone();
        if let Some(node) = given.into_tree(found) {
            let excluded = excluded(&node);
            if !excluded.is_empty() {
                figment = without(figment, &excluded);
            }
            figment = figment.merge(arena.layer(&name, node));
        }
    }
    match figment.extract::<Dict>() {
        Ok(dict) => Some(arena.tree(dict, &root_at)),
        Err(error) => {
            found.push(root_at.diagnostic(Code::TypeWrong, format!("the layers do not fit together: {error}")));
            None
        }
    }
}

fn variables(environment: &dyn Environment, found: &mut Diagnostics) -> Vec<Override> {
    let mut variables = environment.with_prefix(VARIABLE_PREFIX);
    variables.retain(|(name, _)| !is_service_link(name));
    variables.sort();
    let mut overrides = Vec::new();
    for (name, value) in variables {
        let path = name.strip_prefix(VARIABLE_PREFIX).unwrap_or_default().to_lowercase();
        let keys: Vec<String> = path.split("__").map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            let message = "not the name of a setting";
            let help = "`__` stands between the levels: PORTCULLIS_ADMIN__LISTEN is admin.listen";
            found.push(Location::of(&name).diagnostic(Code::KeyUnknown, message).help(help));
            continue;
        }
        overrides.push(Override { name, keys, value });
    }
    overrides
}

/// Kubernetes sets such variables in every pod for each service, and a service named `portcullis` must not stop the bridge.
fn is_service_link(name: &str) -> bool {
    let service = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let port = name.ends_with("_PORT") && !name.contains("__");
    let numbered = name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    service || port || numbered
}

impl Override {
    fn into_tree(self, found: &mut Diagnostics) -> Option<Node> {
        let at = Location::of(&self.name);
        let leaf = if self.value.trim_start().starts_with(['[', '{']) {
            let mut errors = Diagnostics::new();
            match parse_literal(&self.name, self.value.as_bytes(), &mut errors) {
                Document::Tree(node) if errors.is_empty() => node.relocated(&at),
                _ => {
                    // Its own place is inside of a value that may be a secret.
                    let message = errors.iter().next().map_or("empty", |error| error.message.as_str());
                    let message = format!("the value begins as YAML and is not: {message}");
                    found.push(at.diagnostic(Code::YamlSyntax, message));
                    return None;
                }
            }
        } else {
            // `typed` lets it be a number or text, as the setting wants.
            let shown =
                if self.name.starts_with('-') { format!("{} ...", self.name) } else { format!("${{{}}}", self.name) };
            let scalar = Scalar { text: self.value, plain: true, typed: Some(shown) };
            Node { kind: Kind::Scalar(scalar), at: at.clone() }
        };
        Some(self.keys.into_iter().rev().fold(leaf, |value, key| {
            let entry = Entry { key, key_at: at.clone(), value };
            Node { kind: Kind::Map(vec![entry]), at: at.clone() }
        }))
    }
}

/// Choices of which an upper layer's replaces a lower layer's, instead of standing beside it.
const ALTERNATIVES: [(&str, &[&str]); 4] = [
    ("file", &["topic", "profile", "brokers", "tls", "sasl", "client_id", "librdkafka"]),
    ("topic", &["file"]),
    ("profile", &["brokers", "tls", "sasl"]),
    ("brokers", &["profile"]),
];

/// The keys under `audit` that a layer puts out of force.
fn excluded(layer: &Node) -> Vec<&'static str> {
    let entries = |node: &Node| match &node.kind {
        Kind::Map(entries) => entries.clone(),
        _ => Vec::new(),
    };
    let audit = entries(layer).into_iter().find(|entry| entry.key == "audit");
    let given: Vec<String> =
        audit.map(|audit| entries(&audit.value).into_iter().map(|entry| entry.key).collect()).unwrap_or_default();
    let excluded = ALTERNATIVES.iter().filter(|(key, _)| given.iter().any(|given| given == key));
    excluded.flat_map(|(_, others)| *others).copied().filter(|key| !given.iter().any(|given| given == key)).collect()
}

fn without(figment: Figment, keys: &[&'static str]) -> Figment {
    let Ok(mut dict) = figment.extract::<Dict>() else { return figment };
    if let Some(Value::Dict(_, audit)) = dict.get_mut("audit") {
        audit.retain(|key, _| !keys.contains(&key.as_str()));
    }
    Figment::from(Layer { name: "lower layers".to_owned(), dict })
}

/// Nodes that figment merges by their number, since it keeps no places.
#[derive(Default)]
struct Arena(Vec<(Location, Node)>);

/// Under this key a map keeps the number of its own place. No YAML text holds a NUL.
const OWN_PLACE: &str = "\0";

impl Arena {
    fn layer(&mut self, name: &str, node: Node) -> Layer {
        let dict = match node.kind {
            Kind::Map(entries) => self.dict(entries),
            _ => Dict::new(),
        };
        Layer { name: name.to_owned(), dict }
    }

    fn dict(&mut self, entries: Vec<Entry>) -> Dict {
        let mut dict = Dict::new();
        for Entry { key, key_at, value } in entries {
            let value = match value.kind {
                Kind::Map(entries) => {
                    let mut inner = self.dict(entries);
                    inner.insert(OWN_PLACE.to_owned(), self.number(key_at, Node { kind: Kind::Broken, at: value.at }));
                    Value::from(inner)
                }
                kind => self.number(key_at, Node { kind, at: value.at }),
            };
            dict.insert(key, value);
        }
        dict
    }

    fn number(&mut self, key_at: Location, node: Node) -> Value {
        self.0.push((key_at, node));
        Value::from(self.0.len() - 1)
    }

    fn get(&self, value: &Value) -> Option<(Location, Node)> {
        let index = usize::try_from(value.to_u128()?).ok()?;
        self.0.get(index).cloned()
    }

    fn tree(&self, dict: Dict, at: &Location) -> Node {
        let mut entries = Vec::new();
        for (key, value) in dict.into_iter().filter(|(key, _)| key != OWN_PLACE) {
            let entry = match value {
                Value::Dict(_, inner) => {
                    let place = inner.get(OWN_PLACE).and_then(|value| self.get(value));
                    let (key_at, at) = place.map_or((at.clone(), at.clone()), |(key_at, node)| (key_at, node.at));
                    Some(Entry { key, key_at, value: self.tree(inner, &at) })
                }
                value => self.get(&value).map(|(key_at, value)| Entry { key, key_at, value }),
            };
            entries.extend(entry);
        }
        Node { kind: Kind::Map(entries), at: at.clone() }
    }
}

struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}
