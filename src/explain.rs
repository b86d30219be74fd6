//! `psc guard explain`: what the detectors found, in sentences that cite their evidence.

use std::time::Duration;

use psc_replay::guarder::Detectors;
use psc_replay::guarder::explain::{self, Addresses, Document};
use psc_replay::view::detect::DetectView;
use psc_replay::view::explain::ExplainView;
use psc_reports::text;

use crate::Verdict;
use crate::cli::explain::ExplainArgs;
use crate::llm::Endpoint;
use crate::output::Console;
use crate::replay::print;
use crate::source::replay;

/// `psc guard explain`.
pub(crate) fn run(args: &ExplainArgs, console: Console) -> anyhow::Result<Verdict> {
    let endpoint = args
        .llm_endpoint
        .as_deref()
        .map(|url| {
            let timeout = Duration::from_secs(args.llm_timeout.into());
            Endpoint::new(url, &args.llm_model, timeout, args.llm_host.as_deref())
        })
        .transpose()?;
    let mut detectors = Detectors::new();
    let replayed = replay(&args.input, &args.select, console, &mut [&mut detectors])?;
    let detected = detectors.finish(&replayed.manifest, &replayed.pass);
    let view = match &endpoint {
        None => explain::by_templates(&detected, String::new()),
        Some(endpoint) => {
            let addresses =
                if args.llm_share_addresses { Addresses::Shared } else { Addresses::Labels };
            asked(&detected, endpoint, addresses).unwrap_or_else(|why| {
                console.note(&format!("the model did not explain: {why}; the templates do"));
                explain::by_templates(&detected, why)
            })
        }
    };
    print(console, args.format, args.output.as_deref(), "explain", &view, text::explain)?;
    Ok(if detected.findings.is_empty() { Verdict::Clean } else { Verdict::Findings })
}

fn asked(
    detected: &DetectView,
    endpoint: &Endpoint,
    addresses: Addresses,
) -> Result<ExplainView, String> {
    let document = Document::of(detected, addresses);
    let json = serde_json::to_string(&document).map_err(|error| error.to_string())?;
    let answer = endpoint
        .ask(explain::INSTRUCTIONS, &json, &explain::answer_schema())
        .map_err(|error| format!("{error:#}"))?;
    explain::by_model(detected, &document, &answer, endpoint.name())
}
