//! Programs that the tool runs, with their command lines told, and the brokers among them.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kernel::{now, sleep};

/// Runs a program to its end and returns what it printed. Its command line goes to the terminal and to the report.
pub fn call(told: &mut Vec<String>, program: &str, arguments: &[&str]) -> io::Result<String> {
    tell(told, program, arguments);
    quiet(program, arguments)
}

fn tell(told: &mut Vec<String>, program: &str, arguments: &[&str]) {
    let line = std::iter::once(program).chain(arguments.iter().copied()).collect::<Vec<_>>().join(" ");
    eprintln!("$ {line}");
    told.push(line);
}

/// As [`call`], for taking things down. In a process group of its own, so that Ctrl-C ends the tool alone, which then
/// takes down what it made in order.
pub fn quiet(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .process_group(0)
        .output()
        .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "{program} {}: {}: {}",
            arguments.join(" "),
            output.status,
            said.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Two ports in a row that nobody listens on, below Linux's ephemeral range so that no client's own port is in the way.
fn free_ports() -> io::Result<u16> {
    let first = 20_000 + (std::process::id() % 1000) as u16 * 10;
    (first..31_000)
        .step_by(2)
        .find(|port| [0, 1].iter().all(|next| TcpListener::bind(("127.0.0.1", port + next)).is_ok()))
        .ok_or_else(|| io::Error::other("no two free ports in a row"))
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A running broker under test; it ends with this value, or with the tool.
pub struct Server {
    pub address: String,
    /// corelog's; Kafka has none.
    pub admin: Option<String>,
    pub pid: u32,
    log: PathBuf,
    ending: Ending,
}

enum Ending {
    Corelog(Child),
    /// The folder with `kafka-down`, and the oracle's own.
    Oracle(PathBuf, PathBuf),
}

impl Server {
    /// corelog with one shard, it and all its threads on one CPU.
    pub fn start(
        told: &mut Vec<String>,
        binary: &Path,
        folder: &Path,
        cpu: usize,
        settings: &[String],
    ) -> io::Result<Server> {
        fs::create_dir_all(folder)?;
        let port = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let cpu = cpu.to_string();
        let data = folder.join("data").to_string_lossy().into_owned();
        let (binary, admin) = (binary.to_string_lossy(), format!("127.0.0.1:{}", port + 1));
        let cores = format!("{cpu}-{cpu}");
        let mut arguments = vec!["-c", &cpu, "setpriv", "--pdeathsig", "KILL", &*binary, "start"];
        arguments.extend(["--data-dir", &data, "--listen", &address, "--admin", &admin, "--cores", &cores]);
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        tell(told, "taskset", &arguments);
        let (out, log) = (folder.join("broker.out"), folder.join("broker.log"));
        let mut child = Command::new("taskset")
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&log)?)
            .process_group(0)
            .spawn()?;
        let give_up = now() + Duration::from_secs(60);
        let ready = loop {
            if fs::read_to_string(&out)?.lines().any(|line| line.starts_with("ready:")) {
                break Ok(());
            }
            if let Some(status) = child.try_wait()? {
                break Err(io::Error::other(format!("the broker ended: {status}\n{}", last_lines(&log))));
            }
            if now() > give_up {
                break Err(io::Error::other(format!("the broker is not ready\n{}", last_lines(&log))));
            }
            if let Err(interrupted) = sleep(Duration::from_millis(20)) {
                break Err(interrupted);
            }
        };
        let admin = Some(admin);
        let server = Server { address, admin, pid: child.id(), log, ending: Ending::Corelog(child) };
        ready.map(|()| server)
    }

    /// Apache Kafka, by the scripts of the oracle's folder, on one CPU.
    pub fn start_oracle(
        told: &mut Vec<String>,
        oracle: &Path,
        folder: &Path,
        cpu: usize,
    ) -> io::Result<Server> {
        fs::create_dir_all(folder)?;
        let port = free_ports()?.to_string();
        let up = oracle.join("kafka-up").to_string_lossy().into_owned();
        let ending = Ending::Oracle(oracle.to_owned(), folder.to_owned());
        // Made first, so that a start that fails halfway is taken down too.
        let mut server = Server {
            address: format!("127.0.0.1:{port}"),
            admin: None,
            pid: 0,
            log: folder.join("node1/server.log"),
            ending,
        };
        let (cpu, folder) = (cpu.to_string(), folder.to_string_lossy());
        let settings = ["log.segment.delete.delay.ms=0", "log.initial.task.delay.ms=1000"];
        let mut arguments = vec!["-c", &*cpu, &*up, "--port", &*port, "--dir", &*folder];
        arguments.extend(settings.iter().flat_map(|setting| ["-o", setting]));
        let pids = call(told, "taskset", &arguments)?;
        server.pid = pids.lines().last().and_then(|pid| pid.parse().ok()).unwrap_or(0);
        Ok(server)
    }

    /// What it said last on its standard error.
    pub fn last_words(&self) -> String {
        last_lines(&self.log)
    }

    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.pid)
    }

    /// MiB of memory that it has. Source: proc_pid_status(5).
    pub fn resident(&self) -> io::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("a process without VmRSS"))
    }

    pub fn is_running(&mut self) -> bool {
        match &mut self.ending {
            Ending::Corelog(child) => matches!(child.try_wait(), Ok(None)),
            Ending::Oracle(..) => Path::new(&format!("/proc/{}", self.pid)).exists(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.ending {
            Ending::Corelog(child) => {
                let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
                let give_up = now() + Duration::from_secs(30);
                while matches!(child.try_wait(), Ok(None)) && now() < give_up {
                    // An interrupt does not shorten the clean stop of a broker.
                    let _ = sleep(Duration::from_millis(10));
                }
                if matches!(child.try_wait(), Ok(None)) {
                    eprintln!("the broker did not stop within 30 s and is killed");
                    let _ = child.kill();
                }
                let _ = child.wait();
            }
            Ending::Oracle(oracle, folder) => {
                let down = oracle.join("kafka-down");
                if let Err(error) = quiet(&down.to_string_lossy(), &[&folder.to_string_lossy()]) {
                    eprintln!("the oracle could not be stopped: {error}");
                }
            }
        }
    }
}

/// Nanoseconds on a CPU of each thread of a process, the ring's kernel workers among them.
pub struct CpuTime(Vec<(String, f64)>);

impl CpuTime {
    fn of(pid: u32) -> io::Result<CpuTime> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            // A worker that ends meanwhile is left out; the shard's own thread stays.
            let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
            let time = text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0);
            threads.push((path.to_string_lossy().into_owned(), time));
        }
        Ok(CpuTime(threads))
    }

    /// Microseconds.
    pub fn since(&self, before: &CpuTime) -> f64 {
        let earlier =
            |thread: &str| before.0.iter().find(|(name, _)| name == thread).map_or(0.0, |(_, t)| *t);
        self.0.iter().map(|(thread, time)| time - earlier(thread)).sum::<f64>() / 1000.0
    }
}
