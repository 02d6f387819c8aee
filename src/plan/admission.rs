//! What every plugin passes before anything of it is compiled: its bytes against the lock, its types against the contract, its
//! imports against its manifest, its manifest against the grants, its grants against the ceilings, its name against the others.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use portcullis_config::{Code, Diagnostic, Diagnostics, Grants, Location, Mode, Node, Pipeline, Plugin};

use super::egress::Networks;
use super::grant::Grant;
use super::link_table::{Case, Line, Verdict, judge};
use super::lock::Locks;
use super::locked::{self, LockedPipeline, LockedPlugin};
use super::{RefusedPlugin, evidence, needed, plugins};
use crate::plugin::{ComponentFile, Examined, LinkError, Sandbox, Takes, Wish};

/// What was found about one plugin.
#[derive(Clone, Debug)]
pub struct Table {
    /// The pipeline's file.
    pub file: String,
    /// The pipeline.
    pub pipeline: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// The plugin's name within it.
    pub plugin: String,
    /// Its entry.
    pub at: Location,
    /// The component file as it was found.
    pub component: String,
    /// `sha256:...`, where the file could be read.
    pub digest: Option<String>,
    /// What is known of the component; none where it is no plugin.
    pub examined: Option<Arc<Examined>>,
    /// One for each thing that it asks for or was granted.
    pub lines: Vec<Line>,
    /// Why it does not run.
    pub refusals: Vec<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

impl Table {
    /// The worst of it.
    pub fn verdict(&self) -> Verdict {
        let lines = self.lines.iter().map(|line| line.verdict).max().unwrap_or(Verdict::Linked);
        match (self.refusals.is_empty(), self.warnings.is_empty()) {
            (false, _) => Verdict::Refused,
            (true, false) => lines.max(Verdict::Warned),
            (true, true) => lines,
        }
    }
}

/// The plugins of one process on their way in.
pub(super) struct Admission<'a> {
    pub(super) sandbox: &'a Sandbox,
    node: &'a Node,
    networks: &'a Networks<'a>,
    locks: Locks,
    tables: Vec<Table>,
    named: Vec<Named>,
    refused: Vec<RefusedPlugin>,
    /// Grants whose ceiling the configuration has held against them already.
    said: Vec<Location>,
}

/// A component that has a name.
struct Named {
    name: String,
    version: String,
    digest: String,
    at: Location,
    component: PathBuf,
    refused: RefusedPlugin,
    table: usize,
}

/// A plugin that may be compiled.
pub(super) struct Admitted {
    /// The bytes that were examined.
    pub(super) file: ComponentFile,
    pub(super) examined: Arc<Examined>,
    table: usize,
}

impl Admitted {
    /// What the component imports, could do without and was not granted.
    pub(super) fn left_out(&self, grants: &Grants) -> Vec<Wish> {
        let Some(claimed) = &self.examined.claimed else { return Vec::new() };
        let optional = claimed.manifest.asks.iter().filter(|ask| ask.optional).map(|ask| ask.capability);
        let is_imported = |wish: Wish| self.examined.imports.iter().any(|import| import.takes == Takes::Grant(wish));
        optional.filter(|wish| is_imported(*wish) && Grant::of(grants, *wish).is_none()).collect()
    }
}

impl<'a> Admission<'a> {
    pub(super) fn new(
        sandbox: &'a Sandbox,
        node: &'a Node,
        networks: &'a Networks<'a>,
        locks: Locks,
        wrong: &Diagnostics,
    ) -> Self {
        let is_ceiling = |diagnostic: &&Diagnostic| diagnostic.code.as_str() == "grant_above_ceiling";
        let said = wrong.iter().filter(is_ceiling).map(|diagnostic| diagnostic.at.clone()).collect();
        Self { sandbox, node, networks, locks, tables: Vec::new(), named: Vec::new(), refused: Vec::new(), said }
    }

    /// What was found about every plugin, and which were refused.
    pub(super) fn end(self) -> (Vec<Table>, Vec<RefusedPlugin>) {
        (self.tables, self.refused)
    }

    /// Reads a component of an entry that has errors, and judges nothing but the component.
    pub(super) fn look(&mut self, pipeline: &Pipeline, plugin: &Plugin, wrong: &mut Diagnostics) {
        let table = self.begin(pipeline, plugin);
        if let Err(error) = self.examine(pipeline, plugin, table) {
            self.refuse(pipeline, plugin, table, None, &error, wrong);
        }
    }

