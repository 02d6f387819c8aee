use std::sync::Arc;

use portcullis_net::Egress;
use wasmtime::component::{Component, InstancePre, Linker};

use super::artifact::{Import, Shape};
use super::contract::{Entry, Kind};
use super::engine::{Compiled, Sandbox};
use super::error::LinkError;
use super::examine::{ComponentFile, Scanned};
use super::fault::Fault;
use super::guest::Guest;
use super::instance::{Exports, Instance, StartError};
use super::refusing;
use super::spec::{Grants, Limits, PluginSpec};
use crate::capability::{self, Capability, Need};

/// A plugin that may run: its imports are resolved to exactly what was granted. Shared by all lanes, never changed.
pub struct LinkedPlugin {
    spec: PluginSpec,
    digest: String,
    kind: Kind,
    world: String,
    imports: Vec<String>,
    may_wait: bool,
    pre: InstancePre<Guest>,
    exports: Exports,
    /// Keeps the machine code shared with other pipelines that link the same component.
    _compiled: Arc<Compiled>,
}

impl Sandbox {
    /// Reads a component's file and links it as [`link_file`](Self::link_file) does.
    ///
    /// # Errors
    /// It cannot be read, or is refused.
    pub fn link(&self, spec: PluginSpec) -> Result<Arc<LinkedPlugin>, LinkError> {
        self.link_file(&ComponentFile::read(&spec.component)?, spec)
    }

    /// Checks, compiles and links the component that was read, makes a first instance of it and lets it check its
    /// configuration. Must not be called inside a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the component, its grants or its configuration.
    pub fn link_file(&self, file: &ComponentFile, spec: PluginSpec) -> Result<Arc<LinkedPlugin>, LinkError> {
        if let Some(digest) = &spec.digest {
            file.expect_digest(digest)?;
        }
        let Scanned { scan, entry } = file.scanned(self)?;
        // Decided by name before anything is compiled: compiling is the part that a hostile file could make expensive.
        let (left_out, rest) = refusing::split(&scan.imports, &spec);
        let needs = decide(&rest, &spec.grants, entry.kind)?;
        let compiled = self.compile(&file.artifact)?;
        let mut linker = Linker::new(self.engine());
        capability::link(&mut linker, &needs).map_err(imports)?;
        refusing::link(&mut linker, &left_out).map_err(imports)?;
        let pre = linker.instantiate_pre(&compiled.component).map_err(imports)?;
        let exports = find_exports(&compiled.component, entry)
            .ok_or_else(|| LinkError::World { detail: WRONG_TYPE, found: scan.exports.clone() })?;
        let plugin = Arc::new(LinkedPlugin {
            digest: file.digest(),
            kind: entry.kind,
            world: entry.world(),
            imports: functions(&scan.imports),
            may_wait: scan.imports.iter().any(|import| capability::may_wait(&import.name)),
            pre,
            exports,
            _compiled: compiled,
            spec,
        });
        match Instance::start(Arc::clone(&plugin), None) {
            Ok(_) => Ok(plugin),
            Err(StartError::Fault(fault)) => Err(LinkError::Configure { detail: fault.detail }),
            Err(StartError::Export(_)) => Err(LinkError::World { detail: WRONG_TYPE, found: scan.exports.clone() }),
        }
    }
}

const WRONG_TYPE: &str = "the functions that it exports do not have the contract's types";

impl LinkedPlugin {
    /// Makes a new instance and configures it under a budget of its own. Without an egress its network refuses everything.
    ///
    /// # Errors
    /// A fault of kind `configure`, with the plugin's own text or the budget that it exceeded.
    pub fn instantiate(self: &Arc<Self>, egress: Option<&Arc<Egress>>) -> Result<Instance, Fault> {
        Instance::start(Arc::clone(self), egress).map_err(start_fault)
    }

    /// As [`instantiate`](Self::instantiate), for a plugin that may wait and from inside its runtime.
    ///
    /// # Errors
    /// The same.
    pub async fn instantiate_waiting(self: &Arc<Self>, egress: Option<&Arc<Egress>>) -> Result<Instance, Fault> {
        Instance::start_waiting(Arc::clone(self), egress).await.map_err(start_fault)
    }

