//! The one network client of the offline tool: an OpenAI-compatible endpoint that explains.
//!
//! Loopback unless the host is named, no redirects, no proxy from the environment, bounded time and bytes.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use psc_replay::guarder::answer;
use serde_json::{Value, json};
use ureq::http::Uri;

/// Bytes of an answer that are read.
const ANSWER: u64 = 1 << 20;

/// Where and how to ask.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    url: String,
    model: String,
    timeout: Duration,
    key: Option<String>,
}

impl Endpoint {
    /// Checks that the endpoint may be asked: a loopback address, or the host that `named` names.
    pub(crate) fn new(
        url: &str,
        model: &str,
        timeout: Duration,
        named: Option<&str>,
    ) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--llm-endpoint {url} is not a URL"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        ensure!(
            matches!(uri.scheme_str(), Some("http" | "https")) && !host.is_empty(),
            "--llm-endpoint {url} must begin with http:// or https:// and name a host"
        );
        ensure!(
            loopback || named == Some(host.as_str()),
            "--llm-endpoint {url} is not on this machine; evidence would leave it. If that is meant, \
             name the host as well: --llm-host {host}"
        );
        ensure!(
            loopback || uri.scheme_str() == Some("https"),
            "--llm-endpoint {url} is not on this machine and not encrypted; use https://"
        );
        let base = url.trim_end_matches('/');
        let url = if base.ends_with("/chat/completions") {
            base.to_owned()
        } else if base.ends_with("/v1") {
            format!("{base}/chat/completions")
        } else {
            format!("{base}/v1/chat/completions")
        };
        let key = std::env::var("PSC_LLM_KEY").ok().filter(|key| !key.is_empty());
        Ok(Self { url, model: model.to_owned(), timeout, key })
    }

    /// Model and endpoint, for the reader.
    pub(crate) fn name(&self) -> String {
        format!("{} at {}", self.model, self.url)
    }

    /// Asks once; the model's words.
    pub(crate) fn ask(
        &self,
        instructions: &str,
        document: &str,
        schema: &Value,
    ) -> anyhow::Result<String> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("psc/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent: ureq::Agent = config.into();
        let body = json!({
            "model": self.model,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": document},
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "explanation", "strict": true, "schema": schema},
            },
        });
        let mut request =
            agent.post(&self.url).header("accept", "application/json, text/event-stream");
        if let Some(key) = &self.key {
            request = request.header("authorization", &format!("Bearer {key}"));
        }
        let sent = request.header("content-type", "application/json").send(body.to_string());
        let mut response = sent.with_context(|| format!("cannot ask {}", self.url))?;
        let status = response.status();
        // What an error page says is the server's, and nothing to repeat.
        ensure!(
            !status.is_redirection(),
            "{} answered {status}: redirects are not followed",
            self.url
        );
        ensure!(status.is_success(), "{} answered {status}", self.url);
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let streamed = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut text = String::new();
        response
            .body_mut()
            .as_reader()
            .take(ANSWER + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("the answer of {} broke off or is no text", self.url))?;
        ensure!(text.len() as u64 <= ANSWER, "{} answered more than {ANSWER} bytes", self.url);
        let words =
            if streamed { answer::from_stream(&text) } else { answer::from_document(&text) };
        match words {
            Some(words) if !words.is_empty() => Ok(words),
            _ => bail!("{} answered with no message of a model", self.url),
        }
    }
}
