//! Connections from hand-made segments.

use super::*;

/// Keeps every note.
#[derive(Debug, Default)]
struct All(Vec<Note>);

impl Notes for All {
    fn note(&mut self, note: Note) {
        self.0.push(note);
    }
}

fn take(
    connection: &mut TcpConnection,
    at: u64,
    from: usize,
    tcp: &Tcp,
    payload: u32,
    ip_id: Option<u16>,
) -> (Outcome, Vec<Note>) {
    let mut notes = All::default();
    let segment = Segment { at, from, tcp, payload, wire: 1, ip_id, packet: 1, journey: 0 };
    let outcome = connection.segment(&segment, &mut notes);
    (outcome, notes.0)
}

/// `o` and `r` say who sends; then flags; then `+n` payload bytes. Sequence numbers follow.
fn play(script: &str) -> TcpConnection {
    let mut connection = TcpConnection::default();
    let mut seq = [100_u32, 900];
    for (index, word) in script.split_whitespace().enumerate() {
        let (who, rest) = word.split_at(1);
        let from = usize::from(who == "r");
        let (flags, payload) = rest.split_once('+').unwrap_or((rest, "0"));
        let payload: u32 = payload.parse().expect("payload");
        let bits = flags.chars().fold(0, |bits, c| {
            bits | match c {
                'S' => SYN,
                'A' => ACK,
                'F' => FIN,
                'R' => RST,
                other => panic!("flag {other}"),
            }
        });
        let tcp = segment(bits, seq[from], seq[1 - from]);
        take(&mut connection, index as u64 * 1_000_000, from, &tcp, payload, None);
        seq[from] += payload + u32::from(bits & (SYN | FIN) != 0);
    }
    connection
}

fn segment(flags: u16, seq: u32, ack: u32) -> Tcp {
    Tcp {
        sport: 1,
        dport: 2,
        seq,
        ack: if flags & ACK != 0 { ack } else { 0 },
        flags,
        window: 1000,
        header_len: 20,
        checksum: 0,
        options: psc_formats::packet::TcpOptions::default(),
    }
}

#[test]
fn conn_state_is_zeeks() {
    #[rustfmt::skip]
    let cases = [
        ("S0",     "oS"),
        ("S0",     "oS oS oS"),
        ("S1",     "oS rSA oA"),
        ("S1",     "oS rSA oA oA+10 rA+20 oA"),
        ("SF",     "oS rSA oA oA+10 rA+20 oFA rFA oA"),
        ("SF",     "oS rSA oA rFA oFA rA"),
        ("SF",     "oS rSA oA oFA rFA oA oR"),
        ("REJ",    "oS rRA"),
        ("S2",     "oS rSA oA oFA rA"),
        ("S3",     "oS rSA oA rFA oA"),
        ("RSTO",   "oS rSA oR"),
        ("RSTO",   "oS rSA oA oA+10 oRA"),
        ("RSTR",   "oS rSA oA oA+10 rRA"),
        ("RSTOS0", "oS oR"),
        ("RSTRH",  "rSA rR"),
        ("SH",     "oS oF"),
        ("SHR",    "rSA rFA"),
        ("OTH",    "oA+10 rA+5"),
        ("OTH",    "rSA"),
    ];
    for (state, script) in cases {
        assert_eq!(play(script).conn_state(), state, "{script}");
    }
}

#[test]
fn the_handshake_rtt_is_syn_to_ack_unless_something_was_sent_twice() {
    assert_eq!(play("oS rSA oA").handshake_rtt(), Some(2_000_000));
    assert_eq!(play("oS rSA oA+5").handshake_rtt(), Some(2_000_000));
    assert_eq!(play("oS rSA").handshake_rtt(), None);
    assert_eq!(play("rSA oA").handshake_rtt(), None);
    let mut twice = TcpConnection::default();
    take(&mut twice, 0, 0, &segment(SYN, 10, 0), 0, None);
    take(&mut twice, 1_000_000_000, 0, &segment(SYN, 10, 0), 0, None);
    take(&mut twice, 1_000_500_000, 1, &segment(SYN | ACK, 70, 11), 0, None);
    take(&mut twice, 1_000_600_000, 0, &segment(ACK, 11, 71), 0, None);
    assert_eq!(twice.handshake_rtt(), None);
}

/// What one end sends: (ms, seq, payload, identification, timestamp).
type Sent = (u64, u32, u32, u16, u32);

