//! What continuous integration systems read, held against what they accept.

use psc_replay::view::Provenance;
use psc_replay::view::check::{Check, CheckView};
use psc_reports::ci;
use serde_json::Value;

fn view() -> CheckView {
    let good = Check {
        name: "SYNs reach TCP".to_owned(),
        statement: "every packet with `tcp` has `x`".to_owned(),
        line: 3,
        holds: true,
        found: "0 of 9 packets do not".to_owned(),
        ..Check::default()
    };
    let bad = Check {
        name: "no drop <\"&'>, :".to_owned(),
        holds: false,
        line: 9,
        found: "1 of 9\u{1b}[31m %".to_owned(),
        evidence: vec!["journey 4: a]]>b\n::error::mine".to_owned()],
        journeys: vec![4],
        ..good.clone()
    };
    CheckView {
        provenance: Provenance {
            source: "run 1.psc".to_owned(),
            host: "web 6.1.0 x86_64".to_owned(),
            start_utc: "2026-11-25T01:41:29.749772867Z".to_owned(),
            ..Provenance::default()
        },
        statements: "ci/expect me.toml".to_owned(),
        checks: vec![good, bad.clone(), Check { line: 0, ..bad }],
        failed: 2,
        ..CheckView::default()
    }
}

/// Elements that psc writes, as both junit-10.xsd of Jenkins and JUnit.xsd of Ant have them: name, parents,
/// attributes that must be (by either), children that must be, in their order (Ant's is a sequence).
type Element<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

const JUNIT: [Element<'static>; 8] = [
    ("testsuites", &[""], &[], &["testsuite"]),
    (
        "testsuite",
        &["testsuites"],
        &[
            "name",
            "package",
            "id",
            "hostname",
            "timestamp",
            "tests",
            "failures",
            "errors",
            "skipped",
            "time",
        ],
        &["properties", "testcase", "system-out", "system-err"],
    ),
    ("properties", &["testsuite"], &[], &["property"]),
    ("property", &["properties"], &["name", "value"], &[]),
    ("testcase", &["testsuite"], &["name", "classname", "time"], &["failure"]),
    ("failure", &["testcase"], &["message", "type"], &[]),
    ("system-out", &["testsuite"], &[], &[]),
    ("system-err", &["testsuite"], &[], &[]),
];

#[test]
fn junit_is_what_the_schemas_of_jenkins_and_ant_allow() {
    let text = ci::junit(&view());
    let document = roxmltree::Document::parse(&text).expect("XML");
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        let (_, parents, attributes, children) =
            JUNIT.iter().find(|element| element.0 == name).unwrap_or_else(|| panic!("<{name}>"));
        let parent = node.parent_element().map_or("", |parent| parent.tag_name().name());
        assert!(parents.contains(&parent), "<{name}> in <{parent}>");
        let mut has: Vec<&str> = node.attributes().map(|attribute| attribute.name()).collect();
        let mut must = attributes.to_vec();
        has.sort_unstable();
        must.sort_unstable();
        assert_eq!(has, must, "attributes of <{name}>");
        let order = node.children().filter(roxmltree::Node::is_element).map(|child| {
            let name = child.tag_name().name();
            children.iter().position(|known| *known == name).unwrap_or_else(|| panic!("<{name}>"))
        });
        assert!(order.is_sorted(), "children of <{name}>");
    }
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    let count = |name| document.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!(suite.attribute("timestamp"), Some("2026-11-25T01:41:29"));
    assert_eq!(suite.attribute("hostname"), Some("web"));
    assert_eq!(suite.attribute("tests"), Some(count("testcase").to_string().as_str()));
    assert_eq!(suite.attribute("failures"), Some(count("failure").to_string().as_str()));
    let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
    assert!(failure.text().unwrap().contains("a]]>b"));
    assert!(!text.contains('\u{1b}'));
}

