//! Real traffic from our own programs, run inside the namespaces: `xtask traffic …`.
//!
//! Built in, so that demo and bench depend on no traffic tool but `ping`. Each client prints one JSON
//! line that says what it did; that is what replay's numbers are compared with.

mod deaf;
mod load;
mod mix;
mod serve;

pub(crate) use load::Meter;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Options;

/// Ports of the server, and of the things it does not serve.
pub(crate) mod port {
    /// TCP: reads and throws away.
    pub(crate) const SINK: u16 = 5001;
    /// TCP: HTTP/1.1.
    pub(crate) const HTTP: u16 = 8080;
    /// UDP: sends back.
    pub(crate) const ECHO: u16 = 9000;
    /// UDP: reads and counts.
    pub(crate) const FLOOD: u16 = 9001;
    /// TCP and UDP: bound, but never read or accepted.
    pub(crate) const DEAF: u16 = 9002;
    /// Nobody listens, on TCP or on UDP.
    pub(crate) const CLOSED: u16 = 4444;
    /// UDP: dropped by the server's nftables rule.
    pub(crate) const FILTERED: u16 = 7777;
}

/// What a traffic verb is told.
struct Plan {
    /// Host to talk to.
    to: String,
    /// The same host's IPv6 address, if IPv6 is to be used too.
    to6: Option<String>,
    /// How long.
    time: Duration,
    /// Connections at once.
    connections: u32,
    /// For `few`: which kind, how often.
    steps: Vec<(String, u32)>,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some((verb, rest)) = args.split_first() else {
        bail!("traffic serve|deaf|mix|few|bulk|requests|flood");
    };
    let mut plan = Plan {
        to: crate::netns::SERVER4.to_owned(),
        to6: None,
        time: Duration::from_secs(10),
        connections: 8,
        steps: Vec::new(),
    };
    let mut options = Options::new(rest);
    while let Some(name) = options.name() {
        match name {
            "--to" => plan.to = options.value(name)?,
            "--to6" => plan.to6 = Some(options.value(name)?),
            "--seconds" => plan.time = Duration::try_from_secs_f64(options.value(name)?)?,
            "--connections" => plan.connections = options.value(name)?,
            "--do" => {
                let step: String = options.value(name)?;
                let (kind, count) = step.split_once('=').context("--do KIND=COUNT")?;
                plan.steps.push((kind.to_owned(), count.parse().context("--do KIND=COUNT")?));
            }
            other => bail!("traffic {verb} has no option '{other}'"),
        }
    }
    let done: Value = match verb.as_str() {
        "serve" => return serve::run(),
        "deaf" => return deaf::run(),
        "few" => mix::few(&plan)?,
        "mix" => mix::run(&plan)?,
        "bulk" => load::bulk(&plan)?,
        "requests" => load::requests(&plan)?,
        "flood" => load::flood(&plan)?,
        other => bail!("there is no traffic '{other}'"),
    };
    println!("{done}");
    Ok(())
}