    fn begin(&mut self, pipeline: &Pipeline, plugin: &Plugin) -> usize {
        self.tables.push(Table {
            file: pipeline.file.display().to_string(),
            pipeline: pipeline.name.value.clone(),
            tenant: pipeline.tenant.as_ref().map(|tenant| tenant.value.clone()),
            plugin: plugin.name.value.clone(),
            at: plugin.at.clone(),
            component: shown(&plugin.component.value),
            digest: None,
            examined: None,
            lines: Vec::new(),
            refusals: Vec::new(),
            warnings: Vec::new(),
        });
        self.tables.len() - 1
    }

    /// Reads and judges a component; none where it is refused.
    pub(super) fn admit(&mut self, pipeline: &Pipeline, plugin: &Plugin, wrong: &mut Diagnostics) -> Option<Admitted> {
        let table = self.begin(pipeline, plugin);
        let (file, examined) = match self.examine(pipeline, plugin, table) {
            Ok((file, examined)) => (file, Arc::new(examined)),
            Err(error) => {
                self.refuse(pipeline, plugin, table, None, &error, wrong);
                return None;
            }
        };
        let tenant = pipeline.tenant.as_ref().and_then(|name| self.node.tenants.get_key_value(name.as_str()));
        let named = plugin.config.as_ref().map(|config| needed::named(&config.to_typed_json())).unwrap_or_default();
        let judgement = judge(&Case {
            examined: &examined,
            entry: &plugin.component.at,
            grants: &plugin.grants,
            named: &named,
            tenant: tenant.map(|(name, tenant)| (name.as_str(), &tenant.ceilings)),
            node: &self.node.ceilings,
            production: self.node.mode.value == Mode::Production,
        });
        for (at, warning) in judgement.warnings {
            tracing::warn!(%at, plugin = %plugin.name.value, "{warning}");
            if let Some(table) = self.tables.get_mut(table) {
                table.warnings.push(warning);
            }
        }
        let mut is_refused = !judgement.refusals.is_empty();
        for (at, error) in &judgement.refusals {
            self.refuse(pipeline, plugin, table, Some(at), error, wrong);
        }
        if let Some(table) = self.tables.get_mut(table) {
            table.lines = judgement.lines;
            table.examined = Some(Arc::clone(&examined));
        }
        is_refused |= self.conflicts(pipeline, plugin, table, &examined, wrong);
        (!is_refused).then_some(Admitted { file, examined, table })
    }

    fn examine(
        &mut self,
        pipeline: &Pipeline,
        plugin: &Plugin,
        table: usize,
    ) -> Result<(ComponentFile, Examined), LinkError> {
        let file = ComponentFile::read(&plugin.component)?;
        let digest = file.digest();
        if let Some(table) = self.tables.get_mut(table) {
            table.digest = Some(digest.clone());
        }
        if let Some(pinned) = &plugin.digest {
            file.expect_digest(pinned)?;
        }
        // Before the bytes are read as anything: whatever they are, they are not those that were locked.
        if let Some(drift) = self.locks.refuses_digest(pipeline, plugin, &digest) {
            return Err(LinkError::Drift { drift });
        }
        let examined = self.sandbox.examine(&file)?;
        Ok((file, examined))
    }

    /// Whether another component of this process has the same name and version: one of them is not what it says.
    fn conflicts(
        &mut self,
        pipeline: &Pipeline,
        plugin: &Plugin,
        table: usize,
        examined: &Examined,
        wrong: &mut Diagnostics,
    ) -> bool {
        let Some(claimed) = &examined.claimed else { return false };
        let (name, version) = (&claimed.manifest.name, &claimed.manifest.version);
        let same = |named: &&Named| named.name == *name && named.version == *version && named.digest != examined.digest;
        let at = &plugin.component.at;
        let conflict = |digest: &str, other_digest: &str, other: &Location| LinkError::NameConflict {
            name: format!("{name} {version}"),
            digest: digest.to_owned(),
            other_digest: other_digest.to_owned(),
            other: other.to_string(),
        };
        let earlier = self.named.iter().find(same).map(|named| {
            let error = conflict(&named.digest, &examined.digest, at);
            wrong.push(plugins::diagnostic_at(&named.at, &named.refused.plugin, &named.component, &error));
            let refused = RefusedPlugin {
                refused: evidence::refused(&error),
                detail: error.to_string(),
                ..named.refused.clone()
            };
            (named.table, error.to_string(), refused, conflict(&examined.digest, &named.digest, &named.at))
        });
        let is_conflict = earlier.is_some();
        if let Some((other, text, refused, error)) = earlier {
            if let Some(other) = self.tables.get_mut(other).filter(|table| table.refusals.is_empty()) {
                other.refusals.push(text);
                self.refused.push(refused);
            }
            self.refuse(pipeline, plugin, table, None, &error, wrong);
        }
        let refused = self.refused_plugin(pipeline, plugin, table, &LinkError::ManifestMissing);
        self.named.push(Named {
            name: name.clone(),
            version: version.clone(),
            digest: examined.digest.clone(),
            at: at.clone(),
            component: plugin.component.value.clone(),
            refused,
            table,
        });
        is_conflict
    }

