use spanwire::*;
use std::sync::Arc;
fn main() {
    let t = bpf::Tracer::load(&Default::default()).unwrap();
    let c = t.control();
    for p in std::env::args().skip(1) { let (a,b)=p.split_once(':').unwrap(); c.select(a.parse().unwrap(), b=="t"); }
    for l in ["/proc/net/tcp"] { for line in std::fs::read_to_string(l).unwrap().lines().skip(1) { let f: Vec<&str>=line.split_whitespace().collect(); if f[3]=="0A" { let port=u16::from_str_radix(f[1].split(':').nth(1).unwrap(),16).unwrap(); c.add_listener(std::fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy().trim_start_matches("net:[").trim_end_matches(']').parse().unwrap(), port).unwrap(); } } }
    let clock = time::WallClock::new();
    let mut asm = conn::Assembler::new(10000);
    let stop = bpf::Stop::new().unwrap();
    let s2 = stop.clone();
    std::thread::spawn(move || { std::thread::sleep(std::time::Duration::from_secs(std::env::var("SECS").ok().and_then(|x|x.parse().ok()).unwrap_or(5))); s2.signal(); });
    let ring = bpf::Ring::new(t.data_ring(), |r| {
        match event::decode(r) { Ok(e) => { if let Some(s) = asm.on_event(e, &clock, |p| Some(Arc::new(span::Resource{service_name: format!("{p}").into(), ..Default::default()}))) {
            if std::env::var("QUIET").is_err() { if let span::Operation::Http(h) = &s.operation { println!("{} {} par={} {:?} {} {} {} {} rq={} rs={} {}us {:?} err={:?}", s.trace_id, s.span_id, s.parent.map(|p|p.to_string()).unwrap_or("-".into()), s.kind, s.resource.service_name, h.method, h.path, h.status, h.request_body, h.response_body, (s.end_ns-s.start_ns)/1000, s.link, s.error) } else { println!("{s:?}") } }
        } } Err(e) => println!("{e}") }
    }).unwrap();
    bpf::Reader::new(ring, stop, std::time::Duration::from_millis(50)).run(|| {}).unwrap();
    for (n,v) in c.counters() { if v>0 { println!("{n} {v}"); } }
}
