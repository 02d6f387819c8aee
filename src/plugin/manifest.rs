//! What a component says of itself: its name and the capabilities that it asks for, each with a reason. It is a claim and
//! never a grant: a plugin gets what its operator wrote, and what it imports must be within what it says here.

use std::fmt;
use std::path::{Path, PathBuf};

use portcullis_config::{ReadError, read_file};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::artifact::{Sections, digest_text};
use super::contract::Kind;
use super::error::LinkError;
use super::text::tame;

/// The custom section that holds it.
pub(super) const SECTION: &str = "portcullis:manifest";
/// The end of the name of the file beside a component, after the component's whole name.
const BESIDE: &str = ".manifest.yaml";
/// The largest manifest, in bytes.
pub(super) const MAX_BYTES: usize = 64 << 10;
const MAX_NAME_BYTES: usize = 64;
const MAX_REASON_BYTES: usize = 512;
const MAX_DESTINATIONS: usize = 64;
const MAX_DESTINATION_BYTES: usize = 300;

/// What a component says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Letters, digits, `-`, `.` and `_`, at most 64 bytes.
    pub name: String,
    /// Letters, digits, `-`, `.` and `+`, at most 64 bytes.
    pub version: String,
    /// Which world it speaks.
    pub world: Kind,
    /// What it asks for; none twice.
    pub asks: Vec<Ask>,
    /// A JSON Schema of what `configure` takes. For people: the plugin itself checks its configuration.
    pub config_schema: Option<Value>,
}

/// One capability that a component asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which.
    pub capability: Wish,
    /// Why, in its author's words, with everything escaped that could fool a terminal; at most 512 bytes.
    pub reason: String,
    /// Whether it can do without.
    pub optional: bool,
    /// What it wants to reach, as rules (`https://api.example.com`); empty where its configuration decides that.
    pub egress: Vec<String>,
}

/// What can be asked for: the keys of `grants:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Lines for the operator's log.
    Log,
    /// The time.
    Clock,
    /// Random bytes.
    Random,
    /// The network.
    Egress,
}

impl Wish {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Log, Self::Clock, Self::Random, Self::Egress];

    /// The key in `grants:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Manifest {
    /// What it says of a capability.
    pub fn ask(&self, capability: Wish) -> Option<&Ask> {
        self.asks.iter().find(|ask| ask.capability == capability)
    }
}

/// A manifest with where it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// What it says.
    pub manifest: Manifest,
    /// `sha256:` and the digest of its bytes as they were found.
    pub digest: String,
    /// The file beside the component; none where it is inside.
    pub file: Option<PathBuf>,
}

/// The manifest of a component: in a section of its own, else in exactly one of its core modules, or in the file beside it.
pub(super) fn find(component: &Path, sections: &Sections) -> Result<Option<Claimed>, LinkError> {
    let inside = inside(sections)?.map(|bytes| claimed(bytes, None)).transpose()?;
    let file = beside(component);
    let beside = read(&file)?.map(|bytes| claimed(&bytes, Some(file))).transpose()?;
    match (inside, beside) {
        // Whoever can write the file could otherwise change what the author said.
        (Some(inside), Some(beside)) if inside.manifest != beside.manifest => {
            Err(wrong(format!("it is in the component and in {}, and they differ; remove the file", named(&beside))))
        }
        (inside, beside) => Ok(inside.or(beside)),
    }
}

fn named(claimed: &Claimed) -> String {
    claimed.file.as_deref().unwrap_or(Path::new("")).display().to_string()
}

fn inside(sections: &Sections) -> Result<Option<&[u8]>, LinkError> {
    let one = |sections: &'_ [Vec<u8>], place: &str| match sections.len() {
        0 => Ok(()),
        1 => Ok(()),
        count => Err(wrong(format!("{place} has {count} sections `{SECTION}`, one is allowed"))),
    };
    one(&sections.root, "the component")?;
    if let Some(section) = sections.root.first() {
        return Ok(Some(section));
    }
    one(&sections.modules, "the core modules of the component together")?;
    Ok(sections.modules.first().map(Vec::as_slice))
}

