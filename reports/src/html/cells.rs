//! What the page's sections are made of: escaped text, and tables with a limit that is said.

use std::borrow::Cow;
use std::collections::BTreeSet;

use maud::{Markup, PreEscaped, html};

use crate::escape;
use crate::units;

/// Longest string of a packet, a process or a file that the page shows, in cells.
const LONGEST: usize = 240;

/// Text made visible, cut and escaped. Every string from a view goes through here: maud alone
/// would let bidirectional overrides pass.
pub(super) fn t(text: &str) -> Markup {
    PreEscaped(escape::markup(&unbroken(&escape::cut(text, LONGEST))))
}

/// As [`units::percent`]: the number and its sign stay on one line.
pub(super) fn percent(part: u64, whole: u64) -> Markup {
    t(&units::percent(part, whole))
}

/// With a no-break space before a percent sign, as the page's lines break where they like. Only here: in a
/// terminal one searches for what one types.
fn unbroken(text: &str) -> Cow<'_, str> {
    let ratio = |at: usize| text[..at].ends_with(|ch: char| ch.is_ascii_digit());
    if !text.match_indices(" %").any(|(at, _)| ratio(at)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut done = 0;
    for (at, _) in text.match_indices(" %").filter(|(at, _)| ratio(*at)) {
        out += &text[done..at];
        out.push('\u{a0}');
        done = at + 1;
    }
    out += &text[done..];
    Cow::Owned(out)
}

/// As [`t`], with what stands between backticks as code: commands to be copied.
pub(super) fn prose(text: &str) -> Markup {
    let text = escape::cut(text, LONGEST);
    let parts: Vec<&str> = text.split('`').collect();
    // One without its partner is a backtick and nothing else.
    let paired = parts.len() % 2 == 1;
    html! {
        @if paired {
            @for (index, part) in parts.iter().enumerate() {
                @if index % 2 == 1 { code { (t(part)) } } @else { (t(part)) }
            }
        } @else { (t(&text)) }
    }
}

/// As [`t`], for what has to be said in full: attributions and licences.
pub(super) fn whole(text: &str) -> Markup {
    PreEscaped(escape::markup(&escape::cut(text, 4 * LONGEST)))
}

/// Which journeys the page holds, for links to them.
pub(super) struct Held(pub(super) BTreeSet<u64>);

impl Held {
    /// A journey's number, a link when the page has it.
    pub(super) fn link(&self, id: u64) -> Markup {
        if self.0.contains(&id) {
            html! { a href=(format!("#journey={id}")) { (id) } }
        } else {
            html! { (id) }
        }
    }

    pub(super) fn links(&self, ids: &[u64]) -> Markup {
        html! {
            @for (index, id) in ids.iter().take(8).enumerate() {
                @if index > 0 { ", " }
                (self.link(*id))
            }
        }
    }
}

/// One column.
pub(super) struct Column {
    title: &'static str,
    class: &'static str,
}

/// Numbers, aligned right.
pub(super) const fn num(title: &'static str) -> Column {
    Column { title, class: "num" }
}

/// Identifiers, never broken.
pub(super) const fn mono(title: &'static str) -> Column {
    Column { title, class: "mono" }
}

/// Short words.
pub(super) const fn text(title: &'static str) -> Column {
    Column { title, class: "" }
}

/// Sentences.
pub(super) const fn words(title: &'static str) -> Column {
    Column { title, class: "words" }
}

/// One cell: what it shows, and what it sorts by when that is a number.
pub(super) struct Cell {
    content: Markup,
    sort: Option<u64>,
}

impl Cell {
    pub(super) fn markup(content: Markup) -> Self {
        Self { content, sort: None }
    }

    pub(super) fn text(text: &str) -> Self {
        if text.is_empty() {
            return Self { content: html! { span.faint { "–" } }, sort: None };
        }
        Self { content: t(text), sort: None }
    }

    pub(super) fn count(value: u64) -> Self {
        Self { content: html! { (units::count(value)) }, sort: Some(value) }
    }

    pub(super) fn bytes(value: u64) -> Self {
        Self { content: html! { (units::bytes(value)) }, sort: Some(value) }
    }

    pub(super) fn duration(ns: u64) -> Self {
        Self { content: html! { (units::duration(ns)) }, sort: Some(ns) }
    }

    /// A duration that may be unknown; unknown sorts before zero would, as nothing.
    pub(super) fn maybe_duration(ns: Option<u64>) -> Self {
        ns.map_or_else(|| Self::text(""), Self::duration)
    }

    /// Empty for none, so that what is there stands out.
    pub(super) fn rare(value: u64) -> Self {
        let content = if value == 0 {
            html! {}
        } else {
            html! { (units::count(value)) }
        };
        Self { content, sort: Some(value) }
    }

