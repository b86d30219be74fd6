//! What a recording, and statements kept elsewhere, claim about its frames; and whether it is so.

use rustc_hash::FxHashMap;

use super::frame::{Hash, RecordingId};
use super::problem::{Problem, ProblemKind};
use crate::custody::{PublicKey, Signed, Statement, StatementState, unhex};
use crate::fact::CheckpointFact;

/// What a recording is held against, beside itself.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Keys that must have signed it.
    pub keys: Vec<PublicKey>,
    /// Statements about it that were kept elsewhere.
    pub statements: Vec<Statement>,
}

/// How far a key's signatures reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBy {
    /// The key.
    pub key: PublicKey,
    /// Right signatures, inside the recording and in statements about it.
    pub signatures: u64,
    /// All frames up to this one are covered.
    pub frame: u64,
    /// The end is covered too: nothing can have been cut off or added.
    pub sealed: bool,
    /// Whether the key is one that was expected: any other key may be anybody's.
    pub expected: bool,
}

/// A statement found in a frame.
pub(super) struct Claim {
    /// Frame that it stands in, and where that is.
    number: u64,
    offset: u64,
    fact: CheckpointFact,
    state: StatementState,
}

impl Claim {
    pub(super) fn new(
        number: u64,
        offset: u64,
        fact: CheckpointFact,
        ending: Option<String>,
    ) -> Self {
        let state = ending.map_or(StatementState::Open, StatementState::Ending);
        Self { number, offset, fact, state }
    }

    /// The signature with its statement; `None` when the fields make none.
    fn statement(&self) -> Option<Statement> {
        Some(Statement {
            recording: RecordingId(unhex(&self.fact.recording)?),
            frame: self.fact.frame,
            hash: unhex(&self.fact.hash)?,
            at: self.fact.at,
            state: self.state.clone(),
            signatures: vec![Signed {
                key: PublicKey::from_hex(&self.fact.key)?,
                signature: unhex(&self.fact.signature)?,
            }],
        })
    }
}

/// What is known of a recording's frames when claims are judged.
pub(super) struct Known {
    pub(super) recording: RecordingId,
    /// Hash of each sound frame by its number, and where it is.
    pub(super) frames: FxHashMap<u64, (u64, Hash)>,
    /// Number of the end frame.
    pub(super) end: Option<u64>,
}

/// Judges everything that was claimed about the frames; pushes what is not so.
pub(super) fn judge(
    known: &Known,
    claims: &[Claim],
    expected: &Expected,
    problems: &mut Vec<Problem>,
) -> Vec<SignedBy> {
    let mut judge = Judge { known, expected, signed: Vec::new(), problems };
    for claim in claims {
        judge.inside(claim);
    }
    for (row, statement) in expected.statements.iter().enumerate() {
        judge.outside(row, statement);
    }
    judge.require();
    judge.signed
}

struct Judge<'a> {
    known: &'a Known,
    expected: &'a Expected,
    signed: Vec<SignedBy>,
    problems: &'a mut Vec<Problem>,
}

impl Judge<'_> {
    fn say(&mut self, offset: u64, frame: Option<u64>, text: String) {
        self.problems.push(Problem::new(ProblemKind::Contradicts, offset, frame, text));
    }

    fn inside(&mut self, claim: &Claim) {
        let (number, offset) = (claim.number, claim.offset);
        let Some(statement) = claim.statement() else {
            let text = format!("the checkpoint in frame {number} makes no sense");
            return self.say(offset, Some(number), text);
        };
        if statement.recording != self.known.recording {
            // Of the recording that this one was made from: its frames are not here.
            return;
        }
        let key = statement.signatures[0].key;
        if !statement.signed_by(key) {
            let text = format!(
                "the checkpoint in frame {number} is not what key {key} signed: it, or the frame, \
                 was changed"
            );
            return self.say(offset, Some(number), text);
        }
        if statement.frame >= number {
            let text = format!(
                "the checkpoint in frame {number} is about frame {}, which was not written yet",
                statement.frame
            );
            return self.say(offset, Some(number), text);
        }
        let sealed = matches!(claim.state, StatementState::Ending(_))
            && statement.frame + 1 == number
            && self.known.end == Some(number);
        if self.holds(&statement, offset, &format!("the checkpoint in frame {number}")) {
            self.note(key, if sealed { number } else { statement.frame }, sealed);
        }
    }

    fn outside(&mut self, row: usize, statement: &Statement) {
        let which = format!("statement {}", row + 1);
        if statement.recording != self.known.recording {
            let text = format!(
                "{which} is about recording {}, and this is {}",
                statement.recording, self.known.recording
            );
            return self.say(0, None, text);
        }
        for signed in &statement.signatures {
            if !statement.signed_by(signed.key) {
                let text = format!("{which} is not what key {} signed", signed.key);
                return self.say(0, None, text);
            }
        }
        if !self.known.frames.contains_key(&statement.frame) {
            let text = format!(
                "frame {} is not here, and {which} says that it was: frames were cut off or \
                 destroyed",
                statement.frame
            );
            return self.say(0, Some(statement.frame), text);
        }
        if !self.holds(statement, 0, &which) {
            return;
        }
        let sealed = match &statement.state {
            StatementState::Open => false,
            StatementState::Closed if self.known.end == Some(statement.frame) => true,
            StatementState::Closed => {
                let text = format!(
                    "{which} says that frame {} is the end, and it is not",
                    statement.frame
                );
                return self.say(0, Some(statement.frame), text);
            }
            StatementState::Ending(_) => {
                let text = format!("{which} is of a kind that stands in recordings only");
                return self.say(0, None, text);
            }
        };
        for signed in &statement.signatures {
            self.note(signed.key, statement.frame, sealed);
        }
    }

    /// Whether the frame is the one that the statement is about; says so when not. One that is not
    /// here says nothing, and is missing or damaged anyway.
    fn holds(&mut self, statement: &Statement, offset: u64, which: &str) -> bool {
        match self.known.frames.get(&statement.frame) {
            Some((_, hash)) if *hash == statement.hash => true,
            Some((at, _)) => {
                let text = format!(
                    "frame {} at byte {at} is not the one that {which} is about: it or one before \
                     it was replaced",
                    statement.frame
                );
                self.say(offset.max(*at), Some(statement.frame), text);
                false
            }
            None => false,
        }
    }

    fn note(&mut self, key: PublicKey, frame: u64, sealed: bool) {
        let row = self.signed.iter().position(|row| row.key == key).unwrap_or_else(|| {
            let expected = self.expected.keys.contains(&key);
            self.signed.push(SignedBy { key, signatures: 0, frame: 0, sealed: false, expected });
            self.signed.len() - 1
        });
        let row = &mut self.signed[row];
        row.signatures += 1;
        row.frame = row.frame.max(frame);
        row.sealed |= sealed;
    }

    /// Every expected key must have signed, and the end too when there is one: else anybody could
    /// have cut the recording behind a checkpoint and closed it himself.
    fn require(&mut self) {
        for key in self.expected.keys.clone() {
            let row = self.signed.iter().find(|row| row.key == key);
            let text = match (row, self.known.end) {
                (None, _) => format!("nothing in it is signed by key {key}"),
                (Some(row), Some(end)) if !row.sealed => format!(
                    "it is closed with frame {end}, and key {key} signed frames 0 to {} only: what \
                     comes after may be anybody's",
                    row.frame
                ),
                _ => continue,
            };
            self.say(0, None, text);
        }
    }
}
