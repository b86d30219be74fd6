//! `cargo xtask oracle`: second opinions on TCP, over any folder of captures.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::setup::{self, Purpose};

pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = crate::root()?;
    let folder = match args {
        [] => root.join("testdata/captures"),
        [folder] => PathBuf::from(folder),
        _ => bail!("oracle takes one folder of captures"),
    };
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    setup::ensure(Purpose::Test)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut test = Command::new(cargo);
    test.current_dir(&root).env("PSC_ORACLE", folder);
    test.args(["test", "--quiet", "--locked", "--package", "psc", "--no-default-features"]);
    test.args(["--test", "tcp_oracle", "every_difference", "--", "--nocapture"]);
    command::run(&mut test)
}
