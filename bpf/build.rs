//! Compiles the BPF programs and generates their skeletons; nothing to do off Linux.

#[cfg(target_os = "linux")]
fn main() {
    use std::path::PathBuf;

    println!("cargo:rerun-if-changed=src/bpf");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["capture", "guard"] {
        libbpf_cargo::SkeletonBuilder::new()
            .source(format!("src/bpf/{name}.bpf.c"))
            .obj(out.join(format!("{name}.bpf.o")))
            // v3 has 32-bit jumps and fetching atomics; every kernel with the ring buffer runs it.
            .clang_args([
                "-mcpu=v3",
                "-Wall",
                "-Wextra",
                "-Wno-unused-parameter",
                "-Wno-sign-compare",
                "-Wno-missing-field-initializers",
            ])
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .unwrap_or_else(|error| {
                panic!("compile src/bpf/{name}.bpf.c (needs clang 14 or later): {error:#}")
            });
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
