//! Aligned tables that fit the terminal.

use std::fmt::{self, Write};

use super::{Ink, Style, wrap};
use crate::escape;

/// One column.
pub(super) struct Column {
    title: &'static str,
    right: bool,
    /// Cells that it may be cut down to; `None` never cut.
    shrinks_to: Option<usize>,
    /// Cut in the middle: the end (a port) says as much as the start.
    keeps_end: bool,
    /// Left out when the least widths do not fit, rightmost first.
    optional: bool,
}

impl Column {
    /// May be left out when the terminal is too narrow; the table says so.
    pub(super) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// A column of words, cut when the line is too long, but not below `least` cells.
pub(super) fn words(title: &'static str, least: usize) -> Column {
    let shrinks_to = Some(least.max(escape::cells(title)));
    Column { title, right: false, shrinks_to, keeps_end: false, optional: false }
}

/// A column of addresses, cut in the middle when the line is too long.
pub(super) fn address(title: &'static str, least: usize) -> Column {
    Column { keeps_end: true, ..words(title, least) }
}

/// A column of short words, never cut.
pub(super) fn short(title: &'static str) -> Column {
    Column { title, right: false, shrinks_to: None, keeps_end: false, optional: false }
}

/// A column of numbers, aligned right, never cut.
pub(super) fn number(title: &'static str) -> Column {
    Column { right: true, ..short(title) }
}

/// One row: cells, already escaped, and its emphasis.
struct Row {
    cells: Vec<String>,
    ink: Option<Ink>,
    /// A line of its own under the row.
    note: String,
}

/// Rows under columns.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
    indent: usize,
}

impl Table {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new(), indent: 2 }
    }

    pub(super) fn indent(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.painted(None, cells);
    }

    pub(super) fn painted(&mut self, ink: Option<Ink>, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(Row { cells, ink, note: String::new() });
    }

    /// Puts a line under the row written last.
    pub(super) fn note(&mut self, note: String) {
        if let Some(row) = self.rows.last_mut() {
            row.note = note;
        }
    }

    /// Widest cell of each column; 0 for columns that are empty throughout, which are left out.
    fn natural(&self) -> Vec<usize> {
        (0..self.columns.len())
            .map(|index| {
                let cells = |row: &Row| escape::cells(&row.cells[index]);
                let widest = self.rows.iter().map(cells).max().unwrap_or(0);
                if widest == 0 { 0 } else { widest.max(escape::cells(self.columns[index].title)) }
            })
            .collect()
    }

    /// Cells over the terminal's width when columns have these widths.
    fn excess(&self, widths: &[usize], style: Style) -> usize {
        let shown = widths.iter().filter(|width| **width > 0).count();
        let line = self.indent + 2 * shown.saturating_sub(1) + widths.iter().sum::<usize>();
        line.saturating_sub(style.columns())
    }

    /// Natural widths, less optional columns until the least widths fit, then the widest flexible
    /// column gives way until the line fits. Also the titles of the columns left out.
    fn widths(&self, style: Style) -> (Vec<usize>, Vec<&'static str>) {
        let mut widths = self.natural();
        let mut left_out = Vec::new();
        if style.width == 0 {
            return (widths, left_out);
        }
        let least = |widths: &[usize]| -> Vec<usize> {
            let each = widths.iter().zip(&self.columns);
            each.map(|(width, column)| column.shrinks_to.map_or(*width, |to| to.min(*width)))
                .collect()
        };
        for index in (0..widths.len()).rev() {
            let fits = self.excess(&least(&widths), style) == 0;
            if !fits && self.columns[index].optional && widths[index] > 0 {
                widths[index] = 0;
                left_out.insert(0, self.columns[index].title);
            }
        }
        loop {
            let over = self.excess(&widths, style);
            let flexible = |index: &usize| {
                self.columns[*index].shrinks_to.is_some_and(|least| widths[*index] > least)
            };
            // The last of the widest: columns to the right matter less.
            let widest =
                (0..widths.len()).filter(flexible).max_by_key(|index| (widths[*index], *index));
            let Some(widest) = widest.filter(|_| over > 0) else {
                return (widths, left_out);
            };
            // Down to the runner-up at once, so that long strings cost no long loop.
            let others = (0..widths.len()).filter(flexible).filter(|index| *index != widest);
            let runner_up = others.map(|index| widths[index]).max().unwrap_or(0);
            let least = self.columns[widest].shrinks_to.unwrap_or(0);
            let step = widths[widest].saturating_sub(runner_up.max(least)).clamp(1, over);
            widths[widest] -= step;
        }
    }

    pub(super) fn write(&self, style: Style, out: &mut impl Write) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let (widths, left_out) = self.widths(style);
        let titles: Vec<String> =
            self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.write_row(&titles, Some(Ink::Faint), &widths, style, out)?;
        for row in &self.rows {
            self.write_row(&row.cells, row.ink, &widths, style, out)?;
            if !row.note.is_empty() {
                let indent = " ".repeat(self.indent + 4);
                wrap(&format!("{indent}{}", row.note), &format!("{indent}  "), style, out)?;
            }
        }
        if !left_out.is_empty() {
            let line = format!("  narrow terminal: not shown are {}", left_out.join(", "));
            writeln!(out, "{}", style.paint(Ink::Faint, &line))?;
        }
        Ok(())
    }

    fn write_row(
        &self,
        cells: &[String],
        ink: Option<Ink>,
        widths: &[usize],
        style: Style,
        out: &mut impl Write,
    ) -> fmt::Result {
        let mut line = " ".repeat(self.indent);
        let mut first = true;
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            if *width == 0 {
                continue;
            }
            if !first {
                line.push_str("  ");
            }
            first = false;
            let cell = if column.keeps_end {
                escape::cut_middle(cell, *width)
            } else {
                escape::cut(cell, *width)
            };
            let pad = " ".repeat(width - escape::cells(&cell));
            if column.right {
                line.push_str(&pad);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.push_str(&pad);
            }
        }
        let line = line.trim_end();
        match ink {
            Some(ink) => writeln!(out, "{}", style.paint(ink, line)),
            None => writeln!(out, "{line}"),
        }
    }
}
