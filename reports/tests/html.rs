//! The page: nothing hostile gets out of its text, nothing is loaded or run but what the policy
//! names, links lead somewhere, structure is sound, and size has a bound.

mod fixtures;

use std::collections::BTreeSet;

use psc_replay::view::analyze::AnalyzeView;
use psc_replay::view::detect::DetectView;
use psc_replay::view::locate::LocateView;
use psc_replay::view::trace::TraceView;
use psc_reports::html;

fn page(
    trace: &TraceView,
    analyze: &AnalyzeView,
    locate: &LocateView,
    detect: &DetectView,
) -> String {
    let mut out = String::new();
    html::report(trace, analyze, locate, detect, &mut out).expect("a string takes everything");
    out
}

fn sample() -> String {
    page(&fixtures::trace(), &fixtures::analyze(), &fixtures::locate(), &fixtures::detect())
}

/// One tag: its name, and attributes with their quoted values still escaped.
struct Tag<'a> {
    name: &'a str,
    closing: bool,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Tag<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// Tags outside of `style` and `script`, whose text is skipped. Strict where browsers are lenient:
/// every `<` must open a tag and every attribute value must be quoted.
fn tags(page: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let closing = rest.starts_with('/');
        if closing {
            rest = &rest[1..];
        }
        let end = rest.find(|ch: char| ch.is_whitespace() || ch == '>' || ch == '/').unwrap();
        let name = &rest[..end];
        assert!(
            !name.is_empty() && name.chars().all(|ch| ch.is_ascii_alphanumeric()),
            "not a tag: <{}",
            &rest[..rest.len().min(40)]
        );
        rest = &rest[end..];
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            if let Some(after) = rest.strip_prefix("/>") {
                rest = after;
                break;
            }
            let end = rest.find(|ch: char| ch == '=' || ch == '>' || ch.is_whitespace()).unwrap();
            let attribute = &rest[..end];
            rest = &rest[end..];
            let mut value = "";
            if let Some(after) = rest.strip_prefix("=\"") {
                let close = after.find('"').expect("a closing quote");
                value = &after[..close];
                rest = &after[close + 1..];
            } else {
                assert!(!rest.starts_with('='), "unquoted value of {attribute}");
            }
            attributes.push((attribute, value));
        }
        if !closing && (name == "style" || name == "script") {
            let close = rest.find(&format!("</{name}>")).expect("the end of a raw element");
            rest = &rest[close..];
        }
        tags.push(Tag { name, closing, attributes });
    }
    tags
}

