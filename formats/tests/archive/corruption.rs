//! Ten thousand random corruptions: each is detected, and called what it is.

use psc_formats::archive::frame::{HEADER_LEN, MAGIC};
use psc_formats::archive::{Expected, Input, Problem, ProblemKind, State, Writer, verify_against};
use psc_formats::custody::{SecretKey, Statement};
use psc_formats::fact::EndFact;

use crate::made::{batches, facts, id, manifest, plain, with_packet};

/// xorshift64*: the same corruptions in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// A signed recording of some twenty frames, and the statements about it that were kept elsewhere.
fn recording(name: &str, key: &SecretKey) -> (Vec<u8>, Vec<Statement>) {
    let events: Vec<_> = (0..40)
        .map(|n| if n % 3 == 0 { with_packet(10 + n, n, 20) } else { plain(10 + n, n) })
        .collect();
    let mut writer = Writer::derived(Vec::new(), &manifest(), id(name), &[]).unwrap();
    writer.sign_with(key.clone());
    let mut kept = Vec::new();
    for (row, batch) in batches(&events, 5).iter_mut().enumerate() {
        batch.facts = facts(row as u32 * 2, 2);
        writer.append(batch).unwrap();
        writer.flush_frame().unwrap();
        if row % 3 == 2 {
            kept.extend(writer.checkpoint().unwrap());
        }
    }
    let end = EndFact { at: 60, reason: "test".to_owned(), ..EndFact::default() };
    let (bytes, last) = writer.close(end).unwrap();
    kept.push(last);
    (bytes, kept)
}

/// The frames, and the index.
fn pieces(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while bytes[at..].starts_with(&MAGIC) {
        let stored = u32::from_le_bytes(bytes[at + 72..at + 76].try_into().unwrap());
        let next = at + HEADER_LEN + stored as usize;
        frames.push(bytes[at..next].to_vec());
        at = next;
    }
    (frames, bytes[at..].to_vec())
}

fn first(problems: &[Problem], kind: ProblemKind) -> Option<u64> {
    let named = problems.iter().find(|problem| problem.kind == kind)?;
    named.frames.as_ref().map(|frames| frames.start)
}

