use std::sync::Arc;

/// Who did what an event tells: a plugin of a pipeline, the bridge on behalf of a pipeline, or the bridge itself. Cheap to
/// clone: one counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    names: Arc<Names>,
}

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Names {
    tenant: Option<Arc<str>>,
    pipeline: Option<Arc<str>>,
    plugin: Option<Arc<str>>,
    digest: Option<Arc<str>>,
}

impl Actor {
    /// The bridge itself.
    pub fn bridge() -> Self {
        Self::default()
    }

    /// The bridge, for a pipeline: a record that its sink refused, for example.
    pub fn pipeline(tenant: Option<Arc<str>>, pipeline: Arc<str>) -> Self {
        Self { names: Arc::new(Names { tenant, pipeline: Some(pipeline), ..Names::default() }) }
    }

    /// A plugin. `digest` is `sha256:` and 64 hexadecimal digits; none where the component could not be read.
    pub fn plugin(tenant: Option<Arc<str>>, pipeline: Arc<str>, name: Arc<str>, digest: Option<Arc<str>>) -> Self {
        Self { names: Arc::new(Names { tenant, pipeline: Some(pipeline), plugin: Some(name), digest }) }
    }

    pub(crate) fn tenant_name(&self) -> Option<&str> {
        self.names.tenant.as_deref()
    }

    pub(crate) fn pipeline_name(&self) -> Option<&str> {
        self.names.pipeline.as_deref()
    }

    pub(crate) fn plugin_digest(&self) -> Option<&str> {
        self.names.digest.as_deref()
    }

    /// `<tenant>/<plugin>`, or the plugin alone where no tenant is named. None for the bridge.
    pub(crate) fn plugin_path(&self) -> Option<String> {
        let plugin = self.names.plugin.as_deref()?;
        Some(match self.names.tenant.as_deref() {
            Some(tenant) => format!("{tenant}/{plugin}"),
            None => plugin.to_owned(),
        })
    }
}