#[test]
fn a_segment_below_the_highest_is_judged_by_what_is_known() {
    use Rule::*;
    #[rustfmt::skip]
    let cases: &[(&str, &[Sent], Kind, Rule)] = &[
        ("its bytes came 300 ms before",
         &[(0, 100, 10, 0, 0), (300, 100, 10, 0, 0)], Kind::RetransmitTimeout, Timeout),
        ("its bytes came 20 ms before, and nobody asked",
         &[(0, 100, 10, 0, 0), (20, 100, 10, 0, 0)], Kind::RetransmitUnclear, TooSoon),
        ("the same packet at once",
         &[(0, 100, 10, 7, 0), (0, 100, 10, 7, 0)], Kind::CapturedTwice, SameIdentification),
        ("fills a hole at once, no other sign",
         &[(0, 100, 10, 0, 0), (1, 120, 10, 0, 0), (2, 110, 10, 0, 0)], Kind::OutOfOrder, SoonerThanRoundTrip),
        ("fills a hole late, no other sign",
         &[(0, 100, 10, 0, 0), (1, 120, 10, 0, 0), (400, 110, 10, 0, 0)], Kind::RetransmitTimeout, Timeout),
        ("fills a hole late, but was sent before what overtook it",
         &[(0, 100, 10, 0, 50), (1, 120, 10, 0, 52), (90, 110, 10, 0, 51)], Kind::OutOfOrder, OlderTimestamp),
        ("fills a hole at once, but was sent after",
         &[(0, 100, 10, 0, 50), (1, 120, 10, 0, 52), (2, 110, 10, 0, 60)], Kind::RetransmitUnclear, NewerTimestamp),
        ("identifications count up, and this one belongs before",
         &[(0, 90, 10, 1, 0), (0, 100, 10, 2, 0), (0, 110, 10, 3, 0), (0, 120, 10, 4, 0),
           (1, 140, 10, 6, 0), (90, 130, 10, 5, 0)], Kind::OutOfOrder, OlderIdentification),
        ("one byte just before",
         &[(0, 100, 10, 0, 0), (900, 109, 1, 0, 0)], Kind::KeepAlive, BelowNext),
    ];
    for (name, sent, kind, rule) in cases {
        let mut connection = TcpConnection::default();
        let mut last = Vec::new();
        for &(ms, seq, len, id, stamp) in *sent {
            let mut tcp = segment(ACK, seq, 1);
            tcp.options.timestamp = (stamp > 0).then_some((stamp, 0));
            let id = (id > 0).then_some(id);
            last = take(&mut connection, ms * 1_000_000, 0, &tcp, len, id).1;
        }
        let got: Vec<_> = last.iter().map(|note| (note.kind, note.rule)).collect();
        assert_eq!(got, [(*kind, *rule)], "{name}");
    }
}

/// A connection with SACK and a round trip of 10 ms that sends 100..1100 in ten segments, of which
/// the receiver misses the one from 300 and says so.
fn recovering(sack: bool, duplicates: u32) -> TcpConnection {
    let mut connection = TcpConnection::default();
    let mut syn = segment(SYN, 99, 0);
    syn.options.sack_permitted = true;
    take(&mut connection, 0, 0, &syn, 0, None);
    syn = segment(SYN | ACK, 899, 100);
    syn.options.sack_permitted = true;
    take(&mut connection, 10_000_000, 1, &syn, 0, None);
    for n in 0..10 {
        take(
            &mut connection,
            10_000_000 + n,
            0,
            &segment(ACK, 100 + n as u32 * 100, 900),
            100,
            None,
        );
    }
    take(&mut connection, 20_000_000, 1, &segment(ACK, 900, 300), 0, None);
    for n in 1..=duplicates {
        let mut ack = segment(ACK, 900, 300);
        if sack {
            ack.options.sack[0] = Some((400, 400 + n * 100));
        }
        take(&mut connection, 20_000_000 + u64::from(n), 1, &ack, 0, None);
    }
    connection
}

