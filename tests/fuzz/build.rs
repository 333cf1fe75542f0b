//! The kernel side's parser, compiled for this machine with the fuzzer's counters in it.

fn main() {
    let arch = if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") { "x86" } else { "arm64" };
    println!("cargo::rerun-if-changed=../parser");
    println!("cargo::rerun-if-changed=../../bpf/include");
    cc::Build::new()
        .compiler(std::env::var("BPF_CLANG").unwrap_or_else(|_| "clang".into()))
        .files(["../parser/kernel.c", "../parser/table.c"])
        .include("../parser")
        .include(format!("../../vmlinux/{arch}"))
        .include("../../bpf/include")
        .define(&format!("__TARGET_ARCH_{arch}"), None)
        .opt_level(1)
        .warnings(false)
        .flag("-w")
        .flag("-fno-strict-aliasing")
        .flag("-fsanitize=fuzzer-no-link")
        .compile("parser");
}
