//! SIGINT, SIGTERM, SIGHUP: a wish to stop, seen between commits and between files, so that everything is cleaned up.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn remember(signal: libc::c_int) {
    // Relaxed: one word, and nothing else is read on the strength of it.
    RECEIVED.store(signal, Ordering::Relaxed);
}

/// From now on the signals only leave a note.
pub fn install() -> Result<(), Errno> {
    // No SA_RESTART: a blocking call returns, and its caller sees the note.
    let action = SigAction::new(SigHandler::Handler(remember), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores into an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// The signal that asked to stop.
pub fn received() -> Option<i32> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}
