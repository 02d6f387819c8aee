//! A component that makes the compiler slow or greedy, through the program that compiles in a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::plugin::{
    CompileBounds, Grants, Limits, LinkError, LinkedPlugin, PluginSpec, Sandbox, SandboxOptions, Sums,
};
use serde_json::json;
use tempfile::TempDir;

use super::scene::{Scene, plugin};
use crate::support::guest;
use crate::support::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);
/// A function that calls itself so often is nearly as large as one may be. The compiler needs gigabytes and most of a minute.
const CALLS: usize = 1_200_000;

/// A good component with modules beside it that nothing uses. They are compiled all the same.
fn costly() -> Vec<u8> {
    let mut component = fs::read(guest("touch")).unwrap();
    let mut code = vec![0];
    for _ in 0..CALLS {
        // local.get 0, call 0, local.set 0
        code.extend_from_slice(&[0x20, 0, 0x10, 0, 0x21, 0]);
    }
    code.extend_from_slice(&[0x20, 0, 0x0b]);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, b"\x01\x60\x01\x7f\x01\x7f");
    section(&mut module, 3, b"\x01\0");
    let mut functions = vec![1];
    leb128(&mut functions, code.len());
    functions.extend_from_slice(&code);
    section(&mut module, 10, &functions);
    for _ in 0..4 {
        section(&mut component, 1, &module);
    }
    component
}

fn section(bytes: &mut Vec<u8>, id: u8, body: &[u8]) {
    bytes.push(id);
    leb128(bytes, body.len());
    bytes.extend_from_slice(body);
}

fn leb128(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A sandbox whose compiler is the program, and a costly component in a file.
struct Compiling {
    folder: TempDir,
    sandbox: Arc<Sandbox>,
    bounds: CompileBounds,
}

impl Compiling {
    /// The address space tells the children of one test from those of the others.
    fn new(bounds: CompileBounds) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("costly.wasm"), costly()).unwrap();
        let compiler = Some(env!("CARGO_BIN_EXE_portcullis").into());
        let sandbox = Sandbox::bounded(SandboxOptions { cache: None, compiler }, bounds).unwrap();
        Self { folder, sandbox, bounds }
    }

    fn link(&self, component: PathBuf) -> Result<Arc<LinkedPlugin>, LinkError> {
        self.sandbox.link(PluginSpec {
            name: "costly".into(),
            pipeline: "tests".into(),
            tenant: "tests".into(),
            component,
            digest: None,
            config_json: "{}".to_owned(),
            grants: Grants::default(),
            left_out: Vec::new(),
            limits: Limits { deadline_ms: 60_000, ..Limits::default() },
            sums: Sums::default(),
        })
    }

    /// The costly component must be refused, and the process that compiled it gone.
    fn refused(&self) -> String {
        let begun = Instant::now();
        let error = self.link(self.folder.path().join("costly.wasm")).unwrap_err();
        assert!(begun.elapsed() < self.bounds.deadline + PATIENCE, "it took {:?}", begun.elapsed());
        assert!(matches!(error, LinkError::Compile { .. }), "{error}");
        assert_eq!(self.child(), None);
        error.to_string()
    }

    /// The process that compiles now.
    fn child(&self) -> Option<PathBuf> {
        let marks = ["compile-component".to_owned(), self.bounds.address_space_bytes.to_string()];
        processes().find(|process| {
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            let words: Vec<_> = command.split(|byte| *byte == 0).collect();
            words.get(1..3) == Some(&[marks[0].as_bytes(), marks[1].as_bytes()][..])
        })
    }
}

fn processes() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some(entry.path())
    })
}

