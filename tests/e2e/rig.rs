//! Tests of the end-to-end rig itself: the evaluation, the receivers, the load.

#[path = "../common/mod.rs"]
mod common;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use common::load::{Connections, Plan, Wire, remote_parent, run};
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
        wire: Wire::Http1,
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

/// Serves one HTTP/2 connection: every tenth request fails, every second one must carry a `traceparent`.
async fn serve_h2(stream: tokio::net::TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
        let path = request.uri().path().to_owned();
        let n: usize = path.rsplit_once('-').unwrap().1.parse().unwrap();
        let fails = n % 10 == 7 || request.headers().contains_key("traceparent") != (n % 2 == 1);
        let answer = |status: u16| http::Response::builder().status(status).body(()).unwrap();
        let text = format!("A B C {path}");
        if !grpc {
            let mut body = respond.send_response(answer(if fails { 500 } else { 200 }), false).unwrap();
            body.send_data(text.into(), true).unwrap();
            continue;
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", if fails { "13" } else { "0" }.parse().unwrap());
        let mut body = respond.send_response(answer(200), false).unwrap();
        let message = [&[0, 0, 0, 0, text.len() as u8], text.as_bytes()].concat();
        body.send_data(message.into(), false).unwrap();
        body.send_trailers(trailers).unwrap();
    }
}

#[test]
fn load_over_http2_counts_answers_and_errors_exactly() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_h2(stream));
            }
        });
    });
    for wire in [Wire::Http2, Wire::Grpc] {
        for connections in [Connections::Kept, Connections::Once] {
            let plan = Plan {
                port,
                wire,
                tag: "t".into(),
                requests: 100,
                concurrency: 40,
                traceparent: true,
                connections,
                limit: Duration::from_secs(20),
            };
            let outcome = run(&plan);
            assert_eq!((outcome.answered.len(), outcome.errors.len()), (90, 10), "{:?}", outcome.errors);
            assert_eq!(outcome.kept.len(), if connections == Connections::Once { 0 } else { 90 });
        }
    }
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
