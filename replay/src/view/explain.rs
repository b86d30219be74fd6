//! The guarder's explanation: sentences that cite what was found.

use serde::Serialize;

use super::Provenance;

/// What `psc guard explain` shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExplainView {
    /// What this is.
    pub provenance: Provenance,
    /// Who wrote the sentences: `templates`, or the model and its endpoint.
    pub by: String,
    /// Whether addresses went to the endpoint as they are; `false` for templates.
    pub shared_addresses: bool,
    /// The explanation, in order. Every sentence cites.
    pub sentences: Vec<Sentence>,
    /// What the sentences cite.
    pub evidence: Vec<Cited>,
    /// Sentences of the model that were left out, each with the reason.
    pub dropped: Vec<DroppedSentence>,
    /// Why the templates spoke instead of the model that was asked; empty when they did not.
    pub fallback: String,
}

/// One sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// The words.
    pub text: String,
    /// Ids of [`Cited`] that it rests on; never empty.
    pub cites: Vec<String>,
}

/// One piece of evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cited {
    /// `F1` a finding, `F1.e2` its second sentence of evidence, `F1.x` its effect, `R` the recording.
    pub id: String,
    /// What it says.
    pub text: String,
    /// Journeys to look at.
    pub journeys: Vec<u64>,
}

/// A sentence that was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DroppedSentence {
    /// The words, cut to 200 characters.
    pub text: String,
    /// Why.
    pub reason: String,
}