#[test]
fn what_asks_for_a_retransmission_is_its_reason() {
    #[rustfmt::skip]
    let cases = [
        // SACK, dup ACKs, ms, seq, kind,                      rule
        (false, 3,     21,  300,  Kind::RetransmitFast,    Rule::DuplicateAcks),
        (true,  1,     21,  300,  Kind::RetransmitFast,    Rule::SackAbove),
        (false, 1,     21,  300,  Kind::RetransmitUnclear, Rule::TooSoon),
        (false, 3,     600, 300,  Kind::RetransmitTimeout, Rule::Timeout),
        (false, 0,     60,  1000, Kind::RetransmitTail,    Rule::TailProbe),
        (false, 0,     600, 1000, Kind::RetransmitTimeout, Rule::Timeout),
        (false, 0,     60,  200,  Kind::RetransmitSpurious, Rule::AckedBefore),
    ];
    for (sack, duplicates, ms, seq, kind, rule) in cases {
        let mut connection = recovering(sack, duplicates);
        let again = segment(ACK, seq, 900);
        let (outcome, notes) = take(&mut connection, ms * 1_000_000, 0, &again, 100, None);
        let got: Vec<_> = notes.iter().map(|note| (note.kind, note.rule)).collect();
        assert_eq!((outcome, got), (Outcome::Retransmitted, vec![(kind, rule)]), "{ms} ms, {seq}");
    }
    // Within the recovery the next hole is asked for by the ACK that stops there.
    let mut connection = recovering(false, 3);
    take(&mut connection, 21_000_000, 0, &segment(ACK, 300, 900), 100, None);
    take(&mut connection, 31_000_000, 1, &segment(ACK, 900, 500), 0, None);
    let (_, notes) = take(&mut connection, 31_100_000, 0, &segment(ACK, 500, 900), 100, None);
    assert_eq!((notes[0].kind, notes[0].rule), (Kind::RetransmitFast, Rule::PartialAck));
    // The kernel's word outweighs that it came too soon to have been sent again.
    let mut connection = TcpConnection::default();
    take(&mut connection, 0, 0, &segment(ACK, 100, 1), 10, None);
    take(&mut connection, 1, 0, &segment(ACK, 120, 1), 10, None);
    connection.kernel_resends(0, 2);
    let (outcome, notes) = take(&mut connection, 3, 0, &segment(ACK, 110, 1), 10, None);
    assert_eq!((outcome, notes[0].rule), (Outcome::Retransmitted, Rule::Kernel));
}

/// (who says, from, seq, ack, payload, window, judgements).
type Said = (&'static str, usize, u32, u32, u32, u16, &'static [Kind]);

#[test]
fn windows_probes_and_repetitions() {
    #[rustfmt::skip]
    let script: &[Said] = &[
        // who says,     from seq  ack  len win    notes
        ("data",           0, 100, 900, 50, 1000,  &[]),
        ("ack",            1, 900, 150, 0,  50,    &[]),
        ("fills",          0, 150, 900, 50, 1000,  &[Kind::WindowFull]),
        ("closed",         1, 900, 200, 0,  0,     &[Kind::ZeroWindow]),
        ("probe",          0, 200, 900, 1,  1000,  &[Kind::WindowProbe]),
        ("still closed",   1, 900, 200, 0,  0,     &[Kind::ZeroWindow, Kind::WindowProbeAck]),
        ("opens",          1, 900, 200, 0,  500,   &[Kind::WindowUpdate]),
        ("again",          1, 900, 200, 0,  500,   &[Kind::DuplicateAck]),
        ("keep-alive",     0, 199, 900, 0,  1000,  &[Kind::KeepAlive]),
        ("answer",         1, 900, 200, 0,  500,   &[Kind::KeepAliveAck]),
        ("hole",           0, 300, 900, 10, 1000,  &[Kind::PreviousNotCaptured]),
        ("acks the hole",  1, 900, 310, 0,  500,   &[Kind::AckedUnseen]),
        ("acks beyond",    1, 900, 400, 0,  500,   &[Kind::AckedUnseen]),
    ];
    let mut connection = TcpConnection::default();
    take(&mut connection, 0, 0, &segment(SYN, 99, 0), 0, None);
    take(&mut connection, 1, 1, &segment(SYN | ACK, 899, 100), 0, None);
    for (index, &(name, from, seq, ack, len, window, kinds)) in script.iter().enumerate() {
        let mut tcp = segment(ACK, seq, ack);
        tcp.window = window;
        let (_, notes) = take(&mut connection, 10 + index as u64, from, &tcp, len, None);
        let got: Vec<_> = notes.iter().map(|note| note.kind).collect();
        assert_eq!(got, kinds, "{name}");
    }
    let sheet = connection.sheet();
    assert_eq!(sheet.responder.zero_window_ns, 3, "from closed to opens");
    assert_eq!(sheet.originator.missing_bytes, 100 + 90);
    assert_eq!(sheet.responder.min_window, Some(0));
}

