//! Views as figures: standalone SVG files, and the same figures inside the page.
//!
//! Colours are CSS variables with a light fallback, so that one file reads on light and on dark;
//! every colour is doubled by a shape, a dash or a word. Text is cut to the room it has: widths
//! are estimated from above, since the reader's fonts are not known here.

mod canvas;
mod drops;
mod globe;
mod hops;
mod ladder;
mod latency;
mod layout;
mod map;
mod path_graph;
mod series;
mod topology;

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use psc_replay::view::analyze::{DropRow, LayerLatency, Series};
use psc_replay::view::locate::LocateView;
use psc_replay::view::trace::{Journey, PathGraph};

use crate::escape;

/// Class rules that every figure uses; the page includes them once.
pub(crate) const RULES: &str = include_str!("figure.css");
/// Further rules of the figures of places.
pub(crate) const PLACES_RULES: &str = include_str!("places.css");
/// The variables' values for a figure on its own.
const STANDALONE: &str = include_str!("standalone.css");

/// Height of the title line on top of every figure, pixels.
const TITLE: f64 = 36.0;
/// Empty space at both sides of every figure that the page does without.
const SIDE: f64 = 18.0;

/// A drawn figure, not yet a file.
pub(crate) struct Figure {
    /// Pixels at scale 1.
    width: f64,
    /// See `width`.
    height: f64,
    /// What it is, a few words; unescaped.
    title: String,
    /// What it shows, for who cannot see it; unescaped.
    description: String,
    /// Markup of its content.
    body: String,
    /// Has links: then it is a group, since the content of an image is hidden from assistive
    /// technology.
    interactive: bool,
}

impl Figure {
    fn write_body(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "<title>{}</title>", escape::markup(&self.title))?;
        writeln!(out, "<desc>{}</desc>", escape::markup(&self.description))?;
        Ok(())
    }

    /// A file that stands alone.
    fn standalone(&self, out: &mut impl Write) -> fmt::Result {
        self.standalone_with("", out)
    }

    /// As [`Self::standalone`], with rules beside those of every figure.
    fn standalone_with(&self, rules: &str, out: &mut impl Write) -> fmt::Result {
        let (width, height) = (canvas::px(self.width), canvas::px(self.height));
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
        )?;
        self.write_body(out)?;
        writeln!(out, "<style>\n{STANDALONE}{RULES}{rules}</style>")?;
        writeln!(
            out,
            "<rect class=\"f-bg\" fill=\"#fff\" width=\"{width}\" height=\"{height}\"/>"
        )?;
        out.write_str(&self.body)?;
        out.write_str("</svg>\n")
    }

    /// An element of the page, whose style sheet has [`RULES`]. Its title line is cut off: the page
    /// has a heading of its own above.
    pub(crate) fn inline(&self) -> String {
        let width = canvas::px(self.width - 2.0 * SIDE);
        let height = canvas::px(self.height - TITLE);
        let role = if self.interactive { "group" } else { "img" };
        let label = escape::markup(&self.title);
        // How small the page may scale it before it scrolls instead.
        let class = match self.width {
            ..1_010.0 => "fig",
            ..1_250.0 => "fig wide",
            _ => "fig wider",
        };
        let mut out = format!(
            "<svg class=\"{class}\" role=\"{role}\" aria-label=\"{label}\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"{} {} {width} {height}\">\n<desc>{}</desc>\n",
            canvas::px(SIDE),
            canvas::px(TITLE),
            escape::markup(&self.description)
        );
        out.push_str(&self.body);
        out.push_str("</svg>");
        out
    }
}

/// One packet's path through layers and kernel functions, with the time at each step.
///
/// Columns are layers, grouped by namespace in the order the packet visited them. Gaps grow with
/// the logarithm of the time they took; the bars beside them are proportional to it.
pub fn ladder(journey: &Journey, out: &mut impl Write) -> fmt::Result {
    ladder::figure(journey).standalone(out)
}

pub(crate) fn ladder_figure(journey: &Journey) -> Figure {
    ladder::figure(journey)
}

/// The aggregated path graph: layers as bands, user on top.
pub fn path_graph(graph: &PathGraph, out: &mut impl Write) -> fmt::Result {
    path_graph::figure(graph, false).standalone(out)
}

/// As [`path_graph`], with each node a link to `#node-INDEX`.
pub(crate) fn path_graph_figure(graph: &PathGraph) -> Figure {
    path_graph::figure(graph, true)
}

/// The `limit` nodes that matter most; the figure draws the first of the same ranking.
pub(crate) fn ranked_nodes(graph: &PathGraph, limit: usize) -> Vec<usize> {
    path_graph::ranked(graph, limit)
}

/// Packets, bits and drops over time.
pub fn series(series: &Series, out: &mut impl Write) -> fmt::Result {
    series::figure(series).standalone(out)
}

pub(crate) fn series_figure(series: &Series) -> Figure {
    series::figure(series)
}

/// Time between layers: one row each, distribution and percentiles on one logarithmic axis.
pub fn latency(rows: &[LayerLatency], out: &mut impl Write) -> fmt::Result {
    latency::figure(rows).standalone(out)
}

pub(crate) fn latency_figure(rows: &[LayerLatency]) -> Figure {
    latency::figure(rows)
}

/// Drops by reason and place, longest bar first.
pub fn drops(rows: &[DropRow], out: &mut impl Write) -> fmt::Result {
    drops::figure(rows).standalone(out)
}

pub(crate) fn drops_figure(rows: &[DropRow]) -> Figure {
    drops::figure(rows)
}

/// The world map: peers where they are registered or, by the user's database, located; arcs from here.
pub fn map(view: &LocateView, out: &mut impl Write) -> fmt::Result {
    map::figure(view, &BTreeSet::new()).standalone_with(PLACES_RULES, out)
}

/// As [`map`], with marks that are links to those of their countries' rows that `held` has.
pub(crate) fn map_figure(view: &LocateView, held: &BTreeSet<&str>) -> Figure {
    map::figure(view, held)
}

/// Hosts, routers, prefixes and countries, and the links that packets showed.
pub fn topology(view: &LocateView, out: &mut impl Write) -> fmt::Result {
    topology::figure(view, &BTreeSet::new()).standalone_with(PLACES_RULES, out)
}

/// As [`topology`], with nodes that are links to those of their rows that `held` has.
pub(crate) fn topology_figure(view: &LocateView, held: &BTreeSet<&str>) -> Figure {
    topology::figure(view, held)
}

/// Round trips by hop, one panel a route.
pub fn hops(view: &LocateView, out: &mut impl Write) -> fmt::Result {
    hops::figure(view).standalone(out)
}

pub(crate) fn hops_figure(view: &LocateView) -> Figure {
    hops::figure(view)
}
