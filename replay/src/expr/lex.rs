//! Text to tokens, each with its column.

use super::ExprError;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A field name, a keyword or an unquoted literal.
    Word(&'a str),
    /// A quoted string, quotes and escapes included.
    Quoted(&'a str),
    /// An operator or bracket.
    Sign(&'static str),
}

/// A token and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spanned<'a> {
    pub(super) token: Token<'a>,
    /// Byte offset in the text.
    pub(super) start: usize,
    /// Byte offset past its end.
    pub(super) end: usize,
}

/// Longest first, so that `==` is not two `=`.
const SIGNS: [&str; 17] =
    ["==", "!=", "<=", ">=", "&&", "||", "..", "<", ">", "!", "&", "(", ")", "{", "}", ",", "="];

/// Splits `text` into tokens.
pub(super) fn lex(text: &str) -> Result<Vec<Spanned<'_>>, ExprError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let start = at;
        if next.is_whitespace() {
            at += next.len_utf8();
            continue;
        }
        let token = if next == '"' {
            at = quoted_end(text, start)?;
            Token::Quoted(&text[start..at])
        } else if is_word(next) && !text[at..].starts_with("..") {
            at = word_end(text, start);
            Token::Word(&text[start..at])
        } else if let Some(sign) = SIGNS.iter().find(|sign| text[at..].starts_with(**sign)) {
            at += sign.len();
            Token::Sign(sign)
        } else {
            let end = start + next.len_utf8();
            let hint = if next == '\'' { "; strings take double quotes" } else { "" };
            let what = format!("{} has no meaning here{hint}", next.escape_default());
            return Err(ExprError::new(text, start, end, what));
        };
        tokens.push(Spanned { token, start, end: at });
    }
    Ok(tokens)
}

/// Words hold addresses, prefixes and hardware addresses as well as names.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '/')
}

fn word_end(text: &str, start: usize) -> usize {
    let mut end = start;
    for c in text[start..].chars() {
        // Two dots are a range, wherever they are.
        if !is_word(c) || text[end..].starts_with("..") {
            break;
        }
        end += c.len_utf8();
    }
    end
}

fn quoted_end(text: &str, start: usize) -> Result<usize, ExprError> {
    let mut escaped = false;
    for (offset, c) in text[start + 1..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(start + 1 + offset + 1),
            _ => {}
        }
    }
    Err(ExprError::new(text, start, text.len(), "this string has no closing quote".to_owned()))
}

/// The bytes that a quoted token means.
pub(super) fn unquote(text: &str, spanned: Spanned<'_>) -> Result<Vec<u8>, ExprError> {
    let inner = &text[spanned.start + 1..spanned.end - 1];
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((offset, c)) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let at = spanned.start + 1 + offset;
        let (length, byte) = match chars.next().map(|(_, c)| c) {
            Some('"') => (2, Some(b'"')),
            Some('\\') => (2, Some(b'\\')),
            Some('n') => (2, Some(b'\n')),
            Some('r') => (2, Some(b'\r')),
            Some('t') => (2, Some(b'\t')),
            Some('x') => {
                let digits = inner.get(offset + 2..offset + 4).unwrap_or_default();
                chars.next();
                chars.next();
                let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
                (4, u8::from_str_radix(digits, 16).ok().filter(|_| hex))
            }
            other => (1 + other.map_or(0, char::len_utf8), None),
        };
        let Some(byte) = byte else {
            let end = (at + length).min(spanned.end);
            let end = (end..=spanned.end).find(|&end| text.is_char_boundary(end)).unwrap_or(at);
            let what = r#"unknown escape; known are \" \\ \n \r \t and \xHH"#.to_owned();
            return Err(ExprError::new(text, at, end, what));
        };
        out.push(byte);
    }
    Ok(out)
}
