//! The words of a model in what an OpenAI-compatible server sends: one document, or events as they come.

use serde_json::Value;

/// The message in a whole answer; `None` when there is none.
pub fn from_document(text: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(text).ok()?;
    Some(answer.pointer("/choices/0/message/content")?.as_str()?.to_owned())
}

/// The message in server-sent events, each with a piece of it; `None` when it is not whole.
pub fn from_stream(text: &str) -> Option<String> {
    let mut words = String::new();
    for line in text.lines() {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        if data == "[DONE]" {
            return Some(words);
        }
        let piece: Value = serde_json::from_str(data).ok()?;
        if let Some(content) = piece.pointer("/choices/0/delta/content").and_then(Value::as_str) {
            words.push_str(content);
        }
    }
    // Without its end the answer is not whole.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_message_is_one() {
        let piece = |text: &str| {
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
        };
        let done = "data: [DONE]\n";
        #[rustfmt::skip]
        let cases = [
            ("a document",         from_document(r#"{"choices":[{"message":{"content":"hi"}}]}"#), Some("hi")),
            ("no choice",          from_document(r#"{"choices":[]}"#),                             None),
            ("content of a kind",  from_document(r#"{"choices":[{"message":{"content":7}}]}"#),    None),
            ("no JSON",            from_document("<html>"),                                        None),
            ("two pieces",         from_stream(&(piece("h") + ": keep-alive\n" + &piece("i") + done)), Some("hi")),
            ("broken off",         from_stream(&piece("hi")),                                      None),
            ("a piece that is no JSON", from_stream(&format!("data: {{\n{done}")),                 None),
            ("nothing",            from_stream(""),                                                None),
        ];
        for (name, got, expected) in cases {
            assert_eq!(got.as_deref(), expected, "{name}");
        }
    }
}
