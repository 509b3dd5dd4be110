//! Signals: the first SIGTERM or SIGINT asks for a clean stop, the second ends the process at once.

use std::sync::mpsc::Sender;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StopReason;
use crate::trace::{Level, LogLine, Logger};

/// 128 + SIGINT, as shells count a process that a signal ended.
const EXIT_AT_ONCE: i32 = 130;

/// The signals that stop the broker, taken from here on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Needs a runtime; the default action of the signals is gone afterwards.
    pub(super) fn take() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    pub(super) async fn watch(mut self, stop: Sender<StopReason>, logger: Logger) {
        let name = self.next().await;
        // If `main` is gone already the process is ending anyway.
        let _ = stop.send(StopReason::Signal(name));
        let name = self.next().await;
        logger.log(LogLine::new(Level::Warn, "control", "stopping at once").with("signal", name));
        logger.flush(std::time::Duration::from_millis(200));
        std::process::exit(EXIT_AT_ONCE);
    }
}
