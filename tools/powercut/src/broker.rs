//! The broker process: started, killed, watched.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::kernel::die_with_parent;

/// A start includes recovery of a few hundred MiB, on a machine that others use as well.
const READY_WAIT: Duration = Duration::from_secs(60);

/// Below Linux's ephemeral range, so that no client's own port is in the way.
const PORTS_FROM: u16 = 21_000;
const PORTS_TRIED: u16 = 2_000;

pub struct Broker {
    binary: PathBuf,
    settings: Vec<String>,
    cores: String,
    log: PathBuf,
    port: u16,
    /// Keeps another run away from the ports while the broker is down.
    _held: TcpListener,
    process: Option<Child>,
}

/// What a start came to.
pub enum Started {
    Ready,
    /// It ended by itself, or said nothing for too long.
    Not(String),
}

impl Broker {
    /// Errors: no free ports.
    pub fn new(binary: &Path, settings: &[String], cores: &str, log: PathBuf) -> io::Result<Broker> {
        let (port, held) = reserve_ports()?;
        Ok(Broker {
            binary: binary.to_owned(),
            settings: settings.to_vec(),
            cores: cores.to_owned(),
            log,
            port,
            _held: held,
            process: None,
        })
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port + 1).into()
    }

    /// Starts it on `data` and waits until it says that it is ready.
    pub fn start(&mut self, data: &Path) -> io::Result<Started> {
        let ready = self.launch(data)?;
        Ok(match ready.recv_timeout(READY_WAIT) {
            Ok(()) => Started::Ready,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.kill();
                Started::Not(format!("the broker was not ready within {} s", READY_WAIT.as_secs()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.kill();
                Started::Not(format!("the broker ended while starting ({status}): {}", self.last_words()))
            }
        })
    }

    /// Starts it and gives it `time`, ready or not.
    pub fn start_for(&mut self, data: &Path, time: Duration) -> io::Result<()> {
        let ready = self.launch(data)?;
        let began = Instant::now();
        if ready.recv_timeout(time).is_ok() {
            pause(time.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    fn launch(&mut self, data: &Path) -> io::Result<mpsc::Receiver<()>> {
        assert!(self.process.is_none(), "the broker runs already");
        let mut log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.arg("start").arg("--data-dir").arg(data).args(["--cores", &self.cores]);
        command.args(["--listen", &self.address().to_string()]);
        command.args(["--admin", &format!("127.0.0.1:{}", self.port + 2)]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        writeln!(log, "--- {command:?}")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = die_with_parent(&mut command).spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("start {}: {error}", self.binary.display()))
        })?;
        let output = child.stdout.take().expect("stdout is a pipe");
        self.process = Some(child);
        let (sender, ready) = mpsc::channel();
        spawn("broker-output", move || {
            // To the end, ready or not: a full pipe would stop the broker.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with("ready:") && sender.send(()).is_err() {
                    continue;
                }
            }
        });
        Ok(ready)
    }

    /// SIGKILL, unless it has ended by itself; returns how it ended.
    pub fn kill(&mut self) -> ExitStatus {
        let mut child = self.process.take().expect("the broker was started");
        let _ = child.kill();
        child.wait().expect("a child can be waited for")
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let child = self.process.as_mut().expect("the broker was started");
        let give_up = Instant::now() + patience;
        while Instant::now() < give_up {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                return Some(status);
            }
            pause(Duration::from_millis(5));
        }
        None
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The lines of its log since the last start that are no information, in one line.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let log = log.unwrap_or_default();
        let since_start = log.rfind("\n--- ").map_or(log.as_str(), |at| &log[at + 1..]);
        let lines: Vec<&str> = since_start.lines().skip(1).filter(|line| !line.contains(" INFO ")).collect();
        // Of a failed assertion the start says what it was; the rest is its trace.
        if let Some(at) = lines.iter().position(|line| line.contains("panicked at")) {
            return lines[at..].iter().take(2).copied().collect::<Vec<_>>().join(" | ");
        }
        lines[lines.len().saturating_sub(6)..].join(" | ")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

fn reserve_ports() -> io::Result<(u16, TcpListener)> {
    let start = (std::process::id() % u32::from(PORTS_TRIED)) as u16;
    for n in 0..PORTS_TRIED {
        let first = PORTS_FROM + (start + n) % PORTS_TRIED * 4;
        let Ok(held) = TcpListener::bind((Ipv4Addr::LOCALHOST, first)) else { continue };
        if (1..3).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, first + port)).is_ok()) {
            return Ok((first, held));
        }
    }
    Err(io::Error::other(format!("no three free ports from {PORTS_FROM} on")))
}

/// A thread of the harness. It never starts a process: those must not end with a thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("the machine has room for a thread")
}

/// Lets the others go on for a while: the load runs while the harness waits for its moment.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