    /// Its name within the pipeline.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// `sha256:` and the digest of the bytes that were compiled.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The world with the version that the component speaks: `portcullis:plugin/validator@0.1.0`.
    pub fn world(&self) -> &str {
        &self.world
    }

    /// The functions that it really imports, as `wasi:clocks/wall-clock@0.2.12.now`.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// What a call, or an instance, may use up.
    pub fn limits(&self) -> Limits {
        self.spec.limits
    }

    /// What the operator wrote.
    pub fn spec(&self) -> &PluginSpec {
        &self.spec
    }

    pub(super) fn pre(&self) -> &InstancePre<Guest> {
        &self.pre
    }

    pub(super) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Whether it may wait in a host call: then it is called on the runtime, and several of its instances can serve a lane.
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }
}

fn start_fault(error: StartError) -> Fault {
    match error {
        StartError::Fault(fault) => fault,
        StartError::Export(error) => {
            Fault::new(portcullis_flow::FaultKind::Configure, &format!("{WRONG_TYPE}: {error:#}"))
        }
    }
}

impl std::fmt::Debug for LinkedPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkedPlugin")
            .field("name", &self.spec.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What each import needs, or why it is refused.
fn decide(imports: &[&Import], grants: &Grants, kind: Kind) -> Result<Vec<Need>, LinkError> {
    let mut needs = Vec::with_capacity(imports.len());
    // All of them together: an operator who adds one line a start learns to grant without reading.
    let mut not_granted: Vec<(String, Capability)> = Vec::new();
    for import in imports {
        let name = || import.name.clone();
        match import.shape {
            Shape::Type => continue,
            Shape::Other => return Err(LinkError::ImportUnknown { import: name() }),
            Shape::Interface => {}
        }
        let need = capability::decide(&import.name);
        let refusal = match need {
            Need::Always | Need::Inert => None,
            Need::EnricherOnly if kind == Kind::Enricher => None,
            Need::Grant(capability) if capability.is_granted(grants) => None,
            Need::Grant(_) if import.functions.is_empty() => continue,
            Need::Grant(capability) => {
                not_granted.push((name(), capability));
                continue;
            }
            Need::NotAvailable(reason) => Some(LinkError::ImportNotAvailable { import: name(), reason }),
            Need::EnricherOnly | Need::Unknown => Some(LinkError::ImportUnknown { import: name() }),
        };
        match refusal {
            None => needs.push(need),
            // Toolchains import interfaces for a type alone; without a function there is nothing to reach.
            Some(_) if import.functions.is_empty() => {}
            Some(refusal) => return Err(refusal),
        }
    }
    if not_granted.is_empty() {
        return Ok(needs);
    }
    let mut lines: Vec<&str> = not_granted.iter().map(|(_, capability)| capability.yaml()).collect();
    lines.sort_unstable();
    lines.dedup();
    let capabilities = not_granted.iter().map(|(_, capability)| capability.as_str()).collect();
    Err(LinkError::ImportNotGranted {
        imports: not_granted.into_iter().map(|(import, _)| import).collect(),
        capabilities,
        yaml: format!("grants: {{ {} }}", lines.join(", ")),
    })
}

fn functions(imports: &[Import]) -> Vec<String> {
    let of = |import: &Import| {
        let name = import.name.clone();
        import.functions.iter().map(move |function| format!("{name}.{function}")).collect::<Vec<_>>()
    };
    imports.iter().flat_map(of).collect()
}

fn find_exports(component: &Component, entry: &Entry) -> Option<Exports> {
    let interface = component.get_export_index(None, &entry.export)?;
    Some(Exports {
        configure: component.get_export_index(Some(&interface), "configure")?,
        process: component.get_export_index(Some(&interface), entry.kind.function())?,
    })
}

fn imports(error: wasmtime::Error) -> LinkError {
    LinkError::Imports { detail: format!("{error:#}") }
}
