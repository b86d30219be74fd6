//! The shape of the tree: what may depend on what, what a name or a file may be.
//!
//! These rules are ARCHITECTURE.md's invariants. Each failure names the file and the rule.
#![allow(missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the tree by its path from the top, without what is built or fetched.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.expect("readable directory entry");
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type().expect("file type").is_dir() {
                if name != ".git" && name != "target" {
                    walk(&path, found);
                }
            } else {
                found.push(path.strip_prefix(root()).expect("below the top").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    found
}

/// The text of every source file below one of `folders` (all when empty), by path.
fn sources(folders: &[&str], extensions: &[&str]) -> BTreeMap<String, String> {
    files()
        .into_iter()
        .filter(|path| folders.is_empty() || folders.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| {
            path.extension().is_some_and(|ext| extensions.iter().any(|wanted| ext == *wanted))
        })
        .map(|path| {
            let text = fs::read_to_string(root().join(&path))
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// Fails with every offence found, not only the first.
fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// Lines of code that hold one of `patterns`, as `file:line: pattern`. Comments may name anything.
fn uses(sources: &BTreeMap<String, String>, patterns: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for pattern in patterns.iter().filter(|pattern| code.contains(**pattern)) {
                found.push(format!("{path}:{}: {pattern}", number + 1));
            }
        }
    }
    found
}

/// The code of a file above its `#[cfg(test)] mod tests`.
fn without_tests(text: &str) -> String {
    match text.find("#[cfg(test)]\nmod ") {
        Some(start) => text[..start].to_owned(),
        None => text.to_owned(),
    }
}

/// Sources of the crates that run anywhere, without their tests.
fn offline() -> BTreeMap<String, String> {
    let mut all = sources(&["formats/src", "replay/src", "reports/src"], &["rs"]);
    for text in all.values_mut() {
        *text = without_tests(text);
    }
    // A file that is a test module as a whole is named in its parent under #[cfg(test)].
    all.retain(|path, _| !path.ends_with("/tests.rs") && !path.contains("/tests/"));
    all
}

#[test]
fn crates_depend_in_one_direction() {
    #[rustfmt::skip]
    let allowed: &[(&str, &[&str])] = &[
        ("formats", &[]),
        ("replay",  &["psc-formats"]),
        ("reports", &["psc-replay"]),
        ("bpf",     &["psc-formats"]),
    ];
    let mut offences = Vec::new();
    for (folder, may) in allowed {
        let path = root().join(folder).join("Cargo.toml");
        let text = fs::read_to_string(&path).expect("Cargo.toml");
        let manifest: toml::Table = text.parse().expect("Cargo.toml is TOML");
        for name in dependencies(&toml::Value::Table(manifest)) {
            if name.starts_with("psc") && !may.contains(&name.as_str()) {
                offences.push(format!("{folder} depends on {name}; it may use {may:?}"));
            }
        }
    }
    report("formats <- replay <- reports, and bpf on formats only", &offences);
}

/// Names in every `[dependencies]` and `[build-dependencies]` table, also of targets. Test-only
/// dependencies do not reach users.
fn dependencies(value: &toml::Value) -> Vec<String> {
    let mut names = Vec::new();
    let Some(table) = value.as_table() else { return names };
    for (key, inner) in table {
        match key.as_str() {
            "dependencies" | "build-dependencies" => {
                names.extend(inner.as_table().into_iter().flatten().map(|(name, _)| name.clone()));
            }
            "target" => {
                for target in inner.as_table().into_iter().flatten() {
                    names.extend(dependencies(target.1));
                }
            }
            _ => {}
        }
    }
    names
}

#[test]
fn replay_and_reports_do_no_io() {
    let pure = offline().into_iter().filter(|(path, _)| !path.starts_with("formats")).collect();
    #[rustfmt::skip]
    let patterns = [
        "std::fs", "File::open", "File::create", "std::net::TcpStream", "std::net::UdpSocket", "TcpListener",
        "std::process", "std::env", "println!", "eprintln!", "print!(", "eprint!(", "dbg!(", "std::io::stdout",
    ];
    report("replay and reports do no input, output or printing", &uses(&pure, &patterns));
}

#[test]
fn only_what_records_reads_a_clock() {
    let found =
        uses(&offline(), &["Instant::now", "SystemTime::now", "Zoned::now", "Timestamp::now"]);
    report("formats, replay and reports use packet time", &found);
    let printing = uses(
        &offline().into_iter().filter(|(path, _)| path.starts_with("formats")).collect(),
        &["println!", "eprintln!", "dbg!("],
    );
    report("formats returns what it finds; it does not print", &printing);
}

#[test]
fn offline_crates_are_portable() {
    #[rustfmt::skip]
    let patterns = [
        "libc::", "std::os::linux", "std::arch", "core::arch", "asm!", "x86_64", "_rdtsc",
        "from_ne_bytes", "to_ne_bytes",
    ];
    report(
        "nothing offline is Linux-only, x86-only or native-endian",
        &uses(&offline(), &patterns),
    );
}

#[test]
fn names_say_what_is_inside() {
    let mut offences = Vec::new();
    for path in files() {
        let code = path.extension().is_some_and(|ext| ["rs", "c", "h"].iter().any(|e| ext == *e));
        if !code {
            continue;
        }
        for part in path.iter().filter_map(|part| part.to_str()) {
            let stem = part.split('.').next().unwrap_or_default();
            if ["util", "utils", "common", "helper", "helpers", "misc"].contains(&stem) {
                offences.push(path.display().to_string());
            }
        }
    }
    for (path, text) in sources(&[], &["rs"]) {
        for (number, line) in text.lines().enumerate() {
            let words = line.split_whitespace().collect::<Vec<_>>();
            let named = words.windows(2).any(|pair| {
                ["struct", "enum", "trait", "type"].contains(&pair[0])
                    && pair[1].split(|c: char| !c.is_alphanumeric()).next().is_some_and(|name| {
                        ["Manager", "Helper", "Util"].iter().any(|end| name.ends_with(end))
                    })
            });
            if named {
                offences.push(format!("{path}:{}", number + 1));
            }
        }
    }
    report("no utils, common, helpers, Manager", &offences);
}

#[test]
fn modules_are_small() {
    const LIMIT: usize = 600;
    /// One flat table each: longer, but with nothing to get lost in.
    const TABLES: &[&str] = &["bpf/src/vmlinux.h"];
    let offences: Vec<String> = sources(&[], &["rs", "c", "h"])
        .into_iter()
        .filter(|(path, _)| !TABLES.contains(&path.as_str()))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LIMIT)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    report("a module over 600 lines wants a second room", &offences);
}

#[test]
fn nothing_is_left_unfinished() {
    let all = sources(&[], &["rs"]);
    let marks: Vec<String> =
        ["todo", "unimplemented"].iter().map(|name| format!("{name}!(")).collect();
    let mut patterns: Vec<&str> = marks.iter().map(String::as_str).collect();
    let ignored = ["#[", "ignore"].concat();
    patterns.push(&ignored);
    report("no stubs, no ignored tests", &uses(&all, &patterns));
}

#[test]
fn no_path_of_a_developers_machine() {
    let names = ["wo\u{72}k", "fa\u{72}m", "\u{72}oot"].map(|name| format!("/{name}/"));
    let mut offences = Vec::new();
    for path in files() {
        let binary = path.extension().is_none_or(|ext| {
            ["psc", "pcap", "pcapng", "gz", "zst", "png", "lock"].iter().any(|e| ext == *e)
        });
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        if binary && path.extension().is_some() {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if names.iter().any(|name| line.contains(name.as_str())) {
                offences.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    report("no absolute path of the machine it was written on", &offences);
}

#[test]
fn the_house_is_complete() {
    #[rustfmt::skip]
    let wanted = [
        "LICENSE", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "deny.toml", "clippy.toml",
        ".ci/run", "formats/FORMAT.md", "testdata/README.md",
    ];
    let missing: Vec<String> = wanted
        .iter()
        .filter(|path| !root().join(path).is_file())
        .map(|path| (*path).to_owned())
        .collect();
    report("files that must exist", &missing);

    let ci = fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(
        ci.lines().any(|line| line == "PSC_REQUIRE_LIVE=1 cargo xtask test"),
        ".ci/run runs the tests"
    );
}

#[test]
fn the_readme_names_the_rust_version_of_cargo_toml() {
    let manifest: toml::Table =
        fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml").parse().expect("TOML");
    let version = manifest["workspace"]["package"]["rust-version"].as_str().expect("rust-version");
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.contains(&format!("Rust {version}")), "README.md must name Rust {version}");
}

/// README.md shows what psc printed: each line of a block that names a golden file is in that file, as far as
/// a closing `…`.
#[test]
fn the_readme_shows_real_output() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let mut offences = Vec::new();
    let mut blocks = 0;
    let mut source: Option<String> = None;
    for line in readme.lines() {
        if let Some(info) = line.strip_prefix("```") {
            source = info.strip_prefix("text ").map(|path| {
                blocks += 1;
                fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
            });
        } else if let Some(source) = &source {
            let shown = line.trim_end_matches('…').trim_end();
            if !source.lines().any(|real| real.trim_end().starts_with(shown)) {
                offences.push(line.to_owned());
            }
        }
    }
    assert!(blocks > 0, "README.md shows no output");
    report("README.md shows lines that psc did not print", &offences);
}

/// Every testdata file is described where it came from.
#[test]
fn test_data_has_provenance() {
    let readme = fs::read_to_string(root().join("testdata/README.md")).expect("testdata/README.md");
    let offences: Vec<String> = files()
        .into_iter()
        .filter(|path| path.starts_with("testdata") && path != Path::new("testdata/README.md"))
        .filter_map(|path| {
            let below = path.strip_prefix("testdata").expect("below testdata").to_owned();
            let folder = format!("{}/", below.parent().unwrap_or(Path::new("")).display());
            let named = readme.contains(&format!("`{}`", below.display()))
                || (folder != "/" && readme.contains(&format!("`{folder}`")));
            (!named).then(|| below.display().to_string())
        })
        .collect();
    report("testdata/README.md must say where each file (or folder) comes from", &offences);
}
