//! The guarder's verbs that learn and explain.

use std::path::PathBuf;

use clap::Args;

use super::{Select, TextFormat};

/// `psc guard baseline`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc guard baseline monday.psc -o plant.toml
  psc guard detect tuesday.psc --baseline plant.toml

The file says which client asks which controller for which functions and addresses. Read it before you \
trust it: what an attacker did while it was learned is in it, too.")]
pub(crate) struct BaselineArgs {
    /// Recording or capture to learn from, `-` for standard input
    pub(crate) input: PathBuf,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// `psc guard explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc guard explain web.psc
  psc guard explain web.psc --llm-endpoint http://127.0.0.1:11434 --llm-model qwen3

Without an endpoint, templates say the same. A model gets a bounded document of findings with addresses \
replaced by labels; each of its sentences must cite evidence that exists, or it is left out and that is \
said. It decides nothing. PSC_LLM_KEY in the environment is sent as the bearer token.

Exit status: 0 nothing found, 1 findings, 2 error.")]
pub(crate) struct ExplainArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// OpenAI-compatible server to ask, on this machine unless --llm-host names it
    #[arg(long, value_name = "URL", help_heading = "Model")]
    pub(crate) llm_endpoint: Option<String>,
    /// Model to ask for
    #[arg(long, value_name = "NAME", default_value = "default", help_heading = "Model")]
    pub(crate) llm_model: String,
    /// Allow this host though it is another machine; it must be the one of --llm-endpoint
    #[arg(long, value_name = "HOST", help_heading = "Model")]
    pub(crate) llm_host: Option<String>,
    /// Give up on the model after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Model",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) llm_timeout: u16,
    /// Send addresses as they are instead of labels
    #[arg(long, help_heading = "Model")]
    pub(crate) llm_share_addresses: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}

/// `psc guard suggest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc guard suggest web.psc
  psc guard suggest web.psc --format json | jq -r '.suggestions[].rule'

Each rule was held against the same recording: what it matched, and how much of that belonged to flows in \
which both sides sent data. A source that may be forged is limited and never dropped.

Exit status: 0 nothing found, 1 findings, 2 error.")]
pub(crate) struct SuggestArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: Select,
}
