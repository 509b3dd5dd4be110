//! A broker process of one test: started, killed, started again, and at the end asked whether it complained.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::port::Ports;

/// A start includes recovery; a debug build on a busy two-core machine has been seen to need 3 s.
const READY_WAIT: Duration = Duration::from_secs(60);
const STOP_WAIT: Duration = Duration::from_secs(30);

/// How a broker is started. Keys are Kafka's names, so that they mean the same to the oracle.
#[derive(Debug, Clone)]
pub struct Options {
    binary: PathBuf,
    settings: Vec<(String, String)>,
    cores: Option<usize>,
    warnings_allowed: Vec<String>,
}

impl Options {
    /// The settings that every test wants: no wait for more members before a group's first generation.
    pub fn new(binary: &str) -> Self {
        let binary = std::env::var_os("CORELOG_BIN").map_or_else(|| PathBuf::from(binary), PathBuf::from);
        let mut options = Self { binary, settings: Vec::new(), cores: None, warnings_allowed: Vec::new() };
        // Every client must find its way in both modes: `CORELOG_LISTENERS_MODE=per-core` runs the tests in the other one. With
        // three endpoints on two cores there is a shard that serves one and a shard that serves two.
        if let (Ok(mode), None) = (std::env::var("CORELOG_LISTENERS_MODE"), oracle()) {
            options = options.set("listeners.mode", &mode).set("advertised.endpoints", "3");
        }
        options.set("group.initial.rebalance.delay.ms", "0").set("num.partitions", "1")
    }

    /// A later value of a key replaces an earlier one.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(k, _)| k != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// As `--cores`; without it the broker takes every CPU it may use.
    pub fn cores(mut self, count: usize) -> Self {
        self.cores = Some(count);
        self
    }

    /// A WARN or ERROR line that holds `text` is what the test is about.
    pub fn allow_warning(mut self, text: &str) -> Self {
        self.warnings_allowed.push(text.to_owned());
        self
    }

    pub fn start(self) -> Broker {
        Broker::start(self)
    }
}

/// A running or stopped broker with its directory. Dropped without [`Broker::finish`], it is killed and its directory kept.
#[derive(Debug)]
pub struct Broker {
    options: Options,
    /// Holds `data/` and `broker.log`.
    directory: PathBuf,
    ports: Ports,
    process: Option<Process>,
    /// A process that a test killed may have been in the middle of a line.
    finished: bool,
}

#[derive(Debug)]
enum Process {
    Corelog(Child),
    /// Stopped through its own scripts; the folder of the oracle.
    Oracle(PathBuf),
}

impl Broker {
    /// Starts on free ports with an empty directory and waits until it says that it is ready.
    pub fn start(options: Options) -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("corelog-test-");
        let directory = match kept_in() {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let directory = directory.expect("make the test's directory").keep();
        let mut broker = Self { options, directory, ports: Ports::reserve(), process: None, finished: false };
        broker.start_again();
        broker
    }

    /// From the next start on with so many cores.
    pub fn use_cores(&mut self, count: usize) {
        self.options.cores = Some(count);
    }

