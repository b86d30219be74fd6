//! Terminal text from views: as snapshots, at several widths, and under hostile strings.

mod fixtures;

use psc_replay::view::analyze::AnalyzeView;
use psc_replay::view::detect::DetectView;
use psc_replay::view::diff::DiffView;
use psc_replay::view::info::InfoView;
use psc_replay::view::locate::LocateView;
use psc_replay::view::trace::TraceView;
use psc_reports::text::{self, Style};
use unicode_width::UnicodeWidthStr as _;

const PLAIN: Style = Style { color: false, width: 0 };

fn draw(view: &str, style: Style) -> String {
    let mut out = String::new();
    match view {
        "trace" => text::trace(&fixtures::trace(), style, &mut out),
        "analyze" => text::analyze(&fixtures::analyze(), style, &mut out),
        "locate" => text::locate(&fixtures::locate(), style, &mut out),
        "detect" => text::detect(&fixtures::detect(), style, &mut out),
        "diagnose" => text::diagnose(&fixtures::diagnose(), style, &mut out),
        "info" => text::info(&fixtures::info(), style, &mut out),
        "diff" => text::diff(&fixtures::diff(), style, &mut out),
        "rule-check" => text::rule_check(&fixtures::rule_check(), style, &mut out),
        "rule-replay" => text::rule_replay(&fixtures::rule_replay(), style, &mut out),
        "explain" => text::explain(&fixtures::explain(), style, &mut out),
        "suggest" => text::suggest(&fixtures::suggest(), style, &mut out),
        _ => unreachable!("{view}"),
    }
    .expect("a string takes everything");
    out
}

const VIEWS: [&str; 11] = [
    "trace",
    "analyze",
    "locate",
    "detect",
    "diagnose",
    "info",
    "diff",
    "rule-check",
    "rule-replay",
    "explain",
    "suggest",
];

#[test]
fn texts_are_as_reviewed() {
    for view in VIEWS {
        insta::assert_snapshot!(format!("{view}-plain"), draw(view, PLAIN));
        let narrow = Style { color: false, width: 100 };
        insta::assert_snapshot!(format!("{view}-100"), draw(view, narrow));
    }
}

#[test]
fn first_line_says_how_complete() {
    // A rule file is no recording.
    for view in VIEWS.into_iter().filter(|view| *view != "rule-check") {
        for width in [0, 80] {
            let text = draw(view, Style { color: false, width });
            let first = text.lines().next().unwrap_or_default();
            let first = first.strip_prefix("base  ").unwrap_or(first);
            let complete = "lost 120 of 1,284,671 events (0.01 %), all on CPU 1";
            assert_eq!(first.split(';').next(), Some(complete), "{view}");
        }
    }
}

#[test]
fn an_empty_view_is_text_too() {
    let mut out = String::new();
    text::trace(&TraceView::default(), PLAIN, &mut out).unwrap();
    text::analyze(&AnalyzeView::default(), PLAIN, &mut out).unwrap();
    text::locate(&LocateView::default(), PLAIN, &mut out).unwrap();
    text::detect(&DetectView::default(), PLAIN, &mut out).unwrap();
    text::info(&InfoView::default(), PLAIN, &mut out).unwrap();
    assert_eq!(out.matches("completeness not recorded\n").count(), 5, "{out}");
    text::diff(&DiffView::default(), PLAIN, &mut out).unwrap();
    assert_eq!(out.matches("completeness not recorded; ").count(), 2, "{out}");
}

#[test]
fn nothing_reaches_the_terminal_but_what_is_seen() {
    for view in VIEWS {
        let text = draw(view, PLAIN);
        let acts = |ch: char| {
            ch != '\n'
                && (ch.is_control()
                    || matches!(ch, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        };
        assert!(!text.contains(acts), "{view}");
    }
    // The fixtures do carry it: else the test above shows nothing.
    assert!(draw("trace", PLAIN).contains("\\x1b[2J\\u{202e}gpj.exe"));
}

#[test]
fn colour_is_emphasis_only() {
    for view in VIEWS {
        let plain = draw(view, Style { color: false, width: 120 });
        let painted = draw(view, Style { color: true, width: 120 });
        assert_ne!(plain, painted, "{view}");
        let mut stripped = String::new();
        let mut parts = painted.split('\x1b');
        stripped.push_str(parts.next().unwrap_or_default());
        for part in parts {
            stripped.push_str(part.split_once('m').expect("only colours").1);
        }
        assert_eq!(stripped, plain, "{view}");
    }
}

#[test]
fn tables_fit_a_terminal() {
    for view in VIEWS {
        for width in [160, 200] {
            for line in draw(view, Style { color: false, width }).lines() {
                // Words longer than a line stay whole, so that they can be copied.
                let longest = line.split(' ').map(str::width).max().unwrap_or(0);
                assert!(line.width() <= width || longest + 30 > width, "{view} {width}: {line}");
            }
        }
    }
}
