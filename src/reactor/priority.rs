//! A shard's thread before the kernel's own work for it.
//!
//! What io_uring cannot start at once (a write through the page cache, a flush) it gives to kernel workers, which are made
//! by the ring's thread, share its CPU and inherit its priority. Eight of them that copy a megabyte each leave the shard a
//! ninth of its core, and a small request waits for all of them. So the shard runs at a better nice value, and its workers at 0,
//! like all that its thread makes.

#![allow(unsafe_code)]

use std::io;

/// Nice values between a thread and one that runs behind it: a share of 1 to 9.
const BEHIND: i32 = 10;

/// Puts the calling thread at this nice value, and whatever it makes from now on back at 0. What was told to run in
/// the background (`nice`, `chrt`) stays there. Call it before the ring is made. Errors: `EPERM` or `EACCES`, RLIMIT_NICE
/// does not allow it; nothing was changed that matters then.
pub fn run_before_workers(nice: i32) -> io::Result<()> {
    // SAFETY: it takes a number; 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    // SAFETY: as above. -1 is a nice value too, so that errors cannot be told; there are none for the calling thread.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if policy != libc::SCHED_OTHER || now > 0 || now <= nice {
        return Ok(());
    }
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` lives through the call, which only reads it.
    let reset =
        unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    // SAFETY: it takes numbers only.
    if reset != 0 || unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts the calling thread behind those that run as it did until now. It still gets a share when they leave nothing.
pub(super) fn run_behind() {
    // SAFETY: they take numbers only; 0 is the calling thread. To run behind is allowed to all.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, now + BEHIND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A test has threads of its own.
    #[allow(clippy::disallowed_methods)]
    /// Nice values of a thread that called, and of one that it made; `None`: this process may not.
    fn after(nice: i32) -> Option<(i32, i32)> {
        // SAFETY: it takes numbers only.
        let here = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        std::thread::spawn(move || {
            run_before_workers(nice).ok()?;
            Some((here(), std::thread::spawn(here).join().expect("it only looks")))
        })
        .join()
        .expect("it only looks")
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_thread_goes_behind_its_maker() {
        // SAFETY: it takes numbers only.
        let here = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let behind = std::thread::spawn(move || {
            run_behind();
            here()
        });
        // The kernel ends at 19.
        assert_eq!(behind.join().expect("it only looks"), (here() + BEHIND).min(19));
    }

    #[test]
    fn only_the_thread_itself_is_raised() {
        // SAFETY: they take numbers only.
        let (policy, before) =
            unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) };
        let is_background = policy != libc::SCHED_OTHER || before > 0;
        match after(-5) {
            Some(nice) if is_background || before <= -5 => assert_eq!(nice.0, before),
            Some(nice) => assert_eq!(nice, (-5, 0)),
            None => eprintln!("skipped: RLIMIT_NICE does not allow a better priority here"),
        }
        assert_eq!(after(0).map(|nice| nice.0), Some(before), "nothing is made worse");
    }
}
