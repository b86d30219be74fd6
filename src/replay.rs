//! The verbs that replay: one pass, the view, its rendering.

use std::fmt;
use std::path::Path;

use psc_replay::analyzer::{self, Analyzer};
use psc_replay::guarder::Detectors;
use psc_replay::locator::Locator;
use psc_replay::tracer::{TraceOptions, Tracer};
use psc_replay::view::trace::{Journey, TraceView};
use psc_reports::text::Style;
use psc_reports::{html, svg, text};
use serde::Serialize;

use crate::Verdict;
use crate::cli::{
    AnalyzeArgs, AnalyzeFigure, BreakdownKey, DetectArgs, ReportArgs, Select, TextFormat,
    TraceArgs, TraceFigure, ViewFormat,
};
use crate::locate;
use crate::output::{Console, is_dash, write_result};
use crate::select;
use crate::source::replay;

/// `psc trace`.
pub(crate) fn trace(args: &TraceArgs, console: Console) -> anyhow::Result<Verdict> {
    // Of one journey, all that belongs to its story is told.
    let journeys = if args.journey.is_some() { args.limit.max(STORY) } else { args.limit };
    let in_order = args.journey.is_some();
    let mut tracer = Tracer::new(TraceOptions { paths: args.paths, journeys, in_order });
    let select = match args.journey {
        None => &args.select,
        Some(journey) => &one_journey(&args.select, journey)?,
    };
    let replayed = replay(&args.input, select, console, &mut [&mut tracer])?;
    let view = tracer.finish(&replayed.manifest, &replayed.pass);
    if let Some(journey) = args.journey {
        anyhow::ensure!(
            view.journeys.total > 0,
            "{}: there is no journey {journey} in what is selected; `psc trace` without -j shows \
             their numbers",
            view.provenance.source
        );
    }
    let output = args.output.as_deref();
    let page = match args.format {
        ViewFormat::Text => {
            draw_text(console, output, |style, out| text::trace(&view, style, out))?
        }
        ViewFormat::Json => psc_reports::json("trace", &view),
        ViewFormat::Svg => match args.figure {
            TraceFigure::Graph => draw(|out| svg::path_graph(&view.graph, out))?,
            TraceFigure::Ladder => match drawn(&view, args.journey) {
                Some(journey) => draw(|out| svg::ladder(journey, out))?,
                None => anyhow::bail!(
                    "{}: there is no journey to draw in what is selected",
                    view.provenance.source
                ),
            },
        },
    };
    write_result(output, page.as_bytes())?;
    Ok(Verdict::Clean)
}

/// Journeys of a story that are told.
const STORY: usize = 256;

/// The journey that a ladder is drawn of: the one asked for, else the first offered.
fn drawn(view: &TraceView, journey: Option<u64>) -> Option<&Journey> {
    let asked = |shown: &&Journey| journey.is_none_or(|journey| shown.id == journey);
    view.exemplars.iter().find(asked)
}

/// The selection narrowed to one journey and those it is joined to.
fn one_journey(selected: &Select, journey: u64) -> anyhow::Result<Select> {
    let this = format!("journey.id == {journey}");
    let filter = match &selected.filter {
        None => this,
        Some(filter) => {
            // Alone first, so that an error points at the column as it was typed.
            select::expression(filter)?;
            format!("({filter}) and {this}")
        }
    };
    Ok(Select { filter: Some(filter), time: selected.time.clone(), joined: true })
}

