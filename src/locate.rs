//! `psc locate`: peers, places and routes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use psc_replay::locator::{self, BlockList, Database, Gazetteer, Here, Locator};
use psc_replay::view::locate::LocateView;
use psc_reports::{svg, text};
use tempfile::TempDir;

use crate::Verdict;
use crate::cli::locate::LocateFigure;
use crate::cli::{LocateArgs, PlacesArgs, Select, ViewFormat};
use crate::output::{Console, write_result};
use crate::replay::{draw, draw_text};
use crate::source::{name, replay};

/// Peers compared with a baseline: more than are ever shown.
const COMPARED: usize = 100_000;
/// Largest block list read, bytes.
const LARGEST_LIST: u64 = 256 << 20;

/// `psc locate`.
pub(crate) fn run(args: &LocateArgs, console: Console) -> anyhow::Result<Verdict> {
    // Figures merge what they cannot tell apart: they can have everybody.
    let limit = match args.format {
        ViewFormat::Svg => COMPARED,
        ViewFormat::Text | ViewFormat::Json => args.limit,
    };
    let options = options(&args.places, limit)?;
    let mut views = Vec::new();
    let probed = probe(args, console)?;
    for input in probed.iter().map(TempPath::path).chain(args.input.iter().map(PathBuf::as_path)) {
        views.push(view(input, &args.select, console, options.clone())?);
    }
    let mut view = locator::merge(views, limit);
    against(&mut view, &args.places, console)?;
    let output = args.output.as_deref();
    let page = match args.format {
        ViewFormat::Text => {
            draw_text(console, output, |style, out| text::locate(&view, style, out))?
        }
        ViewFormat::Json => psc_reports::json("locate", &view),
        ViewFormat::Svg => draw(|out| match args.figure {
            LocateFigure::Map => svg::map(&view, out),
            LocateFigure::Topology => svg::topology(&view, out),
            LocateFigure::Hops => svg::hops(&view, out),
        })?,
    };
    write_result(output, page.as_bytes())?;
    Ok(Verdict::Clean)
}

/// Where the results of probing are: kept by the user's wish, or until they were shown.
enum TempPath {
    Kept(PathBuf),
    Passing(PathBuf, #[allow(dead_code, reason = "removes the folder when dropped")] TempDir),
}

impl TempPath {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Passing(path, _) => path,
        }
    }
}

/// Probes when that is asked for.
fn probe(args: &LocateArgs, console: Console) -> anyhow::Result<Option<TempPath>> {
    if args.probing.probe.is_empty() {
        return Ok(None);
    }
    let to = if let Some(path) = &args.saving.save {
        TempPath::Kept(path.clone())
    } else {
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        TempPath::Passing(folder.path().join("probes.psc"), folder)
    };
    send(args, to.path(), console)?;
    Ok(Some(to))
}

#[cfg(all(feature = "probe", unix))]
fn send(args: &LocateArgs, path: &Path, console: Console) -> anyhow::Result<()> {
    crate::probe::seed();
    crate::probe::run(&args.probing, path, args.saving.force, console)
}

#[cfg(not(all(feature = "probe", unix)))]
fn send(_: &LocateArgs, _: &Path, _: Console) -> anyhow::Result<()> {
    anyhow::bail!(
        "this build cannot probe: it was made without the `probe` feature; it reads what another \
         psc has probed"
    )
}

fn view(
    input: &Path,
    select: &Select,
    console: Console,
    options: locator::Options,
) -> anyhow::Result<LocateView> {
    let mut locator = Locator::new(options);
    let replayed = replay(input, select, console, &mut [&mut locator])?;
    Ok(locator.finish(&replayed.manifest, &replayed.pass))
}

/// Holds a view against the baseline, when there is one.
pub(crate) fn against(
    view: &mut LocateView,
    places: &PlacesArgs,
    console: Console,
) -> anyhow::Result<()> {
    if let Some(earlier) = &places.baseline {
        let options = options(places, COMPARED)?;
        let before = self::view(earlier, &Select::default(), console, options)
            .with_context(|| format!("--baseline {}", earlier.display()))?;
        locator::compare(view, &before, &name(earlier));
    }
    Ok(())
}

/// Reads what the options name.
pub(crate) fn options(places: &PlacesArgs, peers: usize) -> anyhow::Result<locator::Options> {
    let database = |path: &Path| -> anyhow::Result<Database> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Database::new(&name(path), bytes).map_err(|error| anyhow!(error))
    };
    let mut listed = BlockList::default();
    for path in &places.block_list {
        let size = fs::metadata(path).map_or(0, |meta| meta.len());
        anyhow::ensure!(
            size <= LARGEST_LIST,
            "{}: {size} bytes are no list of prefixes; give one of at most {LARGEST_LIST}",
            path.display()
        );
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {} as text", path.display()))?;
        listed.add(&name(path), &text).map_err(|error| anyhow!(error))?;
    }
    let here = places.here.as_deref().map(Here::parse).transpose();
    Ok(locator::Options {
        peers,
        gazetteer: Gazetteer {
            cities: places.city_db.as_deref().map(database).transpose()?,
            networks: places.asn_db.as_deref().map(database).transpose()?,
            listed,
        },
        here: here.map_err(|error| anyhow!("--here {error}"))?,
        ..locator::Options::default()
    })
}
