//! The capture tests on Debian's stock kernels, each booted under QEMU's software emulation.
//!
//! The guest is an initramfs made of busybox, the tools the tests run, the test programs that cargo
//! built here, and the kernel package's own modules. Nothing is installed and nothing is kept but
//! downloaded packages, under `target/kernels`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{command, root, setup};

/// A kernel to test: the series and the Debian suite that has it.
const KERNELS: &[(&str, &str)] = &[("6.1", "bookworm"), ("6.12", "bookworm-backports")];

/// Test programs of the `psc` package that make sense on another kernel.
const TESTS: &[&str] = &["drops", "attribution", "functions"];

/// What the tests call inside the guest.
const TOOLS: &[&str] = &["ip", "nft", "ping"];

/// Modules loaded before the tests; one that a kernel has built in is no error.
const MODULES: &[&str] = &[
    "veth",
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "sch_netem",
    "vxlan",
    "bridge",
    "ipip",
    "ip_gre",
    "iptable_filter",
    "sch_tbf",
    "sch_htb",
];

/// How long a guest may take. Emulation is some twenty times slower than the machine.
const PATIENCE: Duration = Duration::from_mins(15);

pub(crate) fn run(args: &[String]) -> Result<()> {
    let tests = chosen(TESTS, args);
    let series: Vec<&str> = KERNELS.iter().map(|(series, _)| *series).collect();
    let wanted = chosen(&series, args);
    if let Some(unknown) =
        args.iter().find(|arg| !series.contains(&arg.as_str()) && !TESTS.contains(&arg.as_str()))
    {
        bail!("{unknown} is no kernel ({}) and no test ({})", series.join(", "), TESTS.join(", "));
    }
    let missing = setup::ensure(setup::Purpose::Kernels)?;
    ensure!(missing.missing.is_empty(), "install what is missing first:\n  {}", missing.line());
    let work = root()?.join("target/kernels");
    let programs = build_tests(&tests)?;
    let mut failed = Vec::new();
    for (series, suite) in KERNELS.iter().filter(|(series, _)| wanted.contains(series)) {
        let kernel = Kernel::fetch(&work, series, suite)?;
        println!("== {} under emulation", kernel.release);
        let image = initramfs(&work, &kernel, &programs)?;
        let began = Instant::now();
        match boot(&kernel, &image) {
            Ok(()) => println!("== {}: ok in {} s", kernel.release, began.elapsed().as_secs()),
            Err(error) => {
                println!("== {}: {error:#}", kernel.release);
                failed.push(kernel.release);
            }
        }
    }
    ensure!(failed.is_empty(), "the capture tests failed on {}", failed.join(", "));
    Ok(())
}

/// Those of `known` that the arguments name; all when they name none.
fn chosen<'a>(known: &[&'a str], args: &[String]) -> Vec<&'a str> {
    let named: Vec<&str> =
        known.iter().copied().filter(|name| args.iter().any(|arg| arg == name)).collect();
    if named.is_empty() { known.to_vec() } else { named }
}

/// A kernel package, unpacked.
struct Kernel {
    release: String,
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Downloads the newest cloud kernel of a series, unless it is there already.
    fn fetch(work: &Path, series: &str, suite: &str) -> Result<Self> {
        let home = work.join(series);
        let unpacked = home.join("root");
        if !unpacked.join("boot").is_dir() {
            let apt = Apt::new(&home, suite)?;
            let name = apt.newest(series)?;
            println!("Downloading {name} from {suite}");
            apt.download(&name)?;
            let package = fs::read_dir(&home)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
                .context("apt-get download left no package")?;
            let partial = home.join("root.partial");
            command::run(Command::new("dpkg").arg("-x").arg(&package).arg(&partial))?;
            fs::rename(&partial, &unpacked)?;
        }
        let release = single(&unpacked.join("lib/modules"))?;
        let image = unpacked.join("boot").join(format!("vmlinuz-{release}"));
        Ok(Self { modules: unpacked.join("lib/modules").join(&release), image, release })
    }
}

