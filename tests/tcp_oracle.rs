//! TCP judgements against tshark and tcptrace, which judge the same captures.
#![allow(missing_docs, reason = "tests")]

mod oracle;

use std::path::{Path, PathBuf};

use oracle::Tally;

/// Captures in a folder and below, in order.
fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).expect("readable folder");
    for path in entries.map(|entry| entry.expect("readable entry").path()) {
        if path.is_dir() {
            found.extend(captures(&path));
        } else if path
            .extension()
            .is_some_and(|ext| ["pcap", "pcapng", "cap", "trace"].iter().any(|known| ext == *known))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Compares the captures of a folder: those in `testdata`, or in the folder that `PSC_ORACLE` names
/// (`cargo xtask oracle DIR` sets it).
#[test]
fn every_difference_has_an_explanation() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/captures");
    let given = std::env::var_os("PSC_ORACLE").map(PathBuf::from);
    let mut tally = Tally::default();
    for capture in captures(given.as_ref().unwrap_or(&own)) {
        if let Err(error) = tally.compare(&capture) {
            eprintln!("{}: {error}", capture.display());
        }
    }
    println!("{}", tally.report());
    if given.is_none() {
        assert!(tally.agreed() > 100, "too little to compare");
        assert_eq!(tally.unexplained(), 0, "see the table above");
    }
}