#[test]
fn ten_thousand_random_corruptions_are_detected_and_named() {
    let key = SecretKey::from_seed([7; 32]);
    let (whole, kept) = recording("one", &key);
    let (frames, index) = pieces(&whole);
    let (others, _) = pieces(&recording("two", &key).0);
    let signed = Expected { keys: vec![key.public()], statements: kept };
    let plain = Expected::default();
    let verify = |bytes: &[u8], expected: &Expected| {
        verify_against(Input::bytes(bytes.to_vec(), "test"), expected)
    };
    let clean = verify(&whole, &signed).unwrap();
    assert_eq!((clean.state, &clean.problems[..]), (State::Closed, &[][..]));
    assert!(clean.signed[0].sealed && clean.signed[0].expected);

    let mut random = Random(0x5eed);
    let join = |frames: &[Vec<u8>]| [frames.concat(), index.clone()].concat();
    let mut tally = [0u32; 6];
    for round in 0..10_000 {
        let what = round % 6;
        tally[what] += 1;
        let mut parts = frames.clone();
        let at = random.below(parts.len());
        // What was done, and the kind of problem and the frame that must be named for it.
        let (bytes, kind, frame) = match what {
            0 => {
                let bit = random.below(frames.concat().len() * 8);
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut left = bit / 8;
                let hit = parts.iter().position(|part| {
                    let inside = left < part.len();
                    left = left.saturating_sub(part.len());
                    inside
                });
                (bytes, ProblemKind::Damaged, hit.unwrap() as u64)
            }
            1 => {
                // Frames cut out of the middle, and the rest moved up.
                let at = random.below(parts.len() - 1);
                let count = 1 + random.below((parts.len() - 1 - at).min(3));
                parts.drain(at..at + count);
                (join(&parts), ProblemKind::Missing, at as u64)
            }
            2 => {
                let at = random.below(parts.len() - 1);
                let other = at + 1 + random.below(parts.len() - 1 - at);
                parts.swap(at, other);
                // All that stood between them now come late.
                (
                    join(&parts),
                    ProblemKind::Reordered,
                    if other == at + 1 { at } else { at + 1 } as u64,
                )
            }
            3 => {
                let theirs = others[random.below(others.len())].clone();
                let number = u64::from_le_bytes(theirs[24..32].try_into().unwrap());
                parts.insert(at.max(1), theirs);
                (join(&parts), ProblemKind::Foreign, number)
            }
            4 => {
                let again = at + 1 + random.below(parts.len() - at);
                parts.insert(again, parts[at].clone());
                (join(&parts), ProblemKind::Duplicated, at as u64)
            }
            _ => {
                // Cut anywhere: alone it looks like a killed recorder's; what was signed knows more.
                let cut = 1 + random.below(frames.concat().len() - 1);
                let bytes = whole[..cut].to_vec();
                match verify(&bytes, &plain) {
                    Err(_) => assert!(cut < frames[0].len(), "cut at {cut}"),
                    Ok(report) => {
                        let mut ends = 0;
                        let complete = parts.iter().take_while(|part| {
                            ends += part.len();
                            ends <= cut
                        });
                        assert_eq!(report.frames, complete.count() as u64, "cut at {cut}");
                        assert_eq!(report.state, State::Unclosed, "cut at {cut}");
                        let report = verify(&bytes, &signed).unwrap();
                        assert_eq!(report.state, State::Contradicting, "cut at {cut}");
                    }
                }
                continue;
            }
        };
        let report = verify(&bytes, &plain).unwrap();
        assert_eq!(report.state, State::Damaged, "{what} {at}: {:?}", report.problems);
        let named = first(&report.problems, kind);
        if what == 0 && named.is_none() {
            // The damage took the header: which frame it was is known from the one that is missing.
            let missing = first(&report.problems, ProblemKind::Missing);
            let offset = frames[..frame as usize].iter().map(Vec::len).sum::<usize>() as u64;
            assert!(report.problems[0].kind == ProblemKind::Damaged);
            assert_eq!(report.problems[0].offset, offset);
            let last = frame as usize == frames.len() - 1;
            assert!(missing == Some(frame) || last, "{:?}", report.problems);
        } else {
            assert_eq!(named, Some(frame), "{what} {at}: {:?}", report.problems);
        }
    }
    assert_eq!(tally.iter().sum::<u32>(), 10_000);
}

