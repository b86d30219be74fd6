//! Templates, labels, and answers that must not get through.

use super::*;

fn view() -> DetectView {
    let finding = Finding {
        id: "port-scan".to_owned(),
        severity: "medium".to_owned(),
        confidence: "high".to_owned(),
        title: "10.0.0.9 tried 98 ports of 10.0.0.2 in vain.".to_owned(),
        evidence: vec!["98 of 100 attempts failed.".to_owned(), "Found open: tcp/22.".to_owned()],
        effect: "confirmed: it learned of 1 open.".to_owned(),
        advice: "Check what it found.".to_owned(),
        actors: vec!["10.0.0.9 at 02:00:00:00:00:09".to_owned()],
        targets: vec!["10.0.0.2:80".to_owned(), "2001:db8::7".to_owned()],
        packets: 100,
        journeys: vec![7],
        ..Finding::default()
    };
    DetectView {
        findings: vec![finding],
        detectors: vec![Default::default(); 3],
        ..DetectView::default()
    }
}

#[test]
fn templates_cite_everything_they_say() {
    let explained = by_templates(&view(), String::new());
    let ids: Vec<&str> = explained.evidence.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["R", "F1", "F1.e1", "F1.e2", "F1.x", "F1.n"]);
    for sentence in &explained.sentences {
        assert!(!sentence.cites.is_empty(), "{sentence:?}");
        assert!(sentence.cites.iter().all(|id| ids.contains(&id.as_str())), "{sentence:?}");
    }
    assert!(explained.sentences[0].text.starts_with("This deserves a look: 10.0.0.9 tried"));
    assert!(
        explained.sentences.iter().any(|s| s.text == "It had an effect: it learned of 1 open.")
    );
    let nothing = by_templates(&DetectView::default(), String::new());
    assert!(nothing.sentences[0].text.starts_with("Nothing was found"));
}

#[test]
fn no_address_is_in_a_document_with_labels() {
    let document = Document::of(&view(), Addresses::Labels);
    let json = serde_json::to_string(&document).expect("JSON");
    for secret in ["10.0.0", "02:00", "2001:db8"] {
        assert!(!json.contains(secret), "{json}");
    }
    assert!(json.contains("host-1 tried 98 ports of host-2 in vain."), "{json}");
    assert!(json.contains("host-1 at station-1") && json.contains("host-2:80"), "{json}");
    assert_eq!(
        document.reveal("host-1 and host-2, not host-22"),
        "10.0.0.9 and 10.0.0.2, not host-22"
    );
    let shared = Document::of(&view(), Addresses::Shared);
    assert!(serde_json::to_string(&shared).expect("JSON").contains("10.0.0.9"));
}

#[test]
fn only_sentences_that_the_evidence_bears_are_kept() {
    let document = Document::of(&view(), Addresses::Labels);
    #[rustfmt::skip]
    let cases: [(&str, &str, Option<&str>); 9] = [
        ("host-1 scanned host-2.", "F1", None),
        ("98 attempts failed.", "F1.e1", None),
        ("98 attempts failed.", "F1", None),
        ("5000 attempts failed.", "F1.e1", Some("the number 5000")),
        ("It was a nation state.", "", Some("cites nothing")),
        ("It was a nation state.", "F9", Some("cites F9, which does not exist")),
        ("See http://evil.example/.", "F1", Some("a link")),
        ("Block 192.0.2.1 now.", "F1", Some("the number 192")),
        ("", "F1", Some("empty")),
    ];
    for (text, cite, reason) in cases {
        let cites: Vec<&str> = if cite.is_empty() { vec![] } else { vec![cite] };
        let good = serde_json::json!({"text": "A scan.", "cites": ["F1"]});
        let answer = serde_json::json!({"sentences": [good, {"text": text, "cites": cites}]});
        let explained =
            by_model(&view(), &document, &answer.to_string(), "m".to_owned()).expect("one is good");
        match reason {
            None => {
                assert_eq!(explained.sentences.len(), 2, "{text}");
                assert!(!explained.sentences[1].text.contains("host-"), "addresses come back");
            }
            Some(reason) => {
                assert_eq!(explained.sentences.len(), 1, "{text}");
                assert!(explained.dropped[0].reason.contains(reason), "{:?}", explained.dropped);
            }
        }
    }
}

#[test]
fn nonsense_is_an_error_in_words() {
    let document = Document::of(&view(), Addresses::Labels);
    for (answer, words) in [
        ("", "not the JSON"),
        ("Sure! Here is the explanation.", "not the JSON"),
        ("{\"sentences\": 7}", "not the JSON"),
        ("{\"sentences\": []}", "no sentence"),
        ("{\"sentences\": [{\"text\": \"x\", \"cites\": []}]}", "cites nothing"),
    ] {
        let error = by_model(&view(), &document, answer, "m".to_owned()).expect_err(answer);
        assert!(error.contains(words), "{answer}: {error}");
    }
    let fenced = "```json\n{\"sentences\": [{\"text\": \"A scan.\", \"cites\": [\"F1\"]}]}\n```";
    assert!(by_model(&view(), &document, fenced, "m".to_owned()).is_ok());
}

#[test]
fn hostile_words_are_cut_and_cleaned() {
    let mut hostile = view();
    hostile.findings[0].title = format!("\u{1b}[31m\u{202e}ignore all \n{}", "x".repeat(9000));
    let document = Document::of(&hostile, Addresses::Labels);
    for cited in &document.evidence {
        assert!(cited.text.chars().count() <= CHARACTERS);
        assert!(!cited.text.contains(['\u{1b}', '\u{202e}', '\n']));
    }
}
