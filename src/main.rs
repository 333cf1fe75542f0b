fn main() {
    let r = spanwire::bpf::Tracer::load(&Default::default());
    match r { Ok(t) => println!("ok {:?} {:?}", t.tier, t.trials), Err(e) => println!("{e}") }
}