/// `psc analyze`.
pub(crate) fn analyze(args: &AnalyzeArgs, console: Console) -> anyhow::Result<Verdict> {
    // The connection asked for must be among those shown, however few bytes it has.
    let flows = if args.flow.is_some() { usize::MAX } else { args.limit };
    let options = analyzer::Options { flows, flow: args.flow, rows: args.limit };
    let mut analyzer = Analyzer::new(options);
    let replayed = replay(&args.input, &args.select, console, &mut [&mut analyzer])?;
    let mut view = analyzer.finish(&replayed.manifest, &replayed.pass);
    if let Some(flow) = args.flow {
        view.flows.retain(|row| row.id == flow);
        anyhow::ensure!(
            !view.flows.is_empty(),
            "{}: there is no connection {flow} in what is selected; `psc analyze` without --flow shows \
             their numbers",
            view.provenance.source
        );
    }
    let page = match args.format {
        ViewFormat::Text => draw_text(console, args.output.as_deref(), |style, out| {
            let by = args.by.map(BreakdownKey::name);
            let table = view.breakdowns.iter().find(|table| Some(&*table.by) == by);
            match (args.flow, view.flows.first(), table) {
                (Some(_), Some(flow), _) => text::connection(&view.provenance, flow, style, out),
                (_, _, Some(table)) => text::breakdown(&view.provenance, table, style, out),
                _ => text::analyze(&view, style, out),
            }
        })?,
        ViewFormat::Json => psc_reports::json("analyze", &view),
        ViewFormat::Svg => draw(|out| match args.figure {
            AnalyzeFigure::Drops => svg::drops(&view.drops, out),
            AnalyzeFigure::Volume => svg::series(&view.series, out),
            AnalyzeFigure::Latency => svg::latency(&view.latency, out),
        })?,
    };
    write_result(args.output.as_deref(), page.as_bytes())?;
    Ok(Verdict::Clean)
}

/// `psc guard detect`.
pub(crate) fn detect(args: &DetectArgs, console: Console) -> anyhow::Result<Verdict> {
    let baseline = args.baseline.as_deref().map(crate::baseline::read).transpose()?;
    let mut detectors = Detectors::against(baseline);
    let replayed = replay(&args.input, &args.select, console, &mut [&mut detectors])?;
    let view = detectors.finish(&replayed.manifest, &replayed.pass);
    print(console, args.format, args.output.as_deref(), "detect", &view, text::detect)?;
    Ok(if view.findings.is_empty() { Verdict::Clean } else { Verdict::Findings })
}

/// `psc report`: everything in one pass, on one page.
pub(crate) fn report(args: &ReportArgs, console: Console) -> anyhow::Result<Verdict> {
    let mut tracer = Tracer::new(TraceOptions { journeys: args.limit, ..TraceOptions::default() });
    let mut analyzer = Analyzer::default();
    let mut locator = Locator::new(locate::options(&args.places, 1000)?);
    let mut detectors = Detectors::new();
    let replayed = replay(
        &args.input,
        &args.select,
        console,
        &mut [&mut tracer, &mut analyzer, &mut locator, &mut detectors],
    )?;
    let (manifest, pass) = (&replayed.manifest, &replayed.pass);
    let trace = tracer.finish(manifest, pass);
    let analyze = analyzer.finish(manifest, pass);
    let mut locate = locator.finish(manifest, pass);
    locate::against(&mut locate, &args.places, console)?;
    let detect = detectors.finish(manifest, pass);
    let page = draw(|out| html::report(&trace, &analyze, &locate, &detect, out))?;
    write_result(Some(&args.output), page.as_bytes())?;
    if !is_dash(&args.output) {
        console.note(&format!("wrote {}; open it in any browser", args.output.display()));
    }
    Ok(Verdict::Clean)
}

/// A view as text or JSON, to its place.
pub(crate) fn print<V: Serialize>(
    console: Console,
    format: TextFormat,
    output: Option<&Path>,
    kind: &str,
    view: &V,
    text: impl FnOnce(&V, Style, &mut String) -> fmt::Result,
) -> anyhow::Result<()> {
    let page = match format {
        TextFormat::Text => draw_text(console, output, |style, out| text(view, style, out))?,
        TextFormat::Json => psc_reports::json(kind, view),
    };
    write_result(output, page.as_bytes())
}

pub(crate) fn draw_text(
    console: Console,
    output: Option<&Path>,
    text: impl FnOnce(Style, &mut String) -> fmt::Result,
) -> anyhow::Result<String> {
    draw(|out| text(console.style(output), out))
}

pub(crate) fn draw(figure: impl FnOnce(&mut String) -> fmt::Result) -> anyhow::Result<String> {
    let mut out = String::new();
    // A string takes everything: an error here is one of our own formatting.
    figure(&mut out)
        .map_err(|_| anyhow::anyhow!("a figure could not be drawn; please report it"))?;
    Ok(out)
}
