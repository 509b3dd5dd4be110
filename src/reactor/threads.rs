//! Threads beside a shard's own that work for it: work goes in, results come out, and each result wakes the shard.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::doorbell::ExternalWaker;

/// What threads are called, do first, and do with each piece of work.
pub(super) struct Duty<W, R> {
    /// Their names begin with it.
    pub name: &'static str,
    pub count: usize,
    pub prepare: fn(),
    pub work: fn(W) -> R,
}

/// The threads of one duty. Work is begun in the order in which it came.
pub(super) struct Threads<W, R> {
    name: &'static str,
    /// `None`: they have been told to end.
    work: Option<Sender<W>>,
    results: Receiver<R>,
    handles: Vec<JoinHandle<()>>,
    /// Work submitted whose results were not taken.
    outstanding: usize,
}

impl<W: Send + 'static, R: Send + 'static> Threads<W, R> {
    /// As many of them as the process may have. Errors: not one.
    pub fn start(duty: Duty<W, R>, waker: &ExternalWaker) -> io::Result<Threads<W, R>> {
        let Duty { name, count, prepare, work } = duty;
        let (work_start, work_end) = channel::<W>();
        let (results_start, results) = channel();
        let work_end = Arc::new(Mutex::new(work_end));
        let start = |number: usize| {
            let (waiting, results, waker) = (Arc::clone(&work_end), results_start.clone(), waker.clone());
            let name = if count == 1 {
                format!("{name}-{}", waker.shard())
            } else {
                format!("{name}-{}.{number}", waker.shard())
            };
            std::thread::Builder::new().name(name).spawn(move || {
                prepare();
                loop {
                    // One waits for work, the others for the lock.
                    let next = waiting.lock().expect("nothing panics under this lock").recv();
                    let Ok(next) = next else { return };
                    if results.send(work(next)).is_err() {
                        // The ring is gone and with it everyone who could want the result.
                        return;
                    }
                    waker.wake();
                }
            })
        };
        let mut handles = vec![start(0)?];
        handles.extend((1..count).map_while(|number| start(number).ok()));
        Ok(Threads { name, work: Some(work_start), results, handles, outstanding: 0 })
    }

    pub fn submit(&mut self, work: W) {
        self.outstanding += 1;
        let sender = self.work.as_ref().expect("the ring is not being dropped");
        sender.send(work).expect("the threads end only with the ring, or all by a panic");
    }

    /// The result of what is done.
    pub fn try_result(&mut self) -> Option<R> {
        if self.outstanding == 0 {
            return None;
        }
        match self.results.try_recv() {
            Ok(result) => {
                self.outstanding -= 1;
                Some(result)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the {} threads ended: all have panicked", self.name),
        }
    }

    /// Waits until all that was submitted is done. False: nothing was for so long.
    pub fn drain(&mut self, patience: Duration) -> bool {
        while self.outstanding > 0 {
            match self.results.recv_timeout(patience) {
                Ok(_) => self.outstanding -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }
}

impl<W, R> Drop for Threads<W, R> {
    fn drop(&mut self) {
        self.work = None;
        if self.outstanding > 0 {
            // One waits for a disk that does not answer, perhaps. The process can end without it.
            return;
        }
        for thread in self.handles.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "a {} thread panicked", self.name);
        }
    }
}
