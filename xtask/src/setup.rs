//! System packages: which are missing, and installing them where we may.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::command;

/// How to tell that a package's content is there, however it came.
enum Sign {
    /// A program on the path.
    Program(&'static str),
    /// A library that pkg-config, or else the compiler's own search path, knows.
    Library { pkg_config: &'static str, header: &'static str },
}

/// A Debian package and what it is for.
struct Need {
    package: &'static str,
    sign: Sign,
}

const fn program(package: &'static str, program: &'static str) -> Need {
    Need { package, sign: Sign::Program(program) }
}

/// What compiling the `live` feature needs.
const BUILD: &[Need] = &[
    program("gcc", "cc"),
    program("make", "make"),
    program("clang", "clang"),
    program("pkg-config", "pkg-config"),
    Need {
        package: "libelf-dev",
        sign: Sign::Library { pkg_config: "libelf", header: "libelf.h" },
    },
    Need { package: "zlib1g-dev", sign: Sign::Library { pkg_config: "zlib", header: "zlib.h" } },
];

/// What making the demo's traffic needs beside that.
const TRAFFIC: &[Need] =
    &[program("iproute2", "ip"), program("iputils-ping", "ping"), program("nftables", "nft")];

/// Second opinions, attackers and browsers that the tests run.
const TESTS: &[Need] = &[
    program("ca-certificates", "update-ca-certificates"),
    program("chromium", "chromium"),
    program("ethtool", "ethtool"),
    program("dsniff", "arpspoof"),
    program("hping3", "hping3"),
    program("mtr-tiny", "mtr"),
    program("nmap", "nmap"),
    program("procps", "sysctl"),
    program("python3-venv", "python3"),
    program("tcpdump", "tcpdump"),
    program("tcptrace", "tcptrace"),
    program("traceroute", "traceroute"),
    program("tshark", "tshark"),
];

/// What building libFuzzer needs beside a C compiler.
const FUZZ: &[Need] = &[program("g++", "c++")];

/// What booting other kernels needs beside that.
const KERNELS: &[Need] = &[
    program("busybox-static", "busybox"),
    program("cpio", "cpio"),
    program("kmod", "depmod"),
    program("qemu-system-x86", "qemu-system-x86_64"),
    program("xz-utils", "xz"),
];

/// What a command needs installed.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Building with recording, and the demo's traffic.
    Demo,
    /// All of that and what the tests run.
    Test,
    /// Building, the tests' traffic, and an emulator.
    Kernels,
    /// Building, and libFuzzer.
    Fuzz,
}

/// What [`ensure`] came to.
pub(crate) struct Setup {
    /// Packages still missing; empty when all is there.
    pub(crate) missing: Vec<&'static str>,
}

impl Setup {
    /// Whether recording can be compiled in.
    pub(crate) fn can_build_live(&self) -> bool {
        cfg!(target_os = "linux") && !BUILD.iter().any(|need| self.missing.contains(&need.package))
    }

    /// The one line that installs what is missing.
    pub(crate) fn line(&self) -> String {
        let missing = self.missing.join(" ");
        format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {missing}")
    }
}

/// Installs what is missing when we are root on a machine with apt-get; else says what to run.
pub(crate) fn ensure(purpose: Purpose) -> Result<Setup> {
    let needs: Vec<&Need> = match purpose {
        Purpose::Demo => BUILD.iter().chain(TRAFFIC).collect(),
        Purpose::Kernels => BUILD.iter().chain(TRAFFIC).chain(KERNELS).collect(),
        Purpose::Fuzz => BUILD.iter().chain(FUZZ).collect(),
        Purpose::Test => BUILD.iter().chain(TRAFFIC).chain(TESTS).collect(),
    };
    let missing = missing(&needs);
    let setup = Setup { missing };
    if setup.missing.is_empty() {
        return Ok(setup);
    }
    let apt = command::find("apt-get");
    if !is_root() || apt.is_none() {
        println!("Missing system packages: {}.", setup.missing.join(", "));
        if apt.is_some() {
            println!("Not root, so not installed. Run this and repeat:\n\n  {}\n", setup.line());
        } else {
            println!("No apt-get here; install what this system calls the same.\n");
        }
        return Ok(setup);
    }
    println!("Installing missing system packages: {}", setup.missing.join(", "));
    std::io::stdout().flush()?;
    command::run(&mut apt_get(&["update", "-qq"]))?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&setup.missing);
    command::run(&mut apt_get(&install))?;
    let missing = self::missing(&needs);
    if !missing.is_empty() {
        bail!(
            "apt-get succeeded, but {} is still not found; see what the package provides with \
             `dpkg -L {}`",
            missing.join(", "),
            missing[0]
        );
    }
    Ok(Setup { missing })
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = command::tool("apt-get");
    // tshark asks whether users may capture; nobody is there to answer.
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    // Hundreds of lines from dpkg help only when something fails, and that is said on stderr.
    command.args(["-o", "Dpkg::Use-Pty=0"]).stdout(Stdio::null());
    command
}

fn missing(needs: &[&Need]) -> Vec<&'static str> {
    needs.iter().filter(|need| !need.sign.there()).map(|need| need.package).collect()
}

impl Sign {
    fn there(&self) -> bool {
        match self {
            Self::Program(name) => command::find(name).is_some(),
            Self::Library { pkg_config, header } => {
                let known = command::tool("pkg-config").args(["--exists", pkg_config]).status();
                match known {
                    Ok(status) => status.success(),
                    Err(_) => std::path::Path::new("/usr/include").join(header).is_file(),
                }
            }
        }
    }
}

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_by_package() {
        let absent = program("some-package", "no-program-has-this-name");
        let present = program("coreutils", "ls");
        assert_eq!(missing(&[&present, &absent]), ["some-package"]);
    }

    #[test]
    fn without_clang_recording_cannot_be_built() {
        assert!(!Setup { missing: vec!["clang"] }.can_build_live());
        assert!(Setup { missing: vec!["nftables"] }.can_build_live() == cfg!(target_os = "linux"));
    }
}
