//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::pipeline::Stop;

/// Listens on a thread of its own for the rest of the process. `unfinished` is asked at the second signal what was left.
///
/// # Errors
/// When the handlers cannot be installed.
pub(super) fn listen(stop: Stop, unfinished: Arc<dyn Fn() -> String + Send + Sync>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Installed before the thread runs, so that no signal finds the default handler after this call.
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let mut signals = 0;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                signals += 1;
                if signals == 1 {
                    tracing::info!("stopping: what is in work is finished; a second signal ends at once");
                    stop.request();
                } else {
                    stop.force();
                    eprintln!("portcullis: ended by a second signal; left unfinished: {}", unfinished());
                    // Pipelines may hang in a broker's library; the operator has asked twice.
                    std::process::exit(i32::from(super::FAILED));
                }
            }
        });
    })?;
    Ok(())
}