#[test]
fn round_trips_leave_out_what_is_ambiguous() {
    let ms = 1_000_000;
    let mut connection = TcpConnection::default();
    take(&mut connection, 0, 0, &segment(ACK, 100, 1), 10, None);
    take(&mut connection, 4 * ms, 1, &segment(ACK, 1, 110), 0, None);
    // Sent twice: which one does the ACK answer?
    take(&mut connection, 10 * ms, 0, &segment(ACK, 110, 1), 10, None);
    take(&mut connection, 300 * ms, 0, &segment(ACK, 110, 1), 10, None);
    take(&mut connection, 304 * ms, 1, &segment(ACK, 1, 120), 0, None);
    // Held back by one that was sent again after it.
    take(&mut connection, 400 * ms, 0, &segment(ACK, 120, 1), 10, None);
    take(&mut connection, 401 * ms, 0, &segment(ACK, 130, 1), 10, None);
    take(&mut connection, 700 * ms, 0, &segment(ACK, 120, 1), 10, None);
    take(&mut connection, 704 * ms, 1, &segment(ACK, 1, 140), 0, None);
    // Two at once, acknowledged together: one sample, of the last.
    take(&mut connection, 800 * ms, 0, &segment(ACK, 140, 1), 10, None);
    take(&mut connection, 801 * ms, 0, &segment(ACK, 150, 1), 10, None);
    take(&mut connection, 807 * ms, 1, &segment(ACK, 1, 160), 0, None);
    let end = connection.sheet().originator;
    assert_eq!((end.rtt.samples, end.rtt.min, end.rtt.max), (2, 4 * ms, 6 * ms));
    assert_eq!(end.rtt_ambiguous, 2);
    assert_eq!((end.unique_bytes, end.resent_bytes, end.resent_packets), (60, 20, 2));
}

#[test]
fn a_round_trip_ends_where_the_ack_arrives() {
    let mut connection = TcpConnection::default();
    let data = segment(ACK, 100, 1);
    let mut notes = All::default();
    let mut sent = Segment {
        at: 0,
        from: 0,
        tcp: &data,
        payload: 10,
        wire: 1,
        ip_id: None,
        packet: 0,
        journey: 5,
    };
    connection.segment(&sent, &mut notes);
    let ack = segment(ACK, 1, 110);
    sent = Segment { at: 1000, from: 1, tcp: &ack, payload: 0, journey: 6, ..sent };
    connection.segment(&sent, &mut notes);
    // The queue on the way back held it for 20 ms.
    connection.arrived(1, 6, 20_001_000);
    assert_eq!(connection.sheet().originator.rtt.max, 20_001_000);
}

#[test]
fn histories_are_zeeks() {
    #[rustfmt::skip]
    let cases = [
        ("ShADadFf",  "oS rSA oA oA+10 rA rA+20 oFA rFA oA"),
        ("SS",        "oS oS"), // with another number each
        ("Sr",        "oS rRA"),
        ("^hADd",     "rSA oA oA+5 rA+5"),
        ("ShAR",      "oS rSA oA oR"),
        ("ShAFfR",    "oS rSA oA oFA rFA oR"),
    ];
    for (history, script) in cases {
        assert_eq!(play(script).sheet().history, history, "{script}");
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut connection = TcpConnection::default();
    let start = u32::MAX - 4;
    for (seq, outcome) in [
        (start, Outcome::New),
        (start.wrapping_add(10), Outcome::New),
        (start, Outcome::Retransmitted),
        (start.wrapping_add(20), Outcome::New),
    ] {
        assert_eq!(take(&mut connection, 0, 0, &segment(ACK, seq, 1), 10, None).0, outcome);
    }
}

#[test]
fn a_syn_with_another_number_is_another_connection() {
    let connection = play("oS rSA oA oFA rFA");
    assert!(!connection.is_new_connection(0, 100));
    assert!(connection.is_new_connection(0, 77));
    assert!(connection.is_new_connection(1, 77));
    assert!(!play("oS").is_new_connection(1, 77), "simultaneous open");
    assert!(play("oA+5").is_new_connection(0, 100), "midstream traffic before it");
    assert!(!play("rSA").is_new_connection(0, 99), "its answer came first");
}
