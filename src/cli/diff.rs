//! Arguments of `psc diff`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use psc_replay::expect::Gate;

use super::expect::Results;
use super::{Select, TextFormat};

/// `psc diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc diff before.psc after.psc
  psc diff before.psc after.psc -f 'tcp.port == 443' --threshold 25%
  psc diff before.psc after.psc --gate 'p99<+10%' --gate 'drops<=base'
  psc diff before.psc after.psc --format json | jq '.steps[] | select(.change == \"slower\")'

Only probes that both recordings have are compared. What may be chance is said to be; the noise between \
two runs of one setup shows when two recordings of it are compared.")]
pub(crate) struct DiffArgs {
    /// Recording to compare with
    pub(crate) base: PathBuf,
    /// Recording to compare
    pub(crate) new: PathBuf,
    /// Smallest move of a step's median or 99th percentile to show
    #[arg(long, value_name = "PERCENT", default_value = "10%")]
    pub(crate) threshold: Percent,
    /// Changed paths and moved steps to show; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) limit: usize,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Bound that must hold, else exit status 1: p99<+10%, drops<=base, new_drops==0 (repeat for several)
    #[arg(long, value_name = "GATE")]
    pub(crate) gate: Vec<Gate>,
    #[command(flatten)]
    pub(crate) results: Results,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// A share: `10%`, `2.5%` or `0.1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percent(pub(crate) f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let (number, scale) = match trimmed.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (trimmed, 1.0),
        };
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Self(value / scale)),
            _ => Err(format!("`{text}` is no share: write 10%, 2.5% or 0.1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_or_fractions() {
        let cases = [("10%", Some(0.1)), ("0.25", Some(0.25)), ("0 %", Some(0.0))];
        for (text, expected) in
            cases.into_iter().chain(["", "%", "-1%", "inf", "ten"].map(|bad| (bad, None)))
        {
            assert_eq!(text.parse::<Percent>().ok().map(|p| p.0), expected, "{text:?}");
        }
    }
}