/// Whether `value` has these members, of these types, and no other: (name, type, required).
fn members(value: &Value, what: &str, members: &[(&str, &str, bool)]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{what} is no object"));
    for (name, kind, required) in members {
        match object.get(*name) {
            None => assert!(!required, "{what} lacks {name}"),
            Some(value) => {
                let is = match value {
                    Value::String(_) => "string",
                    Value::Number(_) => "number",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                    Value::Bool(_) | Value::Null => "other",
                };
                assert_eq!(is, *kind, "{what}.{name}");
            }
        }
    }
    for name in object.keys() {
        assert!(members.iter().any(|member| member.0 == name), "{what} has {name}");
    }
}

#[test]
fn sarif_is_what_version_2_1_0_says() {
    // The parts of the OASIS schema that psc writes: sections 3.13 to 3.30 of the specification.
    let log: Value = serde_json::from_str(&ci::sarif(&view())).expect("JSON");
    members(
        &log,
        "log",
        &[("$schema", "string", false), ("version", "string", true), ("runs", "array", true)],
    );
    assert_eq!(log["version"], "2.1.0");
    for run in log["runs"].as_array().unwrap() {
        members(
            run,
            "run",
            &[
                ("tool", "object", true),
                ("results", "array", false),
                ("columnKind", "string", false),
            ],
        );
        assert!(
            ["utf16CodeUnits", "unicodeCodePoints"].iter().any(|kind| run["columnKind"] == *kind)
        );
        members(&run["tool"], "tool", &[("driver", "object", true)]);
        let driver = &run["tool"]["driver"];
        members(
            driver,
            "driver",
            &[
                ("name", "string", true),
                ("version", "string", false),
                ("informationUri", "string", false),
                ("rules", "array", false),
            ],
        );
        let rules = driver["rules"].as_array().unwrap();
        for rule in rules {
            members(
                rule,
                "rule",
                &[
                    ("id", "string", true),
                    ("name", "string", false),
                    ("shortDescription", "object", false),
                    ("fullDescription", "object", false),
                    ("defaultConfiguration", "object", false),
                ],
            );
            members(&rule["fullDescription"], "message", &[("text", "string", true)]);
        }
        for result in run["results"].as_array().unwrap() {
            members(
                result,
                "result",
                &[
                    ("ruleId", "string", false),
                    ("ruleIndex", "number", false),
                    ("level", "string", false),
                    ("message", "object", true),
                    ("locations", "array", false),
                    ("partialFingerprints", "object", false),
                    ("properties", "object", false),
                ],
            );
            let index = result["ruleIndex"].as_u64().unwrap() as usize;
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(
                ["none", "note", "warning", "error"].iter().any(|level| result["level"] == *level)
            );
            for location in result["locations"].as_array().unwrap() {
                members(location, "location", &[("physicalLocation", "object", false)]);
                let place = &location["physicalLocation"];
                members(
                    place,
                    "place",
                    &[("artifactLocation", "object", false), ("region", "object", false)],
                );
                let uri = place["artifactLocation"]["uri"].as_str().unwrap();
                assert!(!uri.contains(' ') && !uri.contains('\\'), "{uri}");
                if let Some(region) = place.get("region") {
                    assert!(region["startLine"].as_u64().unwrap() >= 1);
                }
            }
        }
        assert_eq!(run["results"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_packet_cannot_write_a_workflow_command() {
    let text = ci::github(&view());
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        assert!(line.starts_with("::error "), "{line}");
        assert_eq!(
            line.matches("::error").count(),
            1 + line.matches("%0A::error").count() + line.matches("- ::error").count(),
            "{line}"
        );
    }
    assert!(text.contains("file=ci/expect me.toml,line=9,title=run 1.psc%3A no drop"), "{text}");
    let good = CheckView { checks: Vec::new(), failed: 0, ..view() };
    assert_eq!(ci::github(&good), "::notice title=run 1.psc::all 0 statements hold\n");
}
