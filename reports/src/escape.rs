//! Hostile strings made harmless and visible.
//!
//! Host names, payload text, command lines, device and task names come from whoever sent the
//! packet or started the process. A terminal obeys escape sequences, a browser obeys tags, and
//! both obey bidirectional overrides that make `exe.txt` out of `txt.exe`. Such characters are
//! shown as `\x1b` or `\u{202e}` instead. This is for reading, not for decoding back: a backslash
//! stays a backslash.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

/// Whether `ch` would act on the display rather than be seen on it: control characters, and
/// everything that takes no cell of its own (bidirectional controls, zero-width joiners, tags,
/// combining marks, which stack without limit).
fn acts_on_display(ch: char) -> bool {
    match ch {
        ' '..='~' => false,
        // Line and paragraph separators; blank cells that pass for a space or for nothing; private
        // use, drawn as anything the font likes.
        '\u{2028}'
        | '\u{2029}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{ffa0}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{f0000}'.. => true,
        _ => ch.width().unwrap_or(0) == 0,
    }
}

fn push_visible(ch: char, out: &mut String) {
    // Writing to a `String` cannot fail.
    let _ = match u32::from(ch) {
        code @ ..=0xff => write!(out, "\\x{code:02x}"),
        code => write!(out, "\\u{{{code:x}}}"),
    };
}

/// Text that a terminal shows and does not obey.
pub fn terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts_on_display) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for ch in text.chars() {
        if acts_on_display(ch) {
            push_visible(ch, &mut out);
        } else {
            out.push(ch);
        }
    }
    Cow::Owned(out)
}

/// Text for HTML and XML, in element content and in quoted attributes alike.
pub fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for ch in text.chars() {
        match ch {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if acts_on_display(ch) => push_visible(ch, &mut out),
            _ => out.push(ch),
        }
    }
    out
}

/// The id of a row about `text`, and the target of links to it: `peer=192.0.2.1`. Whatever is not in an
/// address, a prefix or a code becomes `_`, so it needs no escaping anywhere.
pub(crate) fn anchor(kind: &str, text: &str) -> String {
    let plain = |ch: char| if ch.is_ascii_alphanumeric() || ".:/-".contains(ch) { ch } else { '_' };
    let text: String = text.chars().take(64).map(plain).collect();
    format!("{kind}={text}")
}

/// A JSON document whose strings no terminal obeys. Outside strings JSON has ASCII only, and the
/// serialiser escapes C0, so what is left to do is valid anywhere in the document.
pub(crate) fn json_document(text: &str) -> String {
    let hostile = |ch: char| ch != '\n' && acts_on_display(ch);
    if !text.chars().any(hostile) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 64);
    for ch in text.chars() {
        if hostile(ch) {
            let mut units = [0; 2];
            for unit in ch.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(ch);
        }
    }
    out
}

/// Cells that `ch` takes once it is shown as text.
fn shown(ch: char) -> usize {
    match u32::from(ch) {
        _ if !acts_on_display(ch) => ch.width().unwrap_or(0),
        ..=0xff => 4,
        code => 5 + (code.ilog2() / 4) as usize,
    }
}

/// Cells that `text` takes in a fixed-width font once it is escaped.
pub(crate) fn cells(text: &str) -> usize {
    text.chars().map(shown).sum()
}

/// `text` cut to at most `limit` cells, the cut shown by `…`. Looks no further than that, so that
/// a long string costs no more than what is shown of it.
pub(crate) fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    let mut used = 0;
    // Where to cut when the rest does not fit: one cell is for the `…`.
    let mut keep = 0;
    for (at, ch) in text.char_indices() {
        used += shown(ch);
        if used > limit {
            let mut out = text[..keep].to_owned();
            if limit > 0 {
                out.push('…');
            }
            return Cow::Owned(out);
        }
        if used < limit {
            keep = at + ch.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

/// `text` cut to at most `limit` cells by leaving out its middle.
pub(crate) fn cut_middle(text: &str, limit: usize) -> Cow<'_, str> {
    if cells(text) <= limit || limit < 5 {
        return cut(text, limit);
    }
    let keep = limit - 1;
    let mut tail = 0;
    let mut split = text.len();
    for (at, ch) in text.char_indices().rev() {
        tail += shown(ch);
        if tail > keep / 2 {
            break;
        }
        split = at;
    }
    let end = &text[split..];
    let mut start = cut(text, limit - cells(end)).into_owned();
    start.push_str(end);
    Cow::Owned(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown() {
        let cases = [
            ("plain", "plain"),
            ("grüße 网络", "grüße 网络"),
            ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
            ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
            ("\u{9b}2J", "\\x9b2J"),
            ("txt.\u{202e}exe", "txt.\\u{202e}exe"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("\u{2028}", "\\u{2028}"),
        ];
        for (input, shown) in cases {
            assert_eq!(terminal(input), shown, "{input:?}");
            assert_eq!(markup(input), shown, "{input:?}");
        }
    }

    #[test]
    fn markup_leaves_no_way_out_of_text_or_attribute() {
        assert_eq!(
            markup("<script>alert('1')</script>\" onload=\"&"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=&quot;&amp;"
        );
    }

    #[test]
    fn json_strings_survive_and_are_inert() {
        let text = serde_json::to_string("a\u{9b}\u{202e}\u{e0041}\x1b").unwrap();
        let safe = json_document(&text);
        assert!(safe.is_ascii(), "{safe}");
        let back: String = serde_json::from_str(&safe).unwrap();
        assert_eq!(back, "a\u{9b}\u{202e}\u{e0041}\x1b");
    }

    #[test]
    fn cut_counts_cells_not_bytes() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("网络网络", 5), "网络…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("", 0), "");
        // Nothing hides behind characters without a cell of their own.
        assert_eq!(cut("\u{202e}\u{202e}", 16), "\u{202e}\u{202e}");
        assert_eq!(cut("\u{202e}\u{202e}", 15), "\u{202e}…");
        for ch in ['\x1b', '\u{9b}', '\u{202e}', '\u{e0041}', '\u{300}', 'a', '网'] {
            let shown = terminal(ch.encode_utf8(&mut [0; 4])).into_owned();
            assert_eq!(cells(&shown), cells(&ch.to_string()), "{shown}");
        }
        assert_eq!(cut_middle("2001:db8::1:443", 9), "2001…:443");
        assert_eq!(cut_middle("2001:db8::1:443", 15), "2001:db8::1:443");
    }
}
