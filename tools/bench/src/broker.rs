//! Brokers under load: one that the tool starts in a temporary directory, a null responder, or one that runs already.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corelog_measure::clock::now_ns;
use corelog_measure::signals;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Why a broker does not run.
#[derive(Debug)]
pub enum BrokerError {
    NoProgram {
        path: PathBuf,
    },
    Program(io::Error),
    Directory {
        path: PathBuf,
        source: io::Error,
    },
    Ports(io::Error),
    /// `taskset`, which starts it.
    Start(io::Error),
    /// The file that it is to write to, or what it does.
    Watch {
        path: PathBuf,
        source: io::Error,
    },
    /// It said why on its standard error.
    Ended {
        status: String,
        last_words: String,
    },
    NotReady {
        last_words: String,
    },
    Interrupted,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerError::NoProgram { path } => write!(
                f,
                "{} is not there; build it with `cargo build --release`, or name a running broker with --broker",
                path.display()
            ),
            BrokerError::Program(source) => write!(f, "find the folder of this program: {source}"),
            BrokerError::Directory { path, source } => {
                write!(
                    f,
                    "make a temporary directory in {}: {source}; give another with --dir",
                    path.display()
                )
            }
            BrokerError::Ports(source) => write!(f, "find a free port on 127.0.0.1: {source}"),
            BrokerError::Start(source) => {
                write!(f, "start a broker with taskset and setpriv: {source}; they are util-linux's")
            }
            BrokerError::Watch { path, source } => {
                write!(f, "watch a broker by {}: {source}", path.display())
            }
            BrokerError::Ended { status, last_words } => {
                write!(f, "the broker ended before it was ready: {status}\n{last_words}")
            }
            BrokerError::NotReady { last_words } => {
                write!(f, "the broker was not ready in 60 s\n{last_words}")
            }
            BrokerError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for BrokerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BrokerError::Program(source)
            | BrokerError::Ports(source)
            | BrokerError::Start(source)
            | BrokerError::Directory { source, .. }
            | BrokerError::Watch { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A temporary directory; removed with everything in it when dropped.
pub struct Temporary(PathBuf);

impl Temporary {
    pub fn new(parent: &Path) -> Result<Temporary, BrokerError> {
        let path = parent.join(format!("corelog-bench-{}", std::process::id()));
        let made = fs::create_dir_all(parent).and_then(|()| fs::create_dir(&path));
        made.map_err(|source| BrokerError::Directory { path: parent.to_owned(), source })?;
        Ok(Temporary(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("corelog-bench: {} could not be removed: {error}", self.0.display());
        }
    }
}

/// A program that the tool started; it ends with this value, or with the tool.
pub struct Server {
    child: Child,
    pub address: String,
    pub admin: Option<String>,
    pub command: String,
    log: PathBuf,
}

/// CPUs as a list of the kernel's: 0,2-3.
pub fn cpu_list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Ports that nobody listens on. They are let go before the broker takes them: a race that is lost shows as its error.
fn free_ports<const N: usize>() -> Result<[u16; N], BrokerError> {
    let bind = |_| TcpListener::bind("127.0.0.1:0");
    let listeners: Vec<TcpListener> =
        (0..N).map(bind).collect::<io::Result<_>>().map_err(BrokerError::Ports)?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(BrokerError::Ports)?.port();
    }
    Ok(ports)
}

impl Server {
    /// corelog with its data below `directory`, one shard on each of the CPUs, all its threads on them.
    pub fn start(
        program: Option<&Path>,
        directory: &Path,
        cpus: &[usize],
        settings: &[String],
    ) -> Result<Server, BrokerError> {
        let program = match program {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().map_err(BrokerError::Program)?.with_file_name("corelog"),
        };
        if !program.is_file() {
            return Err(BrokerError::NoProgram { path: program });
        }
        let [kafka, admin] = free_ports()?;
        let (address, admin) = (format!("127.0.0.1:{kafka}"), format!("127.0.0.1:{admin}"));
        let data = directory.join("data");
        let mut arguments = vec!["start".to_owned(), "--data-dir".to_owned(), data.display().to_string()];
        for (name, value) in [("--listen", &address), ("--admin", &admin), ("--cores", &cores_option(cpus))] {
            arguments.extend([name.to_owned(), value.clone()]);
        }
        arguments.extend(settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
        Server::spawn(&program, arguments, directory.join("broker"), cpus, address, Some(admin))
    }

    /// A null responder on one CPU.
    pub fn start_null(directory: &Path, cpu: usize) -> Result<Server, BrokerError> {
        let program = std::env::current_exe().map_err(BrokerError::Program)?;
        let [port] = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let arguments = vec!["null".to_owned(), "--listen".to_owned(), address.clone()];
        Server::spawn(&program, arguments, directory.join("null"), &[cpu], address, None)
    }

    fn spawn(
        program: &Path,
        arguments: Vec<String>,
        says: PathBuf,
        cpus: &[usize],
        address: String,
        admin: Option<String>,
    ) -> Result<Server, BrokerError> {
        let (out, log) = (says.with_extension("out"), says.with_extension("log"));
        let failed = |source| BrokerError::Watch { path: says.clone(), source };
        // Ended with this tool, even by a SIGKILL; its own process group, so that Ctrl-C reaches the tool alone, which
        // then takes down what it made in order.
        let mut line = vec!["taskset".to_owned(), "-c".to_owned(), cpu_list(cpus)];
        line.extend(["setpriv".to_owned(), "--pdeathsig".to_owned(), "KILL".to_owned()]);
        line.push(program.display().to_string());
        line.extend(arguments);
        let child = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(File::create(&out).map_err(failed)?)
            .stderr(File::create(&log).map_err(failed)?)
            .process_group(0)
            .spawn()
            .map_err(BrokerError::Start)?;
        let mut server = Server { child, address, admin, command: line.join(" "), log };
        let give_up = now_ns() + 60_000_000_000;
        loop {
            let said = fs::read_to_string(&out).unwrap_or_default();
            if said.lines().any(|line| line.starts_with("ready:")) {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait().map_err(failed)? {
                let last_words = server.last_words();
                return Err(BrokerError::Ended { status: status.to_string(), last_words });
            }
            if now_ns() > give_up {
                return Err(BrokerError::NotReady { last_words: server.last_words() });
            }
            if signals::received().is_some() {
                return Err(BrokerError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// As `corelog start --cores` wants it: a single number would be a count of shards.
fn cores_option(cpus: &[usize]) -> String {
    match cpus {
        [one] => format!("{one}-{one}"),
        many => cpu_list(many),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let give_up = now_ns() + 30_000_000_000;
        while matches!(self.child.try_wait(), Ok(None)) {
            if now_ns() > give_up {
                eprintln!("corelog-bench: a broker did not stop within 30 s and is killed");
                let _ = self.child.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.wait();
    }
}
