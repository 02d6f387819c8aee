//! `wasi:cli`, `wasi:io` and `wasi:filesystem` for toolchains that import them whether used or not (Go always 18
//! interfaces, Python 28): no environment, no arguments, no files, a closed standard input. What is written to standard
//! output and standard error is log text under the plugin's log grant and budget.

use std::pin::Pin;
use std::sync::Arc;

use portcullis_connector_api::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::cli::{terminal_input::TerminalInput, terminal_output::TerminalOutput};
use wasmtime_wasi::p2::bindings::filesystem::types::Descriptor;
use wasmtime_wasi::p2::bindings::{cli, io, sync};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::Operation;
use crate::plugin::{Guest, Level, LogSink};

/// The longest line of standard output, in bytes; a longer one becomes several.
const MAX_LINE_BYTES: usize = 4 << 10;
/// What a guest may write to a stream at once, in bytes.
const WRITE_BYTES: usize = 64 << 10;

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    const SERVED: [&str; 15] = [
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:filesystem/types",
        "wasi:filesystem/preopens",
    ];
    SERVED.contains(&interface)
}

type Context<'a> = StoreContextMut<'a, Guest>;

/// Links wasmtime's own implementations over an empty context, where they work on a resource. `wasi:io` in its asynchronous
/// form, since that one waits; `wasi:filesystem` in its synchronous form, since without a preopened folder there is no
/// descriptor to wait for.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    link_nothing(linker)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(linker, |guest| counted(guest, Operation::Exit))?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(linker, stdio)?;
    cli::stdout::add_to_linker::<Guest, WasiCli>(linker, stdio)?;
    cli::stderr::add_to_linker::<Guest, WasiCli>(linker, stdio)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(linker, stdio)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(linker, stdio)?;
    io::error::add_to_linker::<Guest, Table>(linker, table)?;
    io::poll::add_to_linker::<Guest, Table>(linker, table)?;
    io::streams::add_to_linker::<Guest, Table>(linker, table)?;
    sync::filesystem::types::add_to_linker::<Guest, WasiFilesystem>(linker, files)
}

/// What answers without looking at a resource: an own function can refuse the call that crosses the budget.
fn link_nothing(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut environment = linker.instance("wasi:cli/environment@0.2.12")?;
    environment.func_wrap("get-environment", |mut store: Context<'_>, (): ()| {
        store.data_mut().count(Operation::Environment)?;
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |mut store: Context<'_>, (): ()| {
        store.data_mut().count(Operation::Environment)?;
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |mut store: Context<'_>, (): ()| {
        store.data_mut().count(Operation::Environment)?;
        Ok((None::<String>,))
    })?;
    linker.instance("wasi:cli/terminal-stdin@0.2.12")?.func_wrap(
        "get-terminal-stdin",
        |mut store: Context<'_>, (): ()| {
            store.data_mut().count(Operation::Stdio)?;
            Ok((None::<Resource<TerminalInput>>,))
        },
    )?;
    for (interface, function) in [
        ("wasi:cli/terminal-stdout@0.2.12", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr@0.2.12", "get-terminal-stderr"),
    ] {
        linker.instance(interface)?.func_wrap(function, |mut store: Context<'_>, (): ()| {
            store.data_mut().count(Operation::Stdio)?;
            Ok((None::<Resource<TerminalOutput>>,))
        })?;
    }
    linker.instance("wasi:filesystem/preopens@0.2.12")?.func_wrap(
        "get-directories",
        |mut store: Context<'_>, (): ()| {
            store.data_mut().count(Operation::Filesystem)?;
            Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
        },
    )
}

/// A context that grants nothing. The builder's defaults are the same; they are not relied on for the network.
pub(crate) fn context(log: &Arc<LogSink>) -> WasiCtx {
    WasiCtxBuilder::new()
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(LineStream { log: Arc::clone(log), level: Level::Info })
        .stderr(LineStream { log: Arc::clone(log), level: Level::Warn })
        .build()
}

fn counted(guest: &mut Guest, operation: Operation) -> WasiCliCtxView<'_> {
    let inert = guest.count_inert(operation);
    WasiCliCtxView { ctx: inert.wasi.cli(), table: &mut inert.table }
}

fn stdio(guest: &mut Guest) -> WasiCliCtxView<'_> {
    counted(guest, Operation::Stdio)
}

fn table(guest: &mut Guest) -> &mut ResourceTable {
    &mut guest.count_inert(Operation::Io).table
}

fn files(guest: &mut Guest) -> WasiFilesystemCtxView<'_> {
    let inert = guest.count_inert(Operation::Filesystem);
    WasiFilesystemCtxView { ctx: inert.wasi.filesystem(), table: &mut inert.table }
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Standard output or standard error, as lines of the plugin's log. An own stream, because wasmtime's adapter for
/// asynchronous ones keeps what was written without a bound (GHSA-5m8g-xhq4-4h93).
struct LineStream {
    log: Arc<LogSink>,
    level: Level,
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Asked for by WASI 0.3 alone, which is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines { log: Arc::clone(&self.log), level: self.level, begun: Vec::new() })
    }
}

/// One handle on the stream, with the line that is not finished.
struct Lines {
    log: Arc<LogSink>,
    level: Level,
    begun: Vec<u8>,
}

impl Lines {
    fn end_line(&mut self) {
        self.log.line(self.level, &String::from_utf8_lossy(&self.begun));
        self.begun.clear();
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
            for part in line.chunks(MAX_LINE_BYTES) {
                if self.begun.len() + part.len() > MAX_LINE_BYTES {
                    self.end_line();
                }
                self.begun.extend_from_slice(part);
            }
            if ended {
                self.end_line();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl Pollable for Lines {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.begun.is_empty() {
            self.end_line();
        }
    }
}
