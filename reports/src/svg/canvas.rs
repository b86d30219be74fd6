//! Marks on a figure: numbers in one form, text cut to its room and escaped.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthChar as _;

use crate::escape;

/// A length with at most one decimal, never `-0`, so that equal figures have equal bytes.
pub(super) fn px(value: f64) -> Px {
    Px((value * 10.0).round() as i64)
}

/// Tenths of a pixel.
#[derive(Clone, Copy)]
pub(super) struct Px(i64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let tenths = self.0.unsigned_abs();
        match tenths % 10 {
            0 => write!(f, "{sign}{}", tenths / 10),
            rest => write!(f, "{sign}{}.{rest}", tenths / 10),
        }
    }
}

/// Fonts of the figure's style sheet, for estimating widths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Font {
    /// 15 px, for the figure's title.
    Title,
    /// 12 px.
    Plain,
    /// 11 px.
    Small,
    /// 11.5 px, fixed width.
    Mono,
}

impl Font {
    fn class(self) -> &'static str {
        match self {
            Self::Title => "f-t f-h",
            Self::Plain => "f-t",
            Self::Small => "f-t f-s",
            Self::Mono => "f-t f-m",
        }
    }

    /// Width of `ch` from above, over the fonts that the style sheet names.
    fn advance(self, ch: char) -> f64 {
        let wide = ch.width().unwrap_or(1).max(1) as f64;
        let em = match ch {
            _ if self == Self::Mono => 0.62 * wide,
            _ if wide > 1.0 => 1.05,
            'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | 'I' => 0.34,
            ' ' | 'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' => 0.42,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.98,
            'A'..='Z' | '…' | '>' | '<' | '+' | '~' => 0.76,
            _ => 0.64,
        };
        match self {
            Self::Title => em * 15.0 * 1.06,
            Self::Plain => em * 12.0,
            Self::Small => em * 11.0,
            Self::Mono => em * 11.5,
        }
    }

    /// Width of `text` from above, pixels.
    pub(super) fn width(self, text: &str) -> f64 {
        text.chars().map(|ch| self.advance(ch)).sum()
    }

    /// `text`, made visible as on a terminal, and cut to `room` pixels.
    pub(super) fn fit(self, text: &str, room: f64) -> String {
        // No cell is narrower than 3 px: what is beyond cannot be seen.
        let text = escape::cut(text, (room / 3.0).max(0.0) as usize + 2);
        let text = escape::terminal(&text);
        if self.width(&text) <= room {
            return text.into_owned();
        }
        let mut used = self.advance('…');
        let mut out = String::new();
        for ch in text.chars() {
            used += self.advance(ch);
            if used > room {
                break;
            }
            out.push(ch);
        }
        if self.advance('…') <= room {
            out.push('…');
        }
        out
    }
}

/// `text` for a description or a tooltip: visible as on a terminal, and of bounded length.
pub(super) fn brief(text: &str, cells: usize) -> String {
    escape::terminal(&escape::cut(text, cells)).into_owned()
}

/// Markup under construction.
#[derive(Default)]
pub(super) struct Canvas {
    pub(super) body: String,
}

impl Canvas {
    /// Appends markup made by the caller, who has escaped what is in it.
    pub(super) fn raw(&mut self, args: fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.body.write_fmt(args);
        self.body.push('\n');
    }

    /// Text starting at (`x`, baseline `y`), cut to `room` pixels.
    pub(super) fn text(
        &mut self,
        font: Font,
        class: &str,
        (x, y): (f64, f64),
        room: f64,
        text: &str,
    ) {
        let text = escape::markup(&font.fit(text, room));
        let (x, y, base) = (px(x), px(y), font.class());
        self.raw(format_args!("<text class=\"{base} {class}\" x=\"{x}\" y=\"{y}\">{text}</text>"));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        self.raw(format_args!(
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"
        ));
    }

    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let (x, y, width, height) = (px(x), px(y), px(width), px(height));
        self.raw(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let (x, y, radius) = (px(x), px(y), px(radius));
        self.raw(format_args!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"));
    }

    /// The sign for a drop: an octagon with a cross, like nothing else in a figure.
    pub(super) fn drop_sign(&mut self, (x, y): (f64, f64), radius: f64) {
        let (outer, inner) = (radius, radius * 0.414);
        let corners = [
            (-inner, -outer),
            (inner, -outer),
            (outer, -inner),
            (outer, inner),
            (inner, outer),
            (-inner, outer),
            (-outer, inner),
            (-outer, -inner),
        ];
        let points: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{},{}", px(x + dx), px(y + dy))).collect();
        self.raw(format_args!("<polygon class=\"f-n-drop\" points=\"{}\"/>", points.join(" ")));
        let arm = radius * 0.42;
        let (x1, x2, y1, y2) = (px(x - arm), px(x + arm), px(y - arm), px(y + arm));
        self.raw(format_args!(
            "<path class=\"f-x\" d=\"M{x1} {y1}L{x2} {y2}M{x2} {y1}L{x1} {y2}\"/>"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        let cases = [(0.0, "0"), (-0.01, "0"), (1.25, "1.3"), (-1.5, "-1.5"), (12.0, "12")];
        for (value, shown) in cases {
            assert_eq!(px(value).to_string(), shown, "{value}");
        }
    }

    #[test]
    fn fitted_text_fits() {
        for font in [Font::Title, Font::Plain, Font::Small, Font::Mono] {
            for room in [0.0, 5.0, 30.0, 200.0] {
                let text = font.fit("netif_receive_skb WWW \u{202e} 网络网络网络", room);
                assert!(font.width(&text) <= room, "{text}");
            }
        }
    }
}
