//! Tests of the end-to-end rig itself: the evaluation, the receivers, the load.

#[path = "../common/mod.rs"]
mod common;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use common::load::{Connections, Plan, remote_parent, run};
use common::services::{Process, wait_until};

#[test]
fn load_counts_answers_and_errors_exactly() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Answers 500 to every tenth request, closes the connection after every third.
    std::thread::spawn(move || {
        for stream in listener.incoming().take(200) {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                for served in 1.. {
                    let (mut line, mut path) = (String::new(), String::new());
                    while stream.read_line(&mut line).unwrap_or(0) > 2 {
                        if path.is_empty() {
                            path = line.split(' ').nth(1).unwrap().to_owned();
                        }
                        line.clear();
                    }
                    if path.is_empty() {
                        return;
                    }
                    let status = if path.ends_with('7') { 500 } else { 200 };
                    let body = format!("A B C {path}");
                    let close = if served % 3 == 0 { "Connection: close\r\n" } else { "" };
                    let answer =
                        format!("HTTP/1.1 {status} X\r\n{close}Content-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.get_mut().write_all(answer.as_bytes());
                    if served % 3 == 0 {
                        return;
                    }
                }
            });
        }
    });
    let plan = Plan {
        port,
        tag: "t".into(),
        requests: 100,
        concurrency: 8,
        traceparent: true,
        connections: Connections::Both,
        limit: Duration::from_secs(20),
    };
    let outcome = run(&plan);
    assert_eq!((outcome.answered.len(), outcome.errors.len()), (90, 10), "{:?}", outcome.errors);
    assert_eq!(outcome.answered.iter().collect::<HashSet<_>>().len(), 90);
}

#[test]
fn remote_parents_differ() {
    let all: HashSet<_> = (0..2000).map(|n| remote_parent(&format!("t-{n}"))).collect();
    assert_eq!(all.len(), 2000);
}

#[test]
fn a_stopped_process_takes_its_children_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; sleep 60 & echo $!; wait"]);
    let mut process = Process::start(&command, "sh", dir.path()).unwrap();
    assert!(wait_until(Duration::from_secs(5), || process.log().ends_with('\n')));
    let child: u32 = process.log().trim().parse().unwrap();
    process.stop(Duration::from_millis(100));
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    assert!(wait_until(Duration::from_secs(5), gone));
}