#[test]
fn who_rewrites_a_recording_contradicts_what_was_signed() {
    let (key, thief) = (SecretKey::from_seed([7; 32]), SecretKey::from_seed([8; 32]));
    let (whole, kept) = recording("one", &key);
    let expected = |keys: &[&SecretKey], statements: &[Statement]| Expected {
        keys: keys.iter().map(|key| key.public()).collect(),
        statements: statements.to_vec(),
    };
    let state = |bytes: &[u8], expected: &Expected| {
        let report = verify_against(Input::bytes(bytes.to_vec(), "test"), expected).unwrap();
        (report.state, report.problems.first().map(|problem| problem.text.clone()))
    };
    // The same recording made again, one event different or not at all, by somebody without the key.
    let forged = |signer: Option<&SecretKey>| {
        let mut writer = Writer::derived(Vec::new(), &manifest(), id("one"), &[]).unwrap();
        if let Some(signer) = signer {
            writer.sign_with(signer.clone());
        }
        for batch in batches(&[plain(1, 0), plain(2, 1)], 1) {
            writer.append(&batch).unwrap();
            writer.checkpoint().unwrap();
        }
        writer.finish(EndFact::default()).unwrap()
    };
    let mut countersigned = kept.clone();
    for statement in &mut countersigned {
        statement.sign(&thief);
    }
    let mut changed = kept.clone();
    changed[0].frame -= 1;
    let (frames, _) = pieces(&whole);
    let unclosed = frames[..frames.len() - 1].concat();
    // Cut behind the first checkpoint's frame, and closed by whoever cut it.
    let (open, closed) = (State::Unclosed, State::Closed);
    let no = State::Contradicting;
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, Expected, State, &str); 11] = [
        ("as signed",            whole.clone(),        expected(&[&key], &kept),              closed, ""),
        ("no key asked for",     whole.clone(),        expected(&[], &[]),                    closed, ""),
        ("another key",          whole.clone(),        expected(&[&thief], &[]),              no, "nothing in it is signed"),
        ("countersigned",        whole.clone(),        expected(&[&key, &thief], &countersigned), closed, ""),
        ("statement changed",    whole.clone(),        expected(&[], &changed),               no, "is not what key"),
        ("killed recorder",      unclosed.clone(),     expected(&[&key], &kept[..1]),         open, ""),
        ("cut, statement kept",  unclosed,             expected(&[&key], &kept),              no, "cut off"),
        ("forged, unsigned",     forged(None),         expected(&[&key], &[]),                no, "nothing in it is signed"),
        ("forged, own key",      forged(Some(&thief)), expected(&[&key], &[]),                no, "nothing in it is signed"),
        ("forged, statement",    forged(None),         expected(&[], &kept[..1]),             no, ""),
        ("forged, nothing kept", forged(None),         expected(&[], &[]),                    closed, ""),
    ];
    for (name, bytes, expected, wanted, text) in cases {
        let (state, problem) = state(&bytes, &expected);
        assert_eq!(state, wanted, "{name}: {problem:?}");
        assert!(problem.unwrap_or_default().contains(text), "{name}");
    }
}

#[test]
fn a_recording_cut_behind_a_checkpoint_and_closed_anew_is_not_sealed() {
    let key = SecretKey::from_seed([7; 32]);
    let mut writer = Writer::derived(Vec::new(), &manifest(), id("one"), &[]).unwrap();
    writer.sign_with(key.clone());
    writer.append(&batches(&[plain(1, 0)], 1)[0]).unwrap();
    writer.checkpoint().unwrap();
    let signed = writer.finish(EndFact::default()).unwrap();
    let (mut frames, _) = pieces(&signed);
    // An end of somebody else's making, chained to the last frame that was signed.
    let mut header = frames.pop().unwrap();
    let mut unsigned = Writer::derived(Vec::new(), &manifest(), id("one"), &[]).unwrap();
    unsigned.append(&batches(&[plain(1, 0)], 1)[0]).unwrap();
    let (ends, _) = pieces(&unsigned.finish(EndFact::default()).unwrap());
    let end = ends.last().unwrap();
    let resealed = psc_formats::archive::frame::Header {
        schema: 1,
        kind: 5,
        flags: 0,
        count: 1,
        number: frames.len() as u64,
        recording: id("one"),
        first: u64::MAX,
        last: 0,
        watermark: 0,
        stored: (end.len() - HEADER_LEN) as u32,
        raw: u32::from_le_bytes(end[76..80].try_into().unwrap()),
        previous: header[80..112].try_into().unwrap(),
        hash: [0; 32],
    }
    .seal(&end[HEADER_LEN..]);
    header = [&resealed[..], &end[HEADER_LEN..]].concat();
    frames.push(header);
    let bytes = frames.concat();
    let expected = Expected { keys: vec![key.public()], ..Expected::default() };
    let alone = verify_against(Input::bytes(bytes.clone(), "test"), &Expected::default()).unwrap();
    assert_eq!((alone.state, &alone.problems[..]), (State::Closed, &[][..]));
    let report = verify_against(Input::bytes(bytes, "test"), &expected).unwrap();
    assert_eq!(report.state, State::Contradicting);
    assert!(report.problems[0].text.contains("may be anybody's"), "{:?}", report.problems);
}