    pub fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ports.kafka())
    }

    pub fn admin_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ports.admin())
    }

    /// The value of `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    /// Holds the data directory and the broker's log; a test may leave something there.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn data_directory(&self) -> PathBuf {
        match oracle() {
            Some(_) => self.directory.join("kafka/node1/data"),
            None => self.directory.join("data"),
        }
    }

    /// Whether Apache Kafka stands in for corelog.
    pub fn is_oracle(&self) -> bool {
        oracle().is_some()
    }

    /// Starts a stopped or killed broker on its old directory and ports, and waits until it is ready.
    pub fn start_again(&mut self) {
        let ready = self.launch();
        let line = ready.recv_timeout(READY_WAIT).unwrap_or_else(|cause| {
            panic!("the broker is not ready ({cause}); its log ends:\n{}", self.log_end());
        });
        assert!(line.contains(&self.bootstrap()), "ready line {line:?} does not name {}", self.bootstrap());
    }

    /// Starts it and kills it `after` that long, ready or not.
    pub fn start_and_kill9(&mut self, after: Duration) {
        let ready = self.launch();
        // A wait with an end, not a sleep: a broker that ends by itself closes the channel at once.
        let deadline = Instant::now() + after;
        match ready.recv_timeout(after) {
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                panic!("the broker ended while starting; its log ends:\n{}", self.log_end())
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(_) => std::thread::sleep(deadline.saturating_duration_since(Instant::now())),
        }
        self.kill9();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill9(&mut self) {
        match self.process.take().expect("the broker runs") {
            Process::Corelog(mut child) => {
                child.kill().expect("kill the broker");
                child.wait().expect("wait for the broker");
            }
            Process::Oracle(folder) => self.oracle_down(&folder, "KILL"),
        }
    }

    /// SIGTERM; the broker must end by itself with exit code 0.
    pub fn stop(&mut self) {
        match self.process.take().expect("the broker runs") {
            Process::Corelog(mut child) => {
                kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("signal the broker");
                let status = wait_for_end(&mut child, STOP_WAIT);
                assert!(
                    status.is_some_and(|s| s.success()),
                    "a clean stop ended with {status:?}; the log ends:\n{}",
                    self.log_end()
                );
            }
            Process::Oracle(folder) => self.oracle_down(&folder, "TERM"),
        }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// The last act of a test: stops the broker, holds its log against what may stand there, removes its directory.
    pub fn finish(mut self) {
        if self.process.is_some() {
            self.stop();
        }
        if !self.is_oracle() {
            let complaints = self.complaints();
            assert!(
                complaints.is_empty(),
                "unexpected lines in the broker's log:\n{}",
                complaints.join("\n")
            );
        }
        self.finished = true;
        match kept_in() {
            Some(_) => eprintln!("the broker's directory is kept: {}", self.directory.display()),
            None => fs::remove_dir_all(&self.directory).expect("remove the test's directory"),
        }
    }

    fn launch(&mut self) -> mpsc::Receiver<String> {
        assert!(self.process.is_none(), "the broker runs already");
        match oracle() {
            Some(folder) => self.launch_oracle(folder),
            None => self.launch_corelog(),
        }
    }

    fn launch_corelog(&mut self) -> mpsc::Receiver<String> {
        let mut command = Command::new(&self.options.binary);
        command.arg("start").arg("--data-dir").arg(self.directory.join("data"));
        command.args(["--listen", &self.bootstrap(), "--admin", &self.admin_address().to_string()]);
        if let Some(cores) = self.options.cores {
            command.args(["--cores", &cores.to_string()]);
        }
        for (key, value) in &self.options.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let mut log = self.open_log();
        writeln!(log, "--- {command:?}").expect("write to the log");
        let copy = log.try_clone().expect("share the log");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(copy)
            .spawn()
            .unwrap_or_else(|cause| panic!("start {}: {cause}", self.options.binary.display()));
        let output = child.stdout.take().expect("stdout is a pipe");
        self.process = Some(Process::Corelog(child));
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end, ready or not: a full pipe would stop the broker.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                writeln!(log, "stdout: {line}").expect("write to the log");
                if line.starts_with("ready:") {
                    sender.send(line).ok();
                }
            }
        });
        ready
    }

    fn launch_oracle(&mut self, folder: PathBuf) -> mpsc::Receiver<String> {
        let mut command = Command::new(folder.join("kafka-up"));
        command
            .args(["--port", &self.ports.kafka().to_string()])
            .arg("--dir")
            .arg(self.directory.join("kafka"));
        for (key, value) in &self.options.settings {
            command.args(["-o", &format!("{key}={value}")]);
        }
        let log = self.open_log();
        let copy = log.try_clone().expect("share the log");
        let status = command.stdin(Stdio::null()).stdout(log).stderr(copy).status().expect("run kafka-up");
        assert!(status.success(), "kafka-up failed:\n{}", self.log_end());
        self.process = Some(Process::Oracle(folder));
        let (sender, ready) = mpsc::channel();
        sender.send(self.bootstrap()).expect("the receiver is here");
        ready
    }

    fn oracle_down(&self, folder: &Path, signal: &str) {
        let directory = self.directory.join("kafka");
        let status =
            Command::new(folder.join("kafka-down")).arg(directory).args(["--signal", signal]).status();
        assert!(status.expect("run kafka-down").success());
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path()).expect("open the broker's log")
    }

    fn log_end(&self) -> String {
        let log =
            fs::read(self.log_path()).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The lines of level WARN and ERROR and the traces of a panic that no `allow_warning` covers.
    pub fn complaints(&self) -> Vec<String> {
        let log = fs::read(self.log_path()).expect("read the broker's log");
        String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| is_complaint(line))
            .filter(|line| !self.options.warnings_allowed.iter().any(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }
}

fn is_complaint(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| matches!(word, "WARN" | "ERROR" | "panicked"))
        && !line.starts_with("--- ")
}

fn wait_for_end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("wait for the broker") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill the broker");
    child.wait().expect("wait for the broker");
    None
}

fn oracle() -> Option<PathBuf> {
    std::env::var_os("CORELOG_TEST_ORACLE").map(PathBuf::from)
}

/// Where directories stay after a test that passed.
fn kept_in() -> Option<PathBuf> {
    std::env::var_os("CORELOG_TEST_KEEP").map(PathBuf::from)
}

impl Drop for Broker {
    fn drop(&mut self) {
        match self.process.take() {
            Some(Process::Corelog(mut child)) => {
                child.kill().ok();
                child.wait().ok();
            }
            Some(Process::Oracle(folder)) => self.oracle_down(&folder, "KILL"),
            None => {}
        }
        if !self.finished {
            eprintln!(
                "the broker's directory is kept: {}\nits log ends:\n{}",
                self.directory.display(),
                self.log_end()
            );
        }
    }
}
