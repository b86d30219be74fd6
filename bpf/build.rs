//! Compiles the BPF programs and generates their skeleton; nothing to do off Linux.

#[cfg(target_os = "linux")]
fn main() {
    use std::path::PathBuf;

    println!("cargo:rerun-if-changed=src/bpf");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    libbpf_cargo::SkeletonBuilder::new()
        .source("src/bpf/capture.bpf.c")
        .obj(out.join("capture.bpf.o"))
        // v3 has 32-bit jumps and fetching atomics; every kernel with the ring buffer runs it.
        .clang_args([
            "-mcpu=v3",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Wno-sign-compare",
            "-Wno-missing-field-initializers",
        ])
        .build_and_generate(out.join("capture.skel.rs"))
        .expect("compile src/bpf/capture.bpf.c (needs clang 14 or later)");
}

#[cfg(not(target_os = "linux"))]
fn main() {}