    pub(super) fn sorted(content: Markup, sort: u64) -> Self {
        Self { content, sort: Some(sort) }
    }
}

/// One row.
pub(super) struct Row {
    /// For links to it, `flow=3`.
    pub(super) id: Option<String>,
    /// First and last time, microseconds since the start: for `#t=a..b`.
    pub(super) span: Option<(u64, u64)>,
    pub(super) cells: Vec<Cell>,
}

impl Row {
    pub(super) fn plain(cells: Vec<Cell>) -> Self {
        Self { id: None, span: None, cells }
    }
}

/// First and last time as microseconds since `start`.
pub(super) fn span(first: u64, last: u64, start: u64) -> (u64, u64) {
    (first.saturating_sub(start) / 1_000, last.saturating_sub(start) / 1_000)
}

/// A table's frame.
pub(super) struct Grid<'a> {
    pub(super) id: &'a str,
    pub(super) caption: &'a str,
    pub(super) columns: &'a [Column],
    /// Most rows shown.
    pub(super) rows: usize,
    /// Most bytes of rows; a row that starts below is finished.
    pub(super) bytes: usize,
    /// The command that shows all.
    pub(super) rerun: &'a str,
}

impl Grid<'_> {
    /// The table, of as many rows as the limits allow; `omitted` had been left out before.
    pub(super) fn draw(&self, rows: impl ExactSizeIterator<Item = Row>, omitted: u64) -> Markup {
        let total = rows.len();
        let mut shown = 0usize;
        let mut body = String::new();
        for row in rows.take(self.rows) {
            if body.len() > self.bytes {
                break;
            }
            body.push_str(&self.row(&row).into_string());
            shown += 1;
        }
        let omitted = omitted.saturating_add((total - shown) as u64);
        let many = shown > 12;
        let tall = if shown > 30 { "scroll tall" } else { "scroll" };
        let caption = format!("{}-caption", self.id);
        html! {
            @if many {
                div.tools.js-only {
                    label for=(format!("{}-filter", self.id)) { "Filter" }
                    input type="search" id=(format!("{}-filter", self.id)) data-table=(self.id)
                        autocomplete="off" spellcheck="false";
                    span id=(format!("{}-count", self.id)) role="status" {}
                }
            }
            div class=(tall) role="region" aria-labelledby=(caption) tabindex="0" {
                table.sortable id=(self.id) {
                    caption id=(caption) { (self.caption) }
                    thead { tr {
                        @for column in self.columns {
                            th scope="col" class=[class(column.class)] { (column.title) }
                        }
                    } }
                    tbody { (PreEscaped(body)) }
                }
            }
            (left_out(omitted, "rows", self.rerun))
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let times = row.span.map(|(from, to)| format!("{from} {to}"));
        html! {
            tr id=[row.id.as_deref()] data-t=[times] {
                @for (index, (cell, column)) in row.cells.iter().zip(self.columns).enumerate() {
                    @if index == 0 && column.class != "num" {
                        th scope="row" class=[class(column.class)] data-v=[cell.sort] { (cell.content) }
                    } @else {
                        td class=[class(column.class)] data-v=[cell.sort] { (cell.content) }
                    }
                }
            }
            "\n"
        }
    }
}

fn class(name: &'static str) -> Option<&'static str> {
    (!name.is_empty()).then_some(name)
}

/// What a limit left out, and the command that shows it.
pub(super) fn left_out(number: u64, what: &str, rerun: &str) -> Markup {
    html! {
        @if number > 0 {
            p.note { (units::count(number)) " " (what) " omitted; rerun with " code { (t(rerun)) } "." }
        }
    }
}

/// A drawn figure in a frame that scrolls by keyboard.
pub(super) fn figure(figure: &crate::svg::Figure, label: &str) -> Markup {
    html! {
        figure {
            div.pane role="region" aria-label=(label) tabindex="0" { (PreEscaped(figure.inline())) }
        }
    }
}

/// `name` and `value` of a list of facts; nothing when there is no value.
pub(super) fn fact(name: &str, value: &str) -> Markup {
    html! { @if !value.is_empty() { dt { (name) } dd { (prose(value)) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_not_broken_across_lines() {
        for (text, shown) in [
            ("lost 0 of 7 (0 %)", "lost 0 of 7 (0\u{a0}%)"),
            ("33.3 % and 5 %, a % b", "33.3\u{a0}% and 5\u{a0}%, a % b"),
            ("100 %", "100\u{a0}%"),
            ("", ""),
        ] {
            assert_eq!(t(text).into_string(), shown);
        }
        assert_eq!(percent(1, 3).into_string(), "33.3\u{a0}%");
    }
}
