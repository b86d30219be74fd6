//! Statements and gates as tables: what holds, what does not, what is a mistake.

use super::*;
use crate::view::diff::{DiffJourneys, DiffView, DropChange, StepChange, StepEnd};
use crate::view::trace::Latency;

fn wrong(statement: Statement) -> String {
    let file = Expectations { expect: vec![statement] };
    Expectant::new(&file, &[]).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_mistake_is_named_with_what_would_be_right() {
    let none = Statement::default;
    let cases = [
        (none(), "it says none; give one of never"),
        (
            Statement { never: Some("tcp".to_owned()), loss: Some("0".to_owned()), ..none() },
            "never and loss",
        ),
        (Statement { never: Some("tcp.prot == 1".to_owned()), ..none() }, "nearest is tcp.port"),
        (
            Statement { never: Some("tcp".to_owned()), at_most: Some(1), ..none() },
            "`at_most` means nothing",
        ),
        (Statement { p99: Some("1".to_owned()), ..none() }, "is no bound of a time"),
        (Statement { loss: Some("few".to_owned()), ..none() }, "is no bound of a share"),
        (
            Statement {
                p99: Some("<1ms".to_owned()),
                from: Some("tcp.payload contains \"x\"".to_owned()),
                ..none()
            },
            "bytes",
        ),
    ];
    for (statement, expected) in cases {
        let said = wrong(statement);
        assert!(said.starts_with("statement 1") && said.contains(expected), "{said}");
    }
    assert!(Expectant::new(&Expectations::default(), &[]).is_err(), "a file that gates nothing");
}

#[test]
fn bounds_are_exact() {
    for (bound, value, holds) in [
        ("<1ms", 999_999, true),
        ("<1ms", 1_000_000, false),
        ("<=1ms", 1_000_000, true),
        ("1.5us", 1_500, true),
        ("1.5us", 1_501, false),
        ("<2s", 1_999_999_999, true),
    ] {
        assert_eq!(Bound::duration(bound).unwrap().holds(value), holds, "{value} {bound}");
    }
    for (bound, part, all, holds) in [
        ("0", 0, 10, true),
        ("0", 1, 1_000_000_000, false),
        ("<0.1%", 1, 1000, false),
        ("<=0.1%", 1, 1000, true),
        ("<1%", 0, 0, true),
    ] {
        assert_eq!(Bound::share(bound).unwrap().holds_of(part, all), holds, "{part}/{all} {bound}");
    }
}

fn diff() -> DiffView {
    let latency = |p99| Latency { count: 1000, p50: 100, p99, max: p99 * 2, ..Latency::default() };
    let end = |probe: &str| StepEnd { probe: probe.to_owned(), ..StepEnd::default() };
    DiffView {
        journeys: DiffJourneys { base: 1000, new: 2000, base_dropped: 10, new_dropped: 15 },
        significant: 2,
        drops: vec![DropChange {
            change: "new".to_owned(),
            reason: "NO_SOCKET".to_owned(),
            new: 5,
            significant: true,
            example: Some(7),
            ..DropChange::default()
        }],
        steps: vec![StepChange {
            from: end("a"),
            to: end("b"),
            base: latency(1_000),
            new: latency(1_200),
            ..StepChange::default()
        }],
        steps_same: 3,
        ..DiffView::default()
    }
}

#[test]
fn gates_hold_or_say_by_how_much_they_do_not() {
    let cases = [
        ("p99<+10%", false),
        ("p99<+25%", true),
        ("p99<+20%", false),
        ("p99<=+20%", true),
        ("p99<2us", true),
        ("p99 < 1.1us", false),
        ("p50<=base", true),
        ("max<+10%", false),
        ("drops<=base", false),
        ("drops<=base+50%", true),
        ("drop_rate<=base", true),
        ("new_drops==0", false),
        ("new_paths==0", true),
        ("journeys>=base-10%", true),
        ("changes<=2", true),
    ];
    for (gate, holds) in cases {
        let view = check_gates(&[gate.parse().unwrap()], &diff());
        let check = &view.checks[0];
        assert_eq!(check.holds, holds, "{gate}: {}", check.found);
        assert_eq!(view.failed, u64::from(!holds));
        assert_eq!(check.evidence.is_empty(), holds, "{gate}: {:?}", check.evidence);
    }
    let empty = check_gates(&["p99<+10%".parse().unwrap()], &DiffView::default());
    assert!(!empty.checks[0].holds, "nothing compared is nothing shown");
}

#[test]
fn a_gate_that_makes_no_sense_says_what_would() {
    for (gate, expected) in [
        ("p99", "no operator"),
        ("p98<1ms", "no metric `p98`"),
        ("p99<10", "a time has a unit"),
        ("p99<1h", "its unit"),
        ("drops<=+x%", "percentage"),
        ("drop_rate<5", "compared with base"),
        ("", "no operator"),
    ] {
        let error = gate.parse::<Gate>().unwrap_err();
        assert!(error.contains(expected) && error.contains("drops<=base"), "{gate}: {error}");
    }
}
