//! Chain of custody: who recorded, what a file was made from, and signed statements about it.
//!
//! The hash chain of an archive shows that it agrees with itself, which anyone can bring about who
//! writes it anew. What shows more is a [`Statement`] signed by a key that the writer of a forgery
//! does not have, or one kept where he cannot reach it.

mod key;
mod statement;

pub use key::{PublicKey, SecretKey};
pub use statement::{Signed, Statement, StatementState};

use serde::{Deserialize, Serialize};

/// The circumstances of a recording (RFC 3227, section 2: who, when, with what, how far off the
/// clock was). Probes, loss and the clock's offset are in the manifest and in facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Acquisition {
    /// User that ran the recorder, by name, and the one behind `sudo` where there was one.
    pub user: String,
    /// Start, nanoseconds since the Unix epoch, as text: it exceeds what JSON numbers keep exactly.
    pub started_epoch_ns: String,
    /// `uname -v`: build of the kernel.
    pub kernel_version: String,
    /// `/proc/sys/kernel/random/boot_id`: joins files of one uptime, tells reboots.
    pub boot_id: String,
    /// Clock source of the kernel (`tsc`, `kvm-clock`); empty when it could not be read.
    pub clock_source: String,
    /// Whether the kernel's clock was synchronised (`adjtimex`); `None` when it could not be asked.
    pub clock_synchronised: Option<bool>,
    /// Maximum error of the clock by the kernel's own account, microseconds.
    pub clock_max_error_us: Option<u64>,
    /// BLAKE3 of the program that recorded; empty when it could not be read.
    pub program_blake3: String,
    /// The file before this one when the recorder rotates: one that was taken away leaves a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<ParentFile>,
}

/// One thing that was done to make a file out of another: an entry of the custody log.
///
/// It has no time and no user: the same input and options give the same file, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// `import`, `slice`, `recover`, `redact`, `merge`, `export`.
    pub verb: String,
    /// What it was told to do, without names of files and without keys.
    pub options: String,
    /// psc version that did it.
    pub psc_version: String,
    /// Recordings it was made from; a capture has a hash and no recording.
    pub parents: Vec<ParentFile>,
}

/// What a [`Step`] was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParentFile {
    /// Recording id, 32 hex digits; empty for a capture.
    pub recording: String,
    /// Hash of its last frame (of its first when it was read from a stream), 64 hex digits. For a
    /// capture, BLAKE3 of the file.
    pub hash: String,
}

impl Step {
    /// A step of this version of psc.
    pub fn new(verb: &str, options: impl Into<String>, parents: Vec<ParentFile>) -> Self {
        Self {
            verb: verb.to_owned(),
            options: options.into(),
            psc_version: env!("CARGO_PKG_VERSION").to_owned(),
            parents,
        }
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `N` bytes from hex digits; `None` for anything else.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(out)
}