/// A line of `/proc/PID/status`.
fn status(process: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(process.join("status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

#[test]
fn a_component_that_makes_compiling_slow_is_refused_at_the_deadline_and_the_sandbox_goes_on() {
    let bounds = CompileBounds {
        deadline: Duration::from_secs(5),
        address_space_bytes: (16 << 30) + 1,
        ..CompileBounds::default()
    };
    let compiling = Compiling::new(bounds);
    let refused = compiling.refused();
    assert!(refused.contains("compiling took longer than 5s and was ended"), "{refused}");
    assert!(compiling.link(guest("touch")).is_ok(), "the lock of the compiled components is free again");
}

#[test]
fn a_component_that_makes_compiling_greedy_is_refused_at_the_address_space() {
    let bounds =
        CompileBounds { deadline: 3 * PATIENCE, address_space_bytes: (1 << 30) + 2, ..CompileBounds::default() };
    let refused = Compiling::new(bounds).refused();
    assert!(refused.contains("the compiler's process") && !refused.contains("longer than"), "{refused}");
    assert!(refused.contains("memory allocation of") || refused.contains("1024 MiB of address space"), "{refused}");
}

#[test]
fn a_component_that_makes_compiling_busy_is_refused_at_the_processor_time() {
    let bounds = CompileBounds { deadline: 3 * PATIENCE, cpu_seconds: 1, address_space_bytes: (16 << 30) + 3 };
    let refused = Compiling::new(bounds).refused();
    assert!(refused.contains("was killed (signal") && refused.contains("1 s of processor time"), "{refused}");
}

#[test]
fn the_process_that_compiles_has_nothing_that_a_compiler_does_not_need() {
    let bounds = CompileBounds {
        deadline: Duration::from_secs(10),
        address_space_bytes: (16 << 30) + 4,
        ..CompileBounds::default()
    };
    let compiling = Compiling::new(bounds);
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| compiling.refused());
        let is_confined = |child: &PathBuf| status(child, "NoNewPrivs").as_deref() == Some("1") && is_powerless(child);
        let child = wait_for(PATIENCE, || compiling.child().filter(is_confined)).expect("no process was confined");
        let limits = fs::read_to_string(child.join("limits")).unwrap();
        for (name, limit) in [("Max open files", 0), ("Max core file size", 0), ("Max file size", 0)]
            .into_iter()
            .chain([("Max address space", bounds.address_space_bytes), ("Max cpu time", bounds.cpu_seconds)])
        {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            assert_eq!(words, [limit.to_string(), limit.to_string()], "{name}");
        }
        // Only root can look into a process that is not to be looked into.
        match fs::read_dir(child.join("fd")) {
            Ok(entries) => {
                let open = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                let mut ours: Vec<String> = open.filter(|number| !is_passed_on(number)).collect();
                ours.sort();
                assert_eq!(ours, ["0", "1", "2"]);
                assert_eq!(fs::read(child.join("environ")).unwrap(), b"");
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
        refused.join().unwrap();
    });
}

fn is_powerless(process: &Path) -> bool {
    ["CapEff", "CapPrm"].iter().all(|key| status(process, key).is_some_and(|set| set.chars().all(|digit| digit == '0')))
}

/// Whether whoever started this test left it a descriptor of this number for every program that it starts.
fn is_passed_on(number: &str) -> bool {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    number.parse::<u32>().is_ok_and(|number| number > 2) && flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
}

#[test]
fn the_process_that_compiles_ends_with_the_bridge_that_started_it() {
    let folder = TempDir::new().unwrap();
    let component = folder.path().join("costly.wasm");
    fs::write(&component, costly()).unwrap();
    let node = json!({ "cache": { "enabled": false } });
    let running = Scene::new().node(node).bad(plugin("costly", json!({ "component": component })), &["any"]).start();
    let parent = running.process.pid().to_string();
    let is_compiler = |process: &PathBuf| {
        status(process, "PPid").as_deref() == Some(&parent) && status(process, "NoNewPrivs").as_deref() == Some("1")
    };
    let child = wait_for(PATIENCE, || processes().find(is_compiler)).expect("nothing was compiled");
    drop(running);
    // Whoever takes orphans may take its time; what is left until then runs nothing.
    let is_over = || status(&child, "State").is_none_or(|state| state.starts_with('Z'));
    assert!(wait_for(PATIENCE, || is_over().then_some(())).is_some(), "{} goes on", child.display());
}
