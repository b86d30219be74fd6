//! What is signed: a few lines of text that say which recording had which hash at which frame.

use std::fmt::{self, Write as _};

use super::{PublicKey, SecretKey, hex, unhex};
use crate::archive::{Hash, RecordingId};

/// First line of a statement.
const FIRST: &str = "psc checkpoint 1";
/// Most statements and signatures read from one file: far more than anyone makes.
const MOST: usize = 1 << 16;

/// "This recording had this hash at this frame."
///
/// The hash of a frame covers the frame and, through the chain, all before it. The text form is
/// what is signed, byte for byte, up to the first `signed` line, so that any tool can countersign
/// it (`ssh-keygen -Y sign`, `openssl pkeyutl -sign -rawin`, a time stamping service).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The recording.
    pub recording: RecordingId,
    /// Number of the frame.
    pub frame: u64,
    /// Hash of the frame.
    pub hash: Hash,
    /// Latest event before it, nanoseconds on the recording's clock; 0 when there is none.
    pub at: u64,
    /// What comes after the frame.
    pub state: StatementState,
    /// Who signed.
    pub signatures: Vec<Signed>,
}

/// What comes after the frame of a [`Statement`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementState {
    /// More frames may.
    Open,
    /// Nothing: it is the end frame.
    Closed,
    /// The end frame with this end fact, as JSON. Stands inside the end frame itself.
    Ending(String),
}

/// A signature under a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// By whom.
    pub key: PublicKey,
    /// Over [`Statement::message`].
    pub signature: [u8; 64],
}

impl Statement {
    /// The text that is signed.
    pub fn message(&self) -> String {
        let state = match &self.state {
            StatementState::Open => "open",
            StatementState::Closed => "closed",
            StatementState::Ending(end) => &format!("ending {end}"),
        };
        format!(
            "{FIRST}\nrecording {}\nframe {}\nhash {}\nat {}\nstate {state}\n",
            self.recording,
            self.frame,
            hex(&self.hash),
            self.at
        )
    }

    /// Adds a signature; one of the same key is replaced.
    pub fn sign(&mut self, key: &SecretKey) {
        let signed = Signed { key: key.public(), signature: key.sign(self.message().as_bytes()) };
        self.signatures.retain(|other| other.key != signed.key);
        self.signatures.push(signed);
    }

    /// Whether `key` signed this.
    pub fn signed_by(&self, key: PublicKey) -> bool {
        let message = self.message();
        self.signatures
            .iter()
            .any(|signed| signed.key == key && key.signed(message.as_bytes(), &signed.signature))
    }

    /// Reads a file of statements, a blank line between them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut statements = Vec::new();
        let mut lines =
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
        while let Some((row, line)) = lines.next() {
            if line.trim_end() != FIRST {
                return Err(format!("line {}: a statement begins with `{FIRST}`", row + 1));
            }
            let mut field = |name: &str| -> Result<String, String> {
                let expected =
                    || format!("line {}: the line `{name} …` is missing after it", row + 1);
                let (_, line) = lines.next().ok_or_else(expected)?;
                let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
                value.map(|value| value.trim_end().to_owned()).ok_or_else(expected)
            };
            let bad = |name: &str| format!("line {}: its `{name}` cannot be read", row + 1);
            let recording = unhex(&field("recording")?).ok_or_else(|| bad("recording"))?;
            let frame = field("frame")?.parse().map_err(|_| bad("frame"))?;
            let hash = unhex(&field("hash")?).ok_or_else(|| bad("hash"))?;
            let at = field("at")?.parse().map_err(|_| bad("at"))?;
            let state = match field("state")?.as_str() {
                "open" => StatementState::Open,
                "closed" => StatementState::Closed,
                other => match other.strip_prefix("ending ") {
                    Some(end) => StatementState::Ending(end.to_owned()),
                    None => return Err(bad("state")),
                },
            };
            let mut statement = Self {
                recording: RecordingId(recording),
                frame,
                hash,
                at,
                state,
                signatures: Vec::new(),
            };
            while let Some((row, line)) = lines.next_if(|(_, line)| line.starts_with("signed ")) {
                let mut words = line.split_whitespace().skip(1);
                let key = words.next().and_then(PublicKey::from_hex);
                let signature = words.next().and_then(unhex);
                let (Some(key), Some(signature)) = (key, signature) else {
                    return Err(format!("line {}: a signature is `signed KEY SIGNATURE`", row + 1));
                };
                statement.signatures.push(Signed { key, signature });
            }
            statements.push(statement);
            if statements.len() > MOST {
                return Err(format!("more than {MOST} statements in one file"));
            }
        }
        if statements.is_empty() {
            return Err(format!("no statement in it; one begins with `{FIRST}`"));
        }
        Ok(statements)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.message();
        for signed in &self.signatures {
            let _ = writeln!(text, "signed {} {}", signed.key, hex(&signed.signature));
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(state: StatementState) -> Statement {
        Statement {
            recording: RecordingId::derived(&[b"x"]),
            frame: 7,
            hash: [9; 32],
            at: 12,
            state,
            signatures: Vec::new(),
        }
    }

    #[test]
    fn a_signed_statement_reads_back_and_no_line_of_it_can_change() {
        let keys = [SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32])];
        let ending = StatementState::Ending("{\"reason\":\"x\"}".to_owned());
        for state in [StatementState::Open, StatementState::Closed, ending] {
            let mut made = statement(state);
            keys.iter().chain(&keys).for_each(|key| made.sign(key));
            assert_eq!(made.signatures.len(), 2, "a second signature of a key replaces the first");
            let text = format!("{made}\n{made}");
            let read = Statement::parse_all(&text).unwrap();
            assert_eq!(read, [made.clone(), made.clone()]);
            assert!(keys.iter().all(|key| read[0].signed_by(key.public())));
            for (from, to) in [
                ("frame 7", "frame 8"),
                ("at 12", "at 13"),
                ("hash 09", "hash 08"),
                ("state ", "state ending "),
            ] {
                let changed = made.to_string().replacen(from, to, 1);
                let read = Statement::parse_all(&changed).unwrap();
                assert!(!read[0].signed_by(keys[0].public()), "{from}");
            }
        }
        assert!(!statement(StatementState::Open).signed_by(keys[0].public()));
    }

    #[test]
    fn what_is_no_statement_is_refused_by_line() {
        let good = statement(StatementState::Open).to_string();
        for (text, expected) in [
            (String::new(), "no statement"),
            ("hello".to_owned(), "line 1"),
            (good.replace("frame 7", "frame x"), "`frame`"),
            (good.replace("at 12\n", ""), "`at …`"),
            (good.replace("open", "perhaps"), "`state`"),
            (format!("{good}signed ab cd\n"), "line 7"),
        ] {
            let error = Statement::parse_all(&text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