/// What every page must be, whatever is in it.
fn check(page: &str) {
    let tags = tags(page);
    let mut open: Vec<&str> = Vec::new();
    let mut ids = BTreeSet::new();
    for tag in &tags {
        let void = ["meta", "input", "br"].contains(&tag.name);
        // Marks of a figure close themselves.
        let mark = ["rect", "line", "path", "circle", "polygon", "polyline"].contains(&tag.name);
        if tag.closing {
            assert_eq!(open.pop(), Some(tag.name));
        } else if !void && !mark {
            open.push(tag.name);
        }
        for (name, value) in &tag.attributes {
            assert!(!name.starts_with("on"), "handler {name}");
            assert!(*name != "style", "a style attribute, which the policy refuses");
            if ["href", "src", "action", "data", "poster", "xlink:href"].contains(name) {
                assert!(value.starts_with('#'), "{name}={value} leaves the page");
            }
        }
        if let Some(id) = tag.get("id") {
            assert!(ids.insert(id), "id {id} twice");
        }
    }
    assert!(open.is_empty(), "{open:?} left open");

    for tag in &tags {
        for name in ["aria-labelledby", "for", "data-table"] {
            if let Some(id) = tag.get(name) {
                assert!(ids.contains(id), "{name}={id} leads nowhere");
            }
        }
        if let Some(to) = tag.get("href") {
            let time = to.starts_with("#t=");
            assert!(time || ids.contains(&to[1..]), "{to} leads nowhere");
        }
        match tag.name {
            "th" if !tag.closing => assert!(tag.get("scope").is_some(), "th without scope"),
            "svg" if !tag.closing => {
                assert!(tag.get("role").is_some() && tag.get("aria-label").is_some());
            }
            _ => {}
        }
    }
    // Headings go down one level at a time.
    let mut level = 0;
    for tag in tags.iter().filter(|tag| !tag.closing) {
        if let Some(next) = tag.name.strip_prefix('h').and_then(|rest| rest.parse::<u32>().ok()) {
            assert!(next <= level + 1, "h{next} after h{level}");
            level = next;
        }
    }
    let count = |name| tags.iter().filter(|tag| tag.name == name && !tag.closing).count();
    for (name, number) in [("h1", 1), ("main", 1), ("nav", 1), ("script", 1), ("style", 1)] {
        assert_eq!(count(name), number, "<{name}>");
    }
    assert_eq!(count("table"), count("caption"));

    let policy = tags
        .iter()
        .find(|tag| tag.get("http-equiv") == Some("Content-Security-Policy"))
        .and_then(|tag| tag.get("content"))
        .expect("a policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn page_is_sound() {
    check(&sample());
}

#[test]
fn page_is_deterministic() {
    assert_eq!(sample(), sample());
}

#[test]
fn empty_views_make_a_page() {
    let page = page(
        &TraceView::default(),
        &AnalyzeView::default(),
        &LocateView::default(),
        &DetectView::default(),
    );
    check(&page);
    assert!(page.contains("No drop by the kernel was observed."));
    assert!(page.contains("completeness not recorded"));
}

#[test]
fn first_screen_says_what_how_sure_and_what_first() {
    let page = sample();
    let summary =
        &page[page.find("id=\"summary\"").unwrap()..page.find("id=\"findings\"").unwrap()];
    for words in [
        "99,214 packet journeys",
        "1,516 packets",
        "NETFILTER_DROP",
        "nf_hook_slow+0xb2",
        "Incomplete recording",
        "lost 120 of 1,284,671 events (0.01\u{a0}%), all on CPU 1",
        "about 97.7\u{a0}% of them right (estimated from 4,248 checks)",
        "href=\"#finding-1\"",
        "href=\"#drop-1\"",
        "href=\"#journey=4211\"",
    ] {
        assert!(summary.contains(words), "{words}");
    }
}

/// Its memory is given back long after it was read: that is none of the time it took.
#[test]
fn the_slow_step_lies_within_the_time_of_the_journey() {
    let mut trace = fixtures::trace();
    let journey = trace.exemplars.iter_mut().find(|it| it.role == "slowest").expect("a slowest");
    let read = journey.steps.len() - 1;
    let mut freed = journey.steps[read].clone();
    freed.at += 60_000_000_000;
    freed.delta_ns = 60_000_000_000;
    freed.probe = "consume_skb".into();
    journey.steps.push(freed);
    let page = page(&trace, &fixtures::analyze(), &fixtures::locate(), &fixtures::detect());
    assert!(!summary(&page).contains("consume_skb"), "{}", summary(&page));
    assert!(page.contains("from first step to its read"));
}

#[test]
fn the_verdict_is_said_once() {
    let mut trace = fixtures::trace();
    trace.provenance.completeness.lost = Some(0);
    trace.provenance.completeness.line = "complete: no event lost".to_owned();
    let page = page(&trace, &fixtures::analyze(), &fixtures::locate(), &fixtures::detect());
    assert!(page.contains("<strong>Complete</strong>: no event lost."));
}

/// Replaces every string of a view by a hostile one, through its JSON, so that no field is
/// forgotten; the words the page branches on are kept.
fn hostile<T: serde::Serialize>(view: &T) -> serde_json::Value {
    fn spoil(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => {
                let kept =
                    ["step", "slowest", "dropped", "delivered", "observed", "high", "softirq"];
                if !kept.contains(&text.as_str()) {
                    fixtures::HOSTILE.clone_into(text);
                }
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(spoil),
            serde_json::Value::Object(map) => map.values_mut().for_each(spoil),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(view).unwrap();
    spoil(&mut value);
    value
}

#[test]
fn hostile_strings_stay_text() {
    let (trace, analyze, locate, detect) = fixtures::spoiled(fixtures::HOSTILE);
    // The hand-written spoiling must reach every string that the JSON way reaches.
    assert_eq!(serde_json::to_value(&trace).unwrap(), hostile(&fixtures::trace()));
    assert_eq!(serde_json::to_value(&analyze).unwrap(), hostile(&fixtures::analyze()));
    assert_eq!(serde_json::to_value(&locate).unwrap(), hostile(&fixtures::locate()));
    assert_eq!(serde_json::to_value(&detect).unwrap(), hostile(&fixtures::detect()));
    let page = page(&trace, &analyze, &locate, &detect);
    check(&page);
    assert!(!page.contains("<script>alert"), "a hostile tag got out");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    let acts = |ch: char| {
        ch != '\n'
            && (ch.is_control()
                || matches!(ch, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    let at = page.find(acts);
    assert!(at.is_none(), "{:?}", &page[at.unwrap_or(0).saturating_sub(80)..]);
}

#[test]
fn size_has_a_bound_and_says_what_it_left_out() {
    let (mut trace, mut analyze, mut locate, mut detect) =
        fixtures::spoiled(&format!("{}{}", fixtures::HOSTILE, "<&\u{202e}>".repeat(2_000)));
    fn many<T: Clone>(list: &mut Vec<T>, times: usize) {
        let one = list.clone();
        while list.len() < times {
            list.extend(one.iter().cloned());
        }
    }
    many(&mut trace.exemplars, 400);
    for (index, journey) in trace.exemplars.iter_mut().enumerate() {
        journey.id = index as u64 + 1;
    }
    many(&mut trace.exemplars[0].steps, 1_000);
    many(&mut trace.paths, 400);
    many(&mut trace.graph.nodes, 400);
    many(&mut trace.graph.edges, 400);
    many(&mut analyze.flows, 2_000);
    for (index, flow) in analyze.flows.iter_mut().enumerate() {
        flow.id = index as u64 + 1;
    }
    many(&mut analyze.drops, 400);
    many(&mut analyze.latency, 400);
    many(&mut analyze.counters, 400);
    many(&mut locate.peers, 1_000);
    many(&mut detect.findings, 300);
    for (index, finding) in detect.findings.iter_mut().enumerate() {
        finding.first = index as u64;
    }
    let page = page(&trace, &analyze, &locate, &detect);
    check(&page);
    assert!(page.len() < 10_000_000, "{} bytes", page.len());
    let flows = &page[page.find("id=\"flow-table\"").unwrap()..];
    assert!(flows.contains("rows omitted; rerun with "));
}

/// What stands before the first section after the summary.
fn summary(page: &str) -> &str {
    let from = page.find("id=\"summary\"").expect("a summary");
    &page[from..from + page[from..].find("</section>").expect("its end")]
}

#[test]
fn a_capture_says_nothing_of_what_only_a_kernel_knows() {
    let (mut trace, mut analyze) = (fixtures::trace(), fixtures::analyze());
    trace.provenance.origin = "capture".to_owned();
    analyze.drops.clear();
    let page = page(&trace, &analyze, &fixtures::locate(), &fixtures::detect());
    check(&page);
    let first = summary(&page);
    for wrong in ["through the stack", "delivered", "packets dropped", "probes attached"] {
        assert!(!first.contains(wrong), "{wrong}: {first}");
    }
    assert!(first.contains("captured") && first.contains("a capture does not tell"), "{first}");
    let at = |id: &str| page.find(&format!("<section id=\"{id}\"")).expect("a section");
    assert!(at("flows") < at("path-graph"), "who talked comes first");
}

#[test]
fn commands_in_advice_are_code() {
    let mut detect = fixtures::detect();
    detect.findings[0].advice = "Ask `ss -l <x>`, not ` alone.".to_owned();
    let page1 = page(&fixtures::trace(), &fixtures::analyze(), &fixtures::locate(), &detect);
    assert!(
        page1.contains("Ask `ss -l &lt;x&gt;`, not ` alone."),
        "a backtick without its partner"
    );
    detect.findings[0].advice = "Ask `ss -l <x>`.".to_owned();
    let page2 = page(&fixtures::trace(), &fixtures::analyze(), &fixtures::locate(), &detect);
    assert!(page2.contains("Ask <code>ss -l &lt;x&gt;</code>."));
    check(&page2);
}