    /// A plugin that was admitted and then did not compile, link or start.
    pub(super) fn failed(
        &mut self,
        pipeline: &Pipeline,
        plugin: &Plugin,
        admitted: &Admitted,
        error: &LinkError,
        wrong: &mut Diagnostics,
    ) {
        self.refuse(pipeline, plugin, admitted.table, None, error, wrong);
    }

    /// A linked plugin as the lock has it.
    pub(super) fn locked(
        &self,
        pipeline: &Pipeline,
        plugin: &Plugin,
        admitted: &Admitted,
        files: BTreeMap<String, String>,
    ) -> LockedPlugin {
        let limits = self.node.limits_of(pipeline, plugin);
        let egress = plugin.grants.egress.as_ref();
        let policy = egress.map(|grant| self.networks.policy(pipeline, grant).version().to_string());
        LockedPlugin::new(pipeline, plugin, &limits, &admitted.examined, policy, files)
    }

    /// Compares a pipeline with its lock.
    pub(super) fn compare(&mut self, pipeline: &Pipeline, found: &LockedPipeline, wrong: &mut Diagnostics) {
        for drift in self.locks.drift(pipeline, found) {
            let plugin = pipeline.plugins.iter().find(|plugin| drift.plugin.as_deref() == Some(plugin.name.as_str()));
            let limits = plugin.map(|plugin| self.node.limits_of(pipeline, plugin));
            let at = locked::place(pipeline, &drift, limits.as_ref()).clone();
            let error = LinkError::Drift { drift: drift.text };
            match plugin {
                Some(plugin) => {
                    let of = |table: &Table| table.pipeline == pipeline.name.value && table.plugin == plugin.name.value;
                    let table = self.tables.iter().position(of).unwrap_or(usize::MAX);
                    self.refuse(pipeline, plugin, table, Some(&at), &error, wrong);
                }
                None => {
                    let diagnostic = at.diagnostic(Code::Other(evidence::refused(&error).as_str()), error.to_string());
                    wrong.push(diagnostic.help(plugins::DRIFT_HELP));
                }
            }
        }
    }

    fn refuse(
        &mut self,
        pipeline: &Pipeline,
        plugin: &Plugin,
        table: usize,
        at: Option<&Location>,
        error: &LinkError,
        wrong: &mut Diagnostics,
    ) {
        let diagnostic = plugins::diagnostic(plugin, at, error);
        let is_ceiling = matches!(error, LinkError::GrantAboveCeiling { .. });
        if !(is_ceiling && self.said.contains(&diagnostic.at)) {
            wrong.push(diagnostic);
        }
        self.refused.push(self.refused_plugin(pipeline, plugin, table, error));
        if let Some(table) = self.tables.get_mut(table) {
            table.refusals.push(error.to_string());
        }
    }

    fn refused_plugin(&self, pipeline: &Pipeline, plugin: &Plugin, table: usize, error: &LinkError) -> RefusedPlugin {
        RefusedPlugin {
            pipeline: pipeline.name.value.clone(),
            plugin: plugin.name.value.clone(),
            tenant: pipeline.tenant.as_ref().map(|tenant| tenant.value.clone()),
            refused: evidence::refused(error),
            detail: error.to_string(),
            digest: self.tables.get(table).and_then(|table| table.digest.clone()),
        }
    }
}

/// A path for people: `pipelines/../plugins/x.wasm` is `plugins/x.wasm`. Files are opened by the path as it was typed.
fn shown(path: &Path) -> String {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().collect::<PathBuf>().display().to_string()
}
