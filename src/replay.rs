//! The verbs that replay: one pass, the view, its rendering.

use std::fmt;
use std::path::Path;

use psc_replay::analyzer::{self, Analyzer};
use psc_replay::locator::{self, Locator};
use psc_reports::text::Style;
use psc_reports::{svg, text};
use serde::Serialize;

use crate::Verdict;
use crate::cli::{AnalyzeArgs, AnalyzeFigure, LocateArgs, TextFormat, ViewFormat};
use crate::output::{Console, write_result};
use crate::source::replay;

/// `psc analyze`.
pub(crate) fn analyze(args: &AnalyzeArgs, console: Console) -> anyhow::Result<Verdict> {
    let mut analyzer = Analyzer::new(analyzer::Options { flows: args.limit });
    let replayed = replay(&args.input, &args.select, console, &mut [&mut analyzer])?;
    let view = analyzer.finish(&replayed.manifest, &replayed.pass);
    let page = match args.format {
        ViewFormat::Text => draw_text(console, args.output.as_deref(), |style, out| {
            text::analyze(&view, style, out)
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

/// `psc locate`.
pub(crate) fn locate(args: &LocateArgs, console: Console) -> anyhow::Result<Verdict> {
    let mut locator = Locator::new(locator::Options { peers: args.limit });
    let replayed = replay(&args.input, &args.select, console, &mut [&mut locator])?;
    let view = locator.finish(&replayed.manifest, &replayed.pass);
    print(console, args.format, args.output.as_deref(), "locate", &view, text::locate)?;
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

fn draw_text(
    console: Console,
    output: Option<&Path>,
    text: impl FnOnce(Style, &mut String) -> fmt::Result,
) -> anyhow::Result<String> {
    draw(|out| text(console.style(output), out))
}

fn draw(figure: impl FnOnce(&mut String) -> fmt::Result) -> anyhow::Result<String> {
    let mut out = String::new();
    // A string takes everything: an error here is one of our own formatting.
    figure(&mut out)
        .map_err(|_| anyhow::anyhow!("a figure could not be drawn; please report it"))?;
    Ok(out)
}
