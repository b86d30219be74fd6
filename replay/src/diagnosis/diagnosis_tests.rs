use super::*;

#[test]
fn every_rule_is_told_apart_and_says_everything() {
    let all = catalogue();
    assert!(all.len() >= 49, "{} rules", all.len());
    let mut ids: Vec<&str> = all.iter().map(|rule| rule.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "an id is used twice");
    for rule in &all {
        let texts = [&rule.looks_at, &rule.cause, &rule.silent_on];
        assert!(texts.iter().all(|text| text.len() > 8), "{}: {texts:?}", rule.id);
        assert!(["high", "medium", "low"].contains(&rule.severity.as_str()), "{}", rule.id);
        assert!(!rule.references.is_empty(), "{} has no reference", rule.id);
    }
}
