//! The licence of every dependency, against the list in deny.toml.
//!
//! `cargo deny check` does this and more, and deny.toml is written for it. It is several hundred
//! crates to compile, which on two cores takes longer than all our tests, so CI uses this check of the
//! same file; who has cargo-deny can run it.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("licences takes no arguments, got {arg}");
    }
    let root = crate::root()?;
    let deny = std::fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let allowed = allowed(&deny)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = command::output(Command::new(cargo).current_dir(&root).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--all-features",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut refused = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or("?");
        let version = package["version"].as_str().unwrap_or("?");
        let licence = package["license"].as_str().unwrap_or("");
        let source = package["source"].as_str();
        if source.is_some_and(|from| !from.starts_with("registry+")) {
            refused.push(format!("{name} {version} comes from {}", source.unwrap_or("?")));
        }
        match permits(licence, &allowed) {
            Ok(true) => {}
            Ok(false) => refused.push(format!("{name} {version} is under `{licence}`")),
            Err(error) => refused.push(format!("{name} {version}: {error}")),
        }
    }
    if !refused.is_empty() {
        bail!(
            "{} of {} packages are not covered by the licences in deny.toml:\n  {}\nReplace them, \
             or allow the licence there with a reason",
            refused.len(),
            packages.len(),
            refused.join("\n  ")
        );
    }
    println!("licences: {} packages, all under one of {}", packages.len(), allowed.join(", "));
    Ok(())
}

/// The strings of `allow = [...]` under `[licenses]`. A whole TOML reader would be xtask's largest
/// dependency; this reads the one list and refuses what it does not understand.
fn allowed(deny: &str) -> Result<Vec<String>> {
    let section = deny.split_once("[licenses]").context("deny.toml has no [licenses]")?.1;
    let list = section
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .context("deny.toml has no `allow = [...]` under [licenses]")?
        .0;
    let mut allowed = Vec::new();
    for line in list.lines() {
        let line = line.split('#').next().unwrap_or_default();
        for item in line.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let name = item.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            allowed.push(name.with_context(|| format!("deny.toml: {item} is no string"))?.into());
        }
    }
    Ok(allowed)
}

/// Whether an SPDX expression can be met with the allowed licences alone.
fn permits(expression: &str, allowed: &[String]) -> Result<bool> {
    // `MIT/Apache-2.0` is how crates wrote OR before SPDX expressions.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any_of(&mut rest, allowed)?;
    if !rest.is_empty() {
        bail!("`{expression}` is no licence expression");
    }
    Ok(met)
}

fn any_of(words: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let mut met = all_of(words, allowed)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        met |= all_of(words, allowed)?;
    }
    Ok(met)
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let mut met = one(words, allowed)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        met &= one(words, allowed)?;
    }
    Ok(met)
}

fn one(words: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let is = |name: &str| allowed.iter().any(|licence| licence == name);
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any_of(words, allowed)?;
            let [")", rest @ ..] = *words else { bail!("a parenthesis is not closed") };
            *words = rest;
            Ok(met)
        }
        // An exception only adds permissions.
        [name, "WITH", _, rest @ ..] => {
            *words = rest;
            Ok(is(name))
        }
        [name, rest @ ..] if !matches!(*name, "OR" | "AND" | ")") => {
            *words = rest;
            Ok(is(name))
        }
        _ => bail!("it names no licence"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_allowed_licences_only() {
        let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned(), "Apache-2.0".to_owned()];
        #[rustfmt::skip]
        let cases = [
            ("MIT",                                       true),
            ("GPL-3.0-only",                              false),
            ("MIT/GPL-2.0",                               true),
            ("LGPL-2.1-only OR BSD-2-Clause",             false),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0",     true),
            ("MIT AND GPL-3.0-only",                      false),
            ("GPL-3.0-only AND GPL-2.0-only OR MIT",      true),
            ("Apache-2.0 WITH LLVM-exception",            true),
        ];
        for (expression, expected) in cases {
            assert_eq!(permits(expression, &allowed).unwrap(), expected, "{expression}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT MIT", "AND"] {
            assert!(permits(broken, &allowed).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        let deny = "[licenses]\nallow = [\n  \"MIT\", # ours\n  \"ISC\",\n]\n";
        assert_eq!(allowed(deny).unwrap(), ["MIT", "ISC"]);
        assert!(allowed("[licenses]\nallow = [MIT]").is_err());
    }
}