/// The name of the only entry of a directory.
fn single(dir: &Path) -> Result<String> {
    let mut entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let entry = entries.next().with_context(|| format!("{} is empty", dir.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// apt with package lists of its own, so that the machine's configuration stays as it is.
struct Apt {
    home: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(home: &Path, suite: &str) -> Result<Self> {
        fs::create_dir_all(home.join("lists/partial"))?;
        let source = home.join("source.list");
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(&source, format!("deb [signed-by={key}] {} {suite} main\n", mirror()?))?;
        let options = [
            format!("Dir::Etc::sourcelist={}", source.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", home.join("lists").display()),
            // Packages go to a directory that apt's own user may not enter.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let apt = Self { home: home.to_owned(), options: options.into() };
        command::run(apt.command("apt-get").args(["update", "-qq"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command::tool(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command.current_dir(&self.home);
        command
    }

    /// `linux-image-6.1.0-56-cloud-amd64`: the highest version that the suite has.
    fn newest(&self, series: &str) -> Result<String> {
        let list =
            command::output(self.command("apt-cache").args(["search", "--names-only"]).arg(
                format!("^linux-image-{}[.].*[0-9]-cloud-amd64$", series.replace('.', "[.]")),
            ))?;
        let names = list.lines().filter_map(|line| line.split(' ').next());
        let newest = names.max_by_key(|name| numbers(name));
        newest.map(str::to_owned).with_context(|| format!("the suite has no {series} cloud kernel"))
    }

    fn download(&self, name: &str) -> Result<()> {
        command::run(self.command("apt-get").args(["download", "-qq", name]))
    }
}

/// All numbers in a name, which is how kernel packages are to be compared.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

/// The Debian mirror that this machine uses.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    for file in files {
        for line in fs::read_to_string(&file).unwrap_or_default().lines() {
            let line = line.trim();
            let uri = if let Some(uris) = line.strip_prefix("URIs:") {
                uris.split_whitespace().next()
            } else if line.starts_with("deb ") {
                line.split_whitespace().find(|word| word.contains("://"))
            } else {
                None
            };
            if let Some(uri) = uri.filter(|uri| uri.trim_end_matches('/').ends_with("/debian")) {
                return Ok(uri.to_owned());
            }
        }
    }
    bail!("no Debian mirror in /etc/apt/sources.list or sources.list.d")
}

/// A program to be run in the guest at the path it has here.
type Program = PathBuf;

/// Builds psc and the test programs and returns where they are.
fn build_tests(tests: &[&str]) -> Result<Vec<Program>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--quiet", "--no-run", "--message-format=json", "--bin", "psc"]);
    for test in tests {
        cargo.args(["--test", test]);
    }
    cargo.current_dir(root()?).stderr(Stdio::inherit());
    let out = command::output(&mut cargo)?;
    let mut programs = BTreeSet::new();
    for line in out.lines() {
        // Enough of cargo's JSON for the one field that matters.
        let Some((_, rest)) = line.split_once("\"executable\":\"") else { continue };
        let Some((path, _)) = rest.split_once('"') else { continue };
        programs.insert(PathBuf::from(path));
    }
    // Tests run the program itself, which cargo leaves beside `deps`.
    programs.insert(root()?.join("target/debug/psc"));
    ensure!(programs.len() > tests.len(), "cargo named only {programs:?}");
    Ok(programs.into_iter().collect())
}

/// Makes the guest's file system and returns the image.
fn initramfs(work: &Path, kernel: &Kernel, programs: &[Program]) -> Result<PathBuf> {
    let tree = work.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "run", "var", "root"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    let busybox = command::find("busybox").context("busybox is not installed")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    for program in programs {
        add(&tree, program)?;
    }
    for tool in TOOLS {
        let found = command::find(tool).with_context(|| format!("{tool} is not installed"))?;
        add(&tree, &found)?;
    }
    modules(&tree, kernel)?;
    fs::write(tree.join("etc/protocols"), "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n")?;
    let init = tree.join("init");
    fs::write(&init, init_script(programs))?;
    command::run(Command::new("chmod").arg("755").arg(&init))?;
    let image = work.join("initramfs.cpio");
    let pack = format!(
        "cd '{}' && find . | cpio --quiet --create --format=newc > '{}'",
        tree.display(),
        image.display()
    );
    command::run(Command::new("sh").args(["-c", &pack]))?;
    Ok(image)
}

/// Copies a program and the libraries it is linked with, each to the path it has here.
fn add(tree: &Path, program: &Path) -> Result<()> {
    copy(tree, program)?;
    let listed = Command::new("ldd").arg(program).output().context("ldd")?;
    for word in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
        if word.starts_with('/') && !tree.join(&word[1..]).exists() {
            copy(tree, Path::new(word))?;
        }
    }
    Ok(())
}

fn copy(tree: &Path, file: &Path) -> Result<()> {
    let to = tree.join(file.strip_prefix("/").unwrap_or(file));
    fs::create_dir_all(to.parent().context("a file stands in a directory")?)?;
    fs::copy(file, &to).with_context(|| format!("copying {}", file.display()))?;
    Ok(())
}

/// Copies the modules that the tests load, and what those need, uncompressed.
fn modules(tree: &Path, kernel: &Kernel) -> Result<()> {
    let to = tree.join("lib/modules").join(&kernel.release);
    fs::create_dir_all(to.parent().context("lib")?)?;
    // Only network code: the rest of the package is drivers that the guest has no device for.
    for part in [
        "kernel/net",
        "kernel/drivers/net/veth*",
        "kernel/drivers/net/vxlan",
        "kernel/lib",
        "kernel/crypto",
        "modules.*",
    ] {
        let script = format!(
            "cd '{}' && for f in {part}; do [ -e \"$f\" ] && find \"$f\" -type f | cpio --quiet -pdm '{}'; done; true",
            kernel.modules.display(),
            to.display()
        );
        command::run(Command::new("sh").args(["-c", &script]))?;
    }
    let unpack = format!("find '{}' -name '*.ko.xz' -exec xz -d {{}} +", to.display());
    command::run(Command::new("sh").args(["-c", &unpack]))?;
    command::run(command::tool("depmod").arg("-b").arg(tree).arg(&kernel.release))
}

fn init_script(programs: &[Program]) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox mkdir -p /busybox; /bin/busybox --install -s /busybox\n\
         export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox RUST_BACKTRACE=1 PSC_REQUIRE_LIVE=1\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
         mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mkdir -p /run/netns\n\
         mount -t tracefs trace /sys/kernel/tracing; mount -t bpf bpf /sys/fs/bpf\n\
         mkdir -p /sys/fs/cgroup; mount -t cgroup2 cgroup /sys/fs/cgroup\n\
         ip link set lo up; ulimit -n 65536\n",
    );
    for module in MODULES {
        script.extend(["modprobe -q ", module, "\n"]);
    }
    script.push_str("failed=0\n");
    for program in programs.iter().filter(|program| is_test(program)) {
        let path = program.display().to_string();
        script.extend([path.as_str(), " --nocapture --test-threads=1 || failed=1\n"]);
    }
    script.push_str("echo psc-guest-done $failed\nsync\npoweroff -f\n");
    script
}

/// Whether a program is one of [`TESTS`] and not psc itself.
fn is_test(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    TESTS.iter().any(|test| name.strip_prefix(test).is_some_and(|rest| rest.starts_with('-')))
}

/// Boots the guest, shows what it prints, and tells whether its tests passed.
fn boot(kernel: &Kernel, image: &Path) -> Result<()> {
    let mut guest = command::tool("qemu-system-x86_64");
    guest
        // QEMU 7.2 emulates cmpxchg16b wrongly (EFLAGS come back as garbage, and the guest double
        // faults in its slab allocator): do without.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "3G"])
        .args(["-nographic", "-no-reboot", "-net", "none", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut guest = command::Running::start(&mut guest)?;
    let console = guest.stdout().context("piped")?;
    let (lines, seen) = mpsc::channel();
    std::thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        while console.by_ref().read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    let until = Instant::now() + PATIENCE;
    let mut verdict = None;
    loop {
        match seen.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(rest) = line.split("psc-guest-done ").nth(1) {
                    verdict = Some(rest.trim() == "0");
                } else {
                    println!(
                        "   | {}",
                        line.chars().filter(|c| !c.is_control()).collect::<String>()
                    );
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                guest.stop(Duration::from_secs(5))?;
                bail!("the guest was not done within {} s", PATIENCE.as_secs());
            }
        }
    }
    guest.wait()?;
    match verdict {
        Some(true) => Ok(()),
        Some(false) => bail!("tests failed in the guest"),
        None => bail!("the guest ended before its tests did"),
    }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn the_newest_package_is_the_highest_number_not_the_last_name() {
        let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert_eq!(names.iter().max_by_key(|name| numbers(name)), Some(&names[1]));
    }
}
