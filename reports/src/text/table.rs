//! Aligned tables that fit the terminal.

use std::fmt::{self, Write};

use super::{Ink, Style};
use crate::escape;

/// One column.
pub(super) struct Column {
    title: &'static str,
    right: bool,
    /// Cells that it may be cut down to; `None` never cut.
    shrinks_to: Option<usize>,
}

/// A column of words, cut when the line is too long, but not below `least` cells.
pub(super) fn words(title: &'static str, least: usize) -> Column {
    Column { title, right: false, shrinks_to: Some(least.max(escape::cells(title))) }
}

/// A column of short words, never cut.
pub(super) fn short(title: &'static str) -> Column {
    Column { title, right: false, shrinks_to: None }
}

/// A column of numbers, aligned right, never cut.
pub(super) fn number(title: &'static str) -> Column {
    Column { title, right: true, shrinks_to: None }
}

/// One row: cells, already escaped, and its emphasis.
struct Row {
    cells: Vec<String>,
    ink: Option<Ink>,
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
        self.rows.push(Row { cells, ink });
    }

    /// Natural widths, then the widest flexible column gives a cell until the line fits. Columns
    /// that are empty throughout are left out.
    fn widths(&self, style: Style) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = |row: &Row| escape::cells(&row.cells[index]);
                let widest = self.rows.iter().map(cells).max().unwrap_or(0);
                if widest == 0 { 0 } else { widest.max(escape::cells(self.columns[index].title)) }
            })
            .collect();
        if style.width == 0 {
            return widths;
        }
        let gaps = 2 * widths.iter().filter(|width| **width > 0).count().saturating_sub(1);
        let room = style.columns().saturating_sub(self.indent + gaps);
        loop {
            let over = widths.iter().sum::<usize>().saturating_sub(room);
            if over == 0 {
                return widths;
            }
            let flexible = |index: &usize| {
                self.columns[*index].shrinks_to.is_some_and(|least| widths[*index] > least)
            };
            // The last of the widest: columns to the right matter less.
            let Some(widest) =
                (0..widths.len()).filter(flexible).max_by_key(|index| (widths[*index], *index))
            else {
                return widths;
            };
            // Down to the runner-up at once, so that long strings cost no long loop.
            let runner_up = (0..widths.len())
                .filter(flexible)
                .filter(|index| *index != widest)
                .map(|index| widths[index])
                .max()
                .unwrap_or(0);
            let least = self.columns[widest].shrinks_to.unwrap_or(0);
            let step = widths[widest].saturating_sub(runner_up.max(least)).clamp(1, over);
            widths[widest] -= step;
        }
    }

    pub(super) fn write(&self, style: Style, out: &mut impl Write) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let widths = self.widths(style);
        let titles: Vec<String> =
            self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.write_row(&titles, Some(Ink::Faint), &widths, style, out)?;
        for row in &self.rows {
            self.write_row(&row.cells, row.ink, &widths, style, out)?;
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
            let cell = escape::cut(cell, *width);
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
