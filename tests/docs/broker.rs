// What the examples in the client's documentation run against; they include this file. Not a part of the tests beside it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use corelog::client::admin::{Admin, AdminSettings, NewTopic};
use corelog::client::{ClientError, Producer, ProducerRecord, ProducerSettings};

/// Ends with the example.
struct Broker {
    process: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Runs an example against a broker of its own, whose address it is given, with the topic `orders` and three records in it.
/// `cargo test --doc` alone builds no broker: then the example was compiled and is not run, with a line that says so.
fn with_orders<F: Future<Output = Result<(), ClientError>>>(example: impl FnOnce(String) -> F) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target").into());
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let beside = target.join(profile).join("corelog");
    let binary = std::env::var_os("CORELOG_BIN").map_or(beside, PathBuf::from);
    if !binary.exists() {
        eprintln!("left out: there is no {}; `cargo build` makes it", binary.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut process = Command::new(binary)
        .args(["start", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "1"])
        .args(["--set", "group.initial.rebalance.delay.ms=0", "--data-dir"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let _broker = Broker { process, _directory: directory };
    let address = ready.strip_prefix("ready: kafka ").and_then(|rest| rest.split(',').next());
    let address = address.unwrap_or_else(|| panic!("not the ready line: {ready:?}")).to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        fill(&address).await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), example(address)).await;
        ended.expect("examples are quick").unwrap();
    });
}

async fn fill(address: &str) -> Result<(), ClientError> {
    let admin = Admin::new(AdminSettings::builder().set("bootstrap.servers", address).build()?)?;
    for (_, created) in admin.create_topics(&[NewTopic::new("orders").partitions(3)]).await? {
        created?;
    }
    let producer = Producer::new(ProducerSettings::builder().set("bootstrap.servers", address).build()?)?;
    for value in [b"1", b"2", b"3"] {
        producer.send(ProducerRecord::to("orders").partition(0).value(value)).await?;
    }
    producer.close(std::time::Duration::from_secs(10)).await
}
