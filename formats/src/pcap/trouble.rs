//! What is wrong with a capture, counted by kind with the place of the first.

use std::io;

use crate::fact::{Fact, NoticeFact, Severity};

/// What can be wrong with a capture and still be read around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The file ends inside a record or block.
    EndsInside,
    /// Bytes that are no record or block, stepped over to the next.
    Skipped,
    /// Bytes that are no record or block, and none was found behind them.
    NothingBehind,
    /// A block whose second length field differs from its first.
    LengthsDiffer,
    /// A block too short for its kind.
    ShortBlock,
    /// A packet of an interface that was not described.
    UnknownInterface,
    /// More interfaces than device ids.
    TooManyInterfaces,
    /// A packet claiming more stored bytes than its block has.
    ClaimsMore,
    /// A time outside 1970 to 2554.
    TimeRange,
    /// A packet without a time.
    NoTime,
    /// Packet comments, which events have no place for.
    Comments,
}

impl Trouble {
    fn describe(self) -> (Severity, &'static str) {
        match self {
            Self::EndsInside => (
                Severity::DataLoss,
                "the capture ends inside a packet or block; what there was of it is kept",
            ),
            Self::Skipped => (
                Severity::Error,
                "damaged bytes in the capture were skipped up to the next sound packet or block",
            ),
            Self::NothingBehind => {
                (Severity::Error, "the capture is damaged and nothing readable follows")
            }
            Self::LengthsDiffer => (
                Severity::Error,
                "a block's two lengths differ; the one that other blocks follow was believed",
            ),
            Self::ShortBlock => (Severity::Error, "a block is too short for its kind; skipped"),
            Self::UnknownInterface => (
                Severity::Error,
                "a packet names an interface that the capture does not describe; skipped",
            ),
            Self::TooManyInterfaces => {
                (Severity::Error, "more than 65,535 interfaces; packets of the others are skipped")
            }
            Self::ClaimsMore => (
                Severity::Error,
                "a packet claims more stored bytes than its block has; those there are kept",
            ),
            Self::TimeRange => (
                Severity::Error,
                "a packet's time is outside 1970 to 2554; replaced by the nearest in range",
            ),
            Self::NoTime => (
                Severity::DataLoss,
                "a packet has no time (simple packet block); given that of the one before it",
            ),
            Self::Comments => {
                (Severity::Info, "packet comments in the capture were not taken over")
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Troubles {
    /// (what, how many, offset of the first), in the order they first came up.
    seen: Vec<(Trouble, u64, u64)>,
    /// Where the last one was: one place has one trouble, and the first one named is the cause.
    last: Option<u64>,
    notices: Vec<NoticeFact>,
}

impl Troubles {
    #[cold]
    pub(super) fn note(&mut self, trouble: Trouble, offset: u64) {
        if self.last.replace(offset) == Some(offset) {
            return;
        }
        match self.seen.iter_mut().find(|(other, ..)| *other == trouble) {
            Some((_, count, _)) => *count += 1,
            None => self.seen.push((trouble, 1, offset)),
        }
    }

    /// Reading failed at `offset`, a damaged compressed stream for example.
    pub(super) fn unreadable(&mut self, offset: u64, error: &io::Error) {
        self.notices.push(NoticeFact {
            at: 0,
            severity: Severity::DataLoss,
            text: format!("the capture cannot be read beyond byte {offset}: {error}"),
            count: 1,
        });
    }

    /// `count` packets came too late to be put in order.
    pub(super) fn late(&mut self, count: u64) {
        if count > 0 {
            self.notices.push(NoticeFact {
                at: 0,
                severity: Severity::Info,
                text: format!(
                    "packets of the capture are out of time order by more than {} packets; \
                     sort it first (reordercap) if order matters",
                    super::DISORDER
                ),
                count,
            });
        }
    }

    /// Something worth knowing about the capture, from text inside it: made safe to print here.
    pub(super) fn remark(&mut self, text: String) {
        // A hostile file may have any number of sections.
        const MOST: usize = 8;
        if let Some(notice) = self.notices.iter_mut().find(|notice| notice.text == text) {
            notice.count += 1;
        } else if self.notices.len() < MOST {
            let severity = Severity::Info;
            self.notices.push(NoticeFact { at: 0, severity, text, count: 1 });
        }
    }

    /// Moves all notices out, first come first.
    pub(super) fn drain_facts(&mut self, facts: &mut Vec<Fact>) {
        for (trouble, count, offset) in self.seen.drain(..) {
            let (severity, text) = trouble.describe();
            let text = format!("{text} (first at byte {offset})");
            facts.push(Fact::Notice(NoticeFact { at: 0, severity, text, count }));
        }
        facts.extend(self.notices.drain(..).map(Fact::Notice));
    }
}
