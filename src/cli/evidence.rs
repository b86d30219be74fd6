//! Options of the verbs about evidence: verify, keygen, sign, redact.

use std::path::PathBuf;

use clap::Args;

use super::TextFormat;
use psc_formats::redact::KeptPayload;

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

/// `psc redact`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc keygen --redaction -o redact.key
  psc redact web.psc --key redact.key -o share.psc
  psc redact plant.psc --key redact.key --keep-payload tcp/502=12 -o share.psc

Addresses are mapped so that two share as many leading bits as before, and special-purpose ranges \
within themselves; link-layer addresses, DNS labels and names of hosts, processes and groups are \
replaced one to one; payload is emptied; checksums are right where they were right. Sizes and times \
stay, so analysis says the same, places aside. The same key gives the same mapping in every recording; \
whoever has it can undo that of addresses.")]
pub(crate) struct RedactArgs {
    /// Recording or capture to read, `-` for standard input
    pub(crate) input: PathBuf,
    /// Recording to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// File with the key: 64 hex digits
    #[arg(short, long, value_name = "KEYFILE")]
    pub(crate) key: PathBuf,
    /// Keep the first three bytes of link-layer addresses, which name the vendor
    #[arg(long)]
    pub(crate) keep_vendor: bool,
    /// Keep payload of this port, all or its first bytes (repeat for several)
    #[arg(long, value_name = "tcp|udp/PORT[=BYTES]", value_parser = kept_payload)]
    pub(crate) keep_payload: Vec<KeptPayload>,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Write what was removed to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
}

/// `psc merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  psc merge client.psc server.psc -o both.psc

Times are those of the first recording's clock. A packet that two recordings saw was received after it was sent: that \
bounds how far their clocks are apart, and the bounds are shown and kept as a notice. Between them what the clocks say \
of UTC is taken. A packet that left one host and came to another is joined there.")]
pub(crate) struct MergeArgs {
    /// Recordings, two or more; the first one's clock counts
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Recording to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Output format of the summary
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: TextFormat,
}

fn kept_payload(text: &str) -> Result<KeptPayload, String> {
    let bad = || format!("`{text}` is no payload: write tcp/443, udp/161 or tcp/502=12");
    let (what, bytes) = match text.split_once('=') {
        Some((what, bytes)) => (what, Some(bytes.parse().map_err(|_| bad())?)),
        None => (text, None),
    };
    let (protocol, port) = what.split_once('/').ok_or_else(bad)?;
    let protocol = match protocol {
        "tcp" => 6,
        "udp" => 17,
        _ => return Err(bad()),
    };
    Ok(KeptPayload { protocol, port: port.parse().map_err(|_| bad())?, bytes })
}
