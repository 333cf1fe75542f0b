//! Compiles the `*.bpf.c` of `bpf/tracer`, `bpf/inject`, `bpf/runtime` and `bpf/probe`, links each folder into one object and writes its skeleton
//! to `OUT_DIR`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::Linker;

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let arch = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => bail!("no vmlinux header for {other}"),
    };
    println!("cargo::rerun-if-env-changed=BPF_CLANG");

    for object in ["tracer", "inject", "runtime", "probe"] {
        skeleton(&root, &out, arch, object)?;
    }

    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.join("bpf").display());
    println!("cargo::rerun-if-changed={}", root.join("vmlinux").join(arch).display());
    Ok(())
}

fn skeleton(root: &Path, out: &Path, arch: &str, folder: &str) -> Result<()> {
    let mut sources: Vec<PathBuf> = fs::read_dir(root.join("bpf").join(folder))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    sources.retain(|path| path.to_string_lossy().ends_with(".bpf.c"));
    sources.sort();

    let object = out.join(folder).with_extension("bpf.o");
    let mut linker = Linker::new(&object)?;
    for source in &sources {
        let name = source.file_name().context("source has no name")?;
        let part = out.join(name).with_extension("o");
        compile(root, arch, source, &part)?;
        linker.add_file(&part)?;
    }
    linker.link().context("linking the BPF objects")?;

    SkeletonBuilder::new()
        .obj(&object)
        .reference_obj(true)
        .generate(out.join(folder).with_extension("skel.rs"))
        .context("generating the skeleton")
}

fn compile(root: &Path, arch: &str, source: &Path, object: &Path) -> Result<()> {
    let mut builder = SkeletonBuilder::new();
    // v3 has the atomics with a result; kernels have it since 5.12, below our floor.
    let args: Vec<OsString> = [
        OsString::from("-I"),
        root.join("bpf/include").into(),
        "-isystem".into(),
        root.join("vmlinux").join(arch).into(),
        format!("-D__TARGET_ARCH_{arch}").into(),
        "-mcpu=v3".into(),
        // Line information goes into the objects, and paths of the machine do not belong there.
        format!("-ffile-prefix-map={}=.", root.display()).into(),
        "-O2".into(),
        "-Wall".into(),
        "-Wextra".into(),
        "-Wpadded".into(),
        "-Werror".into(),
        "-Wno-unused-parameter".into(),
        "-Wno-sign-compare".into(),
        "-Wno-missing-field-initializers".into(),
        "-Wno-unused-function".into(),
    ]
    .into();
    if let Some(clang) = env::var_os("BPF_CLANG") {
        builder.clang(clang);
    }
    builder
        .source(source)
        .obj(object)
        .clang_args(args)
        .build()
        .with_context(|| format!("compiling {}", source.display()))
}
