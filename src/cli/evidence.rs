//! Options of the verbs about evidence: verify, keygen, sign.

use std::path::PathBuf;

use clap::Args;

use super::TextFormat;

/// `psc verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc verify web.psc && echo intact
  psc verify web.psc --key recorder.pub                    signed by this key, the end too
  psc verify web.psc --key recorder.pub --checkpoint web.checkpoints
  psc verify window.psc --parent web.psc                   made from this recording

Exit status: 0 intact and closed, 1 damaged, not closed or contradicting, 2 not readable at all. \
\"Not closed\" is what a killed recorder leaves behind: every complete frame is there. The hash chain \
shows consistency; it cannot show that nobody rewrote the whole file. --key and --checkpoint can, as \
long as the secret key, or the statements, were out of that person's reach.")]
pub(crate) struct VerifyArgs {
    /// Recording to check
    pub(crate) input: PathBuf,
    /// Public key that must have signed it, and its end: PEM file or 64 hex digits (repeat for several)
    #[arg(short, long, value_name = "PUB")]
    pub(crate) key: Vec<String>,
    /// Statements about it that were kept elsewhere (repeat for several)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// Recording (or capture) that it must have been made from (repeat for several)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) parent: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
}

/// `psc keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc keygen -o recorder.key          writes recorder.key (secret) and recorder.key.pub
  psc keygen --redaction -o redact.key

A signing key is an Ed25519 key in PEM: `openssl genpkey -algorithm ed25519` makes one as well.")]
pub(crate) struct KeygenArgs {
    /// File to write the secret key to; the public one goes to FILE.pub
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Make a key for `psc redact` instead: 64 hex digits, no public part
    #[arg(long)]
    pub(crate) redaction: bool,
}

/// `psc sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc sign web.psc --key recorder.key -o web.checkpoint    about the recording as it is now
  psc sign web.checkpoint --key notary.key -o both.checkpoint   countersign what others signed
  psc sign web.psc                                         unsigned, for another tool to sign

The statement is a few lines of text; what is signed is all of it above the first `signed` line. \
`psc verify --checkpoint` compares a recording with it. A damaged recording is not signed.")]
pub(crate) struct SignArgs {
    /// Recording, or file of statements to countersign
    pub(crate) input: PathBuf,
    /// Secret key to sign with (repeat for several)
    #[arg(short, long, value_name = "KEYFILE")]
    pub(crate) key: Vec<PathBuf>,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
