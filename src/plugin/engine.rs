use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use thiserror::Error;
use wasmtime::component::Component;
use wasmtime::{Config, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, Strategy};

use super::artifact::Artifact;
use super::cache::{self, Cache};
use super::compile::{self, CompileBounds};
use super::error::LinkError;
use super::slices::take_short_slices;

/// How often a guest that computes is looked at, and so how exactly its deadline is kept.
const TICK: Duration = Duration::from_millis(1);
/// A guest's own call stack, in bytes.
pub(super) const MAX_WASM_STACK_BYTES: usize = 512 << 10;
/// The stack of a call that may wait: the guest's and that of the host functions it calls.
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Where the sandbox keeps what it compiles.
#[derive(Clone, Debug, Default)]
pub struct SandboxOptions {
    /// The folder for compiled components; none compiles each component anew in each process.
    pub cache: Option<PathBuf>,
    /// This program, to compile in a process of its own: a component that makes the compiler slow or greedy costs that one.
    /// None compiles in this process.
    pub compiler: Option<PathBuf>,
}

/// Everything that plugins of a process share: the compiler, the clock of the deadlines and the compiled components.
/// One for each process.
pub struct Sandbox {
    engine: Engine,
    cache: Option<Cache>,
    compiler: Option<PathBuf>,
    compile_bounds: CompileBounds,
    /// What is compiled and in use, by digest: eight pipelines with one plugin compile it once.
    compiled: Mutex<HashMap<[u8; 32], Weak<Compiled>>>,
}

/// A compiled component that lives as long as somebody runs it.
pub(super) struct Compiled {
    pub(super) component: Component,
}

impl Sandbox {
    /// Starts the compiler and the thread that measures deadlines. A cache that cannot be trusted is not used, with a
    /// warning.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly or give a thread.
    pub fn new(options: SandboxOptions) -> Result<Arc<Self>, SandboxError> {
        Self::bounded(options, CompileBounds::default())
    }

    /// As [`new`](Self::new), with bounds of one's own on what a compilation in a process of its own may use up.
    ///
    /// # Errors
    /// The same.
    pub fn bounded(options: SandboxOptions, compile_bounds: CompileBounds) -> Result<Arc<Self>, SandboxError> {
        let engine = new_engine()?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("portcullis-epoch".to_owned())
            .spawn(move || tick(&weak))
            .map_err(SandboxError::Ticker)?;
        let cache = options.cache.and_then(|folder| match Cache::open(&folder, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the cache of compiled components is not used");
                None
            }
        });
        Ok(Arc::new(Self { engine, cache, compiler: options.compiler, compile_bounds, compiled: Mutex::default() }))
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The machine code of a component: what is in use, else from the cache, else compiled now.
    pub(super) fn compile(&self, artifact: &Artifact) -> Result<Arc<Compiled>, LinkError> {
        // Held while compiling, so that two pipelines that start together compile a component once.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.retain(|_, component| component.strong_count() > 0);
        if let Some(found) = compiled.get(&artifact.digest).and_then(Weak::upgrade) {
            return Ok(found);
        }
        let component = match self.cache.as_ref().and_then(|cache| cache.load(&self.engine, &artifact.digest)) {
            Some(component) => component,
            None => self.compile_anew(artifact)?,
        };
        let new = Arc::new(Compiled { component });
        compiled.insert(artifact.digest, Arc::downgrade(&new));
        Ok(new)
    }

    fn compile_anew(&self, artifact: &Artifact) -> Result<Component, LinkError> {
        let refused = |detail: String| LinkError::Compile { detail };
        let code = match &self.compiler {
            Some(program) => compile::in_child(program, &artifact.bytes, &self.compile_bounds)
                .map_err(|error| refused(error.to_string()))?,
            None => compile::here(&self.engine, &artifact.bytes).map_err(|error| refused(format!("{error:#}")))?,
        };
        let component = cache::deserialize(&self.engine, &code).map_err(|error| refused(format!("{error:#}")))?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(&artifact.digest, &code)
        {
            tracing::warn!(%error, "a compiled component could not be cached");
        }
        Ok(component)
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

/// Why there is no sandbox.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The compiler or the machine refused the configuration.
    #[error("the WebAssembly engine does not start: {detail}")]
    Engine {
        /// What it said.
        detail: String,
    },
    /// No thread.
    #[error("the thread that measures deadlines does not start: {0}")]
    Ticker(std::io::Error),
}

pub(super) fn new_engine() -> Result<Engine, SandboxError> {
    Engine::new(&config()).map_err(|error| SandboxError::Engine { detail: format!("{error:#}") })
}

/// Every proposal that plugins do not need is off: each is code that a hostile component could reach. The cargo features
/// `gc` and `threads` are compiled in and off here, because two advisories concern builds that lack them.
fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Doubles the price of a call and is needed by no plugin of WASI 0.2.
        .concurrency_support(false)
        .wasm_gc(false)
        .gc_support(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_stack_switching(false)
        .wasm_relaxed_simd(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        // Fuel makes a budget that is the same on every machine, epochs one that is kept in wall time.
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .async_stack_zeroing(true)
        .memory_init_cow(true)
        // The innermost frame of a panic is its language's panic handler: it costs time and tells an operator nothing.
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false)
        // The pooling allocator reuses memory between instances and once leaked it between tenants (CVE-2026-34988). Fresh
        // mappings cost 40 us an instance, and an instance serves many messages.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}

/// Ends when the last plugin and the sandbox are gone.
fn tick(engine: &EngineWeak) {
    // A guest that computes must not hold up what ends it.
    if let Err(error) = take_short_slices() {
        tracing::debug!(%error, "the clock of the deadlines may be late on a busy machine");
    }
    loop {
        std::thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
    }
}