fn beside(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(BESIDE);
    PathBuf::from(name)
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, LinkError> {
    let failed = |error: ReadError| wrong(format!("{} cannot be read: {error}", file.display()));
    match read_file(file, MAX_BYTES as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn claimed(bytes: &[u8], file: Option<PathBuf>) -> Result<Claimed, LinkError> {
    let place = || file.as_ref().map_or_else(String::new, |file| format!("{}: ", file.display()));
    let wrong = |detail: String| wrong(format!("{}{detail}", place()));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    // A manifest has no use for aliases, and a few of them stand for a million values.
    let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_aliases: 0, max_nodes: 20_000 } };
    let typed: Typed = match file {
        None => serde_json::from_str(text).map_err(|error| wrong(tame(&error.to_string(), 500).into_owned()))?,
        Some(_) => serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| wrong(tame(&error.to_string(), 500).into_owned()))?,
    };
    let manifest = typed.check().map_err(wrong)?;
    let digest = digest_text(&Sha256::digest(bytes).into());
    Ok(Claimed { manifest, digest, file })
}

fn wrong(detail: String) -> LinkError {
    LinkError::Manifest { detail }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    manifest: u32,
    name: String,
    version: String,
    world: World,
    #[serde(default)]
    capabilities: Vec<TypedAsk>,
    config_schema: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedAsk {
    name: Wish,
    reason: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    egress: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum World {
    Validator,
    Enricher,
}

impl Typed {
    fn check(self) -> Result<Manifest, String> {
        if self.manifest != 1 {
            return Err(format!("`manifest: {}` is a form that this host does not know; it knows 1", self.manifest));
        }
        identifier("name", &self.name, "-._")?;
        identifier("version", &self.version, "-.+")?;
        let mut asks: Vec<Ask> = Vec::with_capacity(self.capabilities.len().min(Wish::ALL.len()));
        for typed in self.capabilities {
            let ask = typed.check()?;
            if asks.iter().any(|earlier| earlier.capability == ask.capability) {
                return Err(format!("it asks for `{}` twice", ask.capability));
            }
            asks.push(ask);
        }
        if let Some(schema) = &self.config_schema {
            if !schema.is_object() && !schema.is_boolean() {
                return Err("`config_schema` is not a JSON Schema: an object, true or false".to_owned());
            }
            // As JSON a text may be longer than as YAML: `\a` becomes `\u0007`.
            if schema.to_string().len() > MAX_BYTES {
                return Err(format!("`config_schema` has more than {MAX_BYTES} bytes"));
            }
        }
        let world = match self.world {
            World::Validator => Kind::Validator,
            World::Enricher => Kind::Enricher,
        };
        Ok(Manifest { name: self.name, version: self.version, world, asks, config_schema: self.config_schema })
    }
}

impl TypedAsk {
    fn check(self) -> Result<Ask, String> {
        let capability = self.name;
        let reason = self.reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
            return Err(format!("the `reason` for `{capability}` has 1 to {MAX_REASON_BYTES} bytes"));
        }
        if capability != Wish::Egress && !self.egress.is_empty() {
            return Err(format!("`{capability}` has a list `egress`; only `egress` has one"));
        }
        if self.egress.len() > MAX_DESTINATIONS {
            return Err(format!("it asks for more than {MAX_DESTINATIONS} destinations"));
        }
        for destination in &self.egress {
            if destination.len() > MAX_DESTINATION_BYTES {
                return Err(format!("a destination has more than {MAX_DESTINATION_BYTES} bytes"));
            }
            portcullis_policy::Rule::parse_ceiling(destination).map_err(|errors| {
                let why = errors.first().map_or_else(String::new, |error| error.message.clone());
                format!("destination `{}`: {}", tame(destination, 100), tame(&why, 300))
            })?;
        }
        // Escapes make a text longer: what is shown is bounded too.
        let reason = tame(reason, MAX_REASON_BYTES).into_owned();
        Ok(Ask { capability, reason, optional: self.optional, egress: self.egress })
    }
}

fn identifier(field: &str, text: &str, besides: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || besides.contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.len() <= MAX_NAME_BYTES && text.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "`{field}: {}` is not 1 to {MAX_NAME_BYTES} letters, digits or `{besides}`, a letter or digit first",
        tame(text, MAX_NAME_BYTES)
    ))
}

#[cfg(test)]
mod tests;
