//! Asks Java's client: a program in this folder answers a line to each line.
//!
//! Needs `java` and the class path that Apache Kafka's folder prints (`CORELOG_ORACLE`, or `../shared/oracle` beside the
//! repository).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Java's class path; `None`, with a line, if it is not to be had.
fn class_path() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let oracle =
        std::env::var_os("CORELOG_ORACLE").map_or_else(|| root.join("../shared/oracle"), PathBuf::from);
    let script = oracle.join("kafka-classpath");
    if !script.exists() {
        eprintln!("left out: the test needs Kafka's jars, and there is no {}", script.display());
        return None;
    }
    // Some ways of copying a folder drop the right to execute.
    let printed = Command::new("bash").arg(&script).stderr(Stdio::inherit()).output();
    match printed {
        Ok(printed) if printed.status.success() => {
            Some(String::from_utf8(printed.stdout).expect("a class path is text").trim().to_owned())
        }
        other => {
            eprintln!("left out: {} does not print a class path: {other:?}", script.display());
            None
        }
    }
}

/// The program's answers to these questions; `None`, with a line, if it cannot be asked.
pub fn asked(program: &str, questions: &[String]) -> Option<Vec<String>> {
    let class_path = class_path()?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client").join(program);
    let java = Command::new("java")
        .args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", &class_path])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut java = match java {
        Ok(java) => java,
        Err(error) => {
            eprintln!("left out: java cannot be run: {error}");
            return None;
        }
    };
    let mut stdin = java.stdin.take().expect("piped");
    let text = questions.join("\n") + "\n";
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = java.wait_with_output().expect("it is ours to wait for");
    writing.join().expect("it does not panic").expect("java reads");
    assert!(output.status.success(), "{:?}", output.status);
    let answers: Vec<String> =
        String::from_utf8(output.stdout).expect("answers are text").lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), questions.len());
    Some(answers)
}
