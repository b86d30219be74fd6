//! The ladder: one packet's path through the layers.

use std::fmt::Write as _;

use psc_replay::view::trace::{Journey, JourneyStep};

use super::Figure;
use super::canvas::{Canvas, Font, brief, px};
use super::layout::layer_rank;
use crate::{escape, units};

/// Steps drawn from the start and from the end; what is between is counted.
const HEAD: usize = 40;
/// See [`HEAD`].
const TAIL: usize = 24;

const MARGIN: f64 = 20.0;
/// Right edges of the two columns of times.
const TIME_END: f64 = MARGIN + 78.0;
const DELTA_END: f64 = TIME_END + 86.0;
/// Longest bar beside a time.
const BAR: f64 = 70.0;
const LIFELINES: f64 = DELTA_END + 44.0;
const COLUMN: f64 = 56.0;
const LANE_GAP: f64 = 26.0;
/// Room for the words about a step.
const WORDS: f64 = 470.0;
/// A step has two lines of words.
const STEP: f64 = 38.0;

/// Room that a namespace's name gets where its columns are narrower.
const NAME: f64 = 150.0;

/// Columns of one namespace.
struct Lane<'a> {
    netns: &'a str,
    layers: Vec<&'a str>,
    x: f64,
}

impl Lane<'_> {
    fn width(&self) -> f64 {
        let name = Font::Plain.width(self.netns) * 1.15;
        (self.layers.len() as f64 * COLUMN).max(name.min(NAME))
    }

    /// Middle of a column.
    fn middle(&self, index: usize) -> f64 {
        self.x + (index as f64 + 0.5) * self.width() / self.layers.len().max(1) as f64
    }
}

/// The namespace of each step. Late probes see no device; then the packet still is where it was last seen, and
/// before any device it is where it will first be.
fn namespaces<'a>(steps: &[&'a JourneyStep]) -> Vec<&'a str> {
    let mut known = steps.iter().map(|step| step.netns.as_str()).find(|name| !name.is_empty());
    let at = steps.iter().map(|step| {
        if !step.netns.is_empty() {
            known = Some(&step.netns);
        }
        known.unwrap_or_default()
    });
    at.collect()
}

/// Lanes in the order of the visit. Within one, layers run so that a packet that leaves by the
/// driver goes right to left never: from the layer it was first seen in to the one it was last
/// seen in.
fn lanes<'a>(steps: &[(&'a JourneyStep, &'a str)]) -> Vec<Lane<'a>> {
    let mut lanes: Vec<Lane<'a>> = Vec::new();
    for (step, netns) in steps {
        let index = lanes.iter().position(|lane| lane.netns == *netns).unwrap_or_else(|| {
            lanes.push(Lane { netns, layers: Vec::new(), x: 0.0 });
            lanes.len() - 1
        });
        if !lanes[index].layers.contains(&step.layer.as_str()) {
            lanes[index].layers.push(&step.layer);
        }
    }
    let mut x = LIFELINES;
    for lane in &mut lanes {
        let here = |step: &&(&JourneyStep, &str)| step.1 == lane.netns;
        let rank =
            |step: Option<&(&JourneyStep, &str)>| step.map(|(step, _)| layer_rank(&step.layer));
        let first = rank(steps.iter().find(here));
        let last = rank(steps.iter().rev().find(here));
        lane.layers.sort_by_key(|layer| layer_rank(layer));
        if first > last {
            lane.layers.reverse();
        }
        lane.x = x;
        x += lane.width() + LANE_GAP;
    }
    lanes
}

fn column(lanes: &[Lane<'_>], row: &Row<'_>) -> f64 {
    let place = lanes.iter().find(|lane| lane.netns == row.netns).and_then(|lane| {
        let index = lane.layers.iter().position(|layer| *layer == row.step.layer)?;
        Some(lane.middle(index))
    });
    place.unwrap_or(LIFELINES)
}

/// Height of the gap that a step took: grows by a line for each factor of thirty.
fn gap(delta_ns: u64) -> f64 {
    STEP + ((delta_ns as f64 / 100.0).max(1.0).log10() * 9.0).min(54.0)
}

/// What a step says beside its mark: the functions after its probe, then its second line.
fn words(step: &JourneyStep) -> (String, String) {
    let mut functions = String::new();
    let mark = match step.stack_evidence.as_str() {
        "inferred" => "~",
        "contradicted" => "!",
        _ => "",
    };
    let names = step
        .stack
        .iter()
        .map(|frame| frame.split_once("+0x").map_or(frame.as_str(), |(name, _)| name));
    for (index, name) in names.enumerate() {
        functions.push_str(if index == 0 { mark } else { " < " });
        functions.push_str(name);
    }
    let mut second = Vec::new();
    for part in [&step.device, &step.context, &step.detail, &step.lineage] {
        if !part.is_empty() {
            second.push(part.clone());
        }
    }
    if !step.headers.is_empty() {
        second.push(format!("now {}", step.headers));
    }
    (functions, second.join(" · "))
}

/// A shape for what was running: disc for a task, square for softirq, diamond for hardirq.
fn mark(canvas: &mut Canvas, context: &str, at: (f64, f64)) {
    match context {
        "softirq" => canvas.rect("f-bar-solid", (at.0 - 5.0, at.1 - 5.0), (10.0, 10.0)),
        "hardirq" => {
            let (x, y) = at;
            let (left, right, up, down) = (px(x - 6.5), px(x + 6.5), px(y - 6.5), px(y + 6.5));
            let (x, y) = (px(x), px(y));
            canvas.raw(format_args!(
                "<path class=\"f-bar-solid\" d=\"M{x} {up}L{right} {y}L{x} {down}L{left} {y}Z\"/>"
            ));
        }
        "" => canvas.circle("f-open", at, 5.0),
        _ => canvas.circle("f-bar-solid", at, 5.5),
    }
}

struct Row<'a> {
    step: &'a JourneyStep,
    netns: &'a str,
    y: f64,
}

pub(super) fn figure(journey: &Journey) -> Figure {
    let hidden = journey.steps.len().saturating_sub(HEAD + TAIL);
    let (head, tail) = if hidden > 0 {
        (&journey.steps[..HEAD], &journey.steps[journey.steps.len() - TAIL..])
    } else {
        (&journey.steps[..], &[][..])
    };
    let all: Vec<&JourneyStep> = journey.steps.iter().collect();
    let known = namespaces(&all);
    let steps: Vec<(&JourneyStep, &str)> = head
        .iter()
        .zip(&known)
        .chain(tail.iter().zip(&known[journey.steps.len() - tail.len()..]))
        .map(|(step, netns)| (step, *netns))
        .collect();
    let lanes = lanes(&steps);
    let life_end = lanes.last().map_or(LIFELINES, |lane| lane.x + lane.width());
    let words_x = life_end + 22.0;
    let width = words_x + WORDS + MARGIN;
    let inner = width - 2.0 * MARGIN;
    let mut canvas = Canvas::default();

    let mut title = format!("Journey {}", journey.id);
    if !journey.role.is_empty() {
        let _ = write!(title, ", {}", brief(&journey.role, 40));
    }
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, &title);
    let flow =
        if journey.flow.is_empty() { "no packet bytes recorded" } else { journey.flow.as_str() };
    canvas.text(Font::Mono, "f-ink", (MARGIN, 50.0), inner, flow);
    let mut about = journey.summary.clone();
    if !about.is_empty() {
        about.push_str(" · ");
    }
    about.push_str(&units::bytes(u64::from(journey.len)));
    if journey.segments > 1 {
        let _ = write!(about, " in {} wire segments", journey.segments);
    }
    let over = journey.first.saturating_add(journey.duration_ns);
    let read = journey.steps.last().is_some_and(|step| step.at > over);
    let until = if read { "from first step to its read" } else { "from first to last step" };
    let _ = write!(about, " · {} {until}", units::duration(journey.duration_ns));
    canvas.text(Font::Plain, "f-faint", (MARGIN, 68.0), inner, &about);
    let mut top = 84.0;
    if !journey.ambiguous.is_empty() {
        let line = format!("Ambiguous: {}", journey.ambiguous);
        canvas.text(Font::Plain, "f-bad", (MARGIN, 86.0), inner, &line);
        top += 18.0;
    }

    // Rows first: lifelines need to know where they end.
    let first_y = top + 74.0;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (index, &(step, netns)) in steps.iter().enumerate() {
        let y = match rows.last() {
            None => first_y,
            Some(before) if hidden > 0 && index == HEAD => before.y + 2.0 * STEP,
            Some(before) => before.y + gap(step.delta_ns),
        };
        rows.push(Row { step, netns, y });
    }
    let end_y = rows.last().map_or(first_y, |row| row.y + STEP);

    for (index, lane) in lanes.iter().enumerate() {
        let name = match lane.netns {
            "" if lanes.len() == 1 => "",
            "" => "netns unknown",
            name => name,
        };
        let class = if index % 2 == 0 { "f-band" } else { "f-band-alt" };
        canvas.rect(class, (lane.x - 8.0, top), (lane.width() + 16.0, end_y - top + 20.0));
        canvas.text(Font::Plain, "f-ink f-b", (lane.x, top + 20.0), lane.width(), name);
        for (index, layer) in lane.layers.iter().enumerate() {
            let x = lane.middle(index);
            canvas.text(Font::Small, "f-faint f-mid", (x, top + 44.0), COLUMN + 8.0, layer);
            canvas.line("f-life", (x, top + 52.0), (x, end_y + 10.0));
        }
    }
    let total = journey.duration_ns.max(1);
    let (unit, _) = units::column(total);
    canvas.text(
        Font::Small,
        "f-faint f-end",
        (TIME_END, top + 44.0),
        78.0,
        &format!("time, {unit}"),
    );
    canvas.text(Font::Small, "f-faint f-end", (DELTA_END, top + 44.0), 80.0, "since before");
    canvas.text(
        Font::Small,
        "f-faint",
        (words_x, top + 44.0),
        WORDS,
        "probe and kernel functions, innermost first · device · context · detail",
    );

    for pair in rows.windows(2) {
        connect(&mut canvas, &lanes, &pair[0], &pair[1], total);
    }
    for (index, row) in rows.iter().enumerate() {
        let at = (column(&lanes, row), row.y);
        canvas.line("f-dot", (at.0 + 10.0, row.y), (words_x - 8.0, row.y));
        draw_step(&mut canvas, journey, row, at, words_x);
        if hidden > 0 && index == HEAD {
            let line = format!("{} steps not drawn", units::count(hidden as u64));
            canvas.text(Font::Small, "f-bad", (words_x, row.y - STEP + 4.0), WORDS, &line);
        }
    }
    if let Some(last) = rows.last() {
        let x = column(&lanes, last);
        canvas.line("f-path", (x, last.y), (x, end_y - 9.0));
        end(&mut canvas, journey, (x, end_y), words_x);
    }
    let height = legend(&mut canvas, &rows, end_y + 46.0, inner) + 16.0;

    let layers: Vec<&str> = steps.iter().fold(Vec::new(), |mut layers, step| {
        if layers.last() != Some(&step.0.layer.as_str()) {
            layers.push(&step.0.layer);
        }
        layers
    });
    let description = format!(
        "{}: {} in {} steps over {} through {}; {}.",
        brief(flow, 160),
        brief(&journey.summary, 160),
        journey.steps.len(),
        units::duration(journey.duration_ns),
        brief(&layers.join(", "), 200),
        brief(&journey.outcome, 80)
    );
    Figure { width, height, title, description, body: canvas.body, interactive: false }
}

/// The curve between two steps, with its time.
fn connect(canvas: &mut Canvas, lanes: &[Lane<'_>], from: &Row<'_>, to: &Row<'_>, total: u64) {
    let share = to.step.delta_ns as f64 / total as f64;
    let slow = share >= 0.25;
    let (x1, x2) = (column(lanes, from), column(lanes, to));
    let bend = (to.y - from.y) * 0.5;
    let class = if slow { "f-path f-slow" } else { "f-path" };
    canvas.raw(format_args!(
        "<path class=\"{class}\" d=\"M{} {}C{} {} {} {} {} {}\"/>",
        px(x1),
        px(from.y),
        px(x1),
        px(from.y + bend),
        px(x2),
        px(to.y - bend),
        px(x2),
        px(to.y)
    ));
    let middle = f64::midpoint(from.y, to.y);
    let class = if slow { "f-ink f-b f-end" } else { "f-faint f-end" };
    let delta = format!("+{}", units::duration(to.step.delta_ns));
    canvas.text(Font::Small, class, (DELTA_END, middle + 2.0), 84.0, &delta);
    let bar = (share * BAR).clamp(0.5, BAR);
    canvas.rect("f-bar-solid", (DELTA_END - bar, middle + 6.0), (bar, 3.0));
}

fn draw_step(canvas: &mut Canvas, journey: &Journey, row: &Row<'_>, at: (f64, f64), x: f64) {
    let step = row.step;
    let mut tip = vec![format!("{} {}", brief(&step.layer, 20), brief(&step.probe, 80))];
    tip.extend(step.stack.iter().take(32).map(|frame| brief(frame, 120)));
    // New lines are wanted between, so each line is escaped on its own.
    let tip: Vec<String> = tip.iter().map(|line| escape::markup(line)).collect();
    canvas.raw(format_args!("<g><title>{}</title>", tip.join("\n")));
    mark(canvas, &step.context, at);
    let (_, write) = units::column(journey.duration_ns);
    let since = write(step.at.saturating_sub(journey.first));
    canvas.text(Font::Small, "f-ink f-end f-num", (TIME_END, row.y + 4.0), 80.0, &since);
    let (functions, second) = words(step);
    let probe = units::probe_name(&step.probe);
    let probe_px = Font::Mono.width(&Font::Mono.fit(probe, WORDS));
    canvas.text(Font::Mono, "f-ink f-b", (x, row.y), WORDS, probe);
    if !functions.is_empty() {
        let room = WORDS - probe_px - 14.0;
        canvas.text(Font::Mono, "f-faint", (x + probe_px + 14.0, row.y), room, &functions);
    }
    canvas.text(Font::Small, "f-faint", (x, row.y + 14.0), WORDS, &second);
    canvas.raw(format_args!("</g>"));
}

/// The journey's end: what became of the packet.
fn end(canvas: &mut Canvas, journey: &Journey, at: (f64, f64), words_x: f64) {
    let mut line = journey.outcome.clone();
    let class = if journey.outcome.starts_with("dropped") {
        canvas.drop_sign(at, 9.0);
        if !journey.drop_location.is_empty() {
            let _ = write!(line, " at {}", journey.drop_location);
        }
        "f-bad f-b"
    } else if journey.outcome == "delivered" {
        canvas.circle("f-bar-solid", at, 8.0);
        let (x, y) = at;
        canvas.raw(format_args!(
            "<path class=\"f-x\" d=\"M{} {}L{} {}L{} {}\"/>",
            px(x - 3.6),
            px(y + 0.2),
            px(x - 1.0),
            px(y + 3.0),
            px(x + 3.8),
            px(y - 3.2)
        ));
        "f-ok f-b"
    } else {
        canvas.circle("f-open", at, 8.0);
        canvas.text(Font::Small, "f-faint f-mid", (at.0, at.1 + 4.0), 12.0, "?");
        "f-faint f-b"
    };
    canvas.line("f-dot", (at.0 + 12.0, at.1), (words_x - 8.0, at.1));
    canvas.text(Font::Plain, class, (words_x, at.1 + 4.0), WORDS, &line);
}

/// What the shapes mean; gives the height used.
fn legend(canvas: &mut Canvas, rows: &[Row<'_>], y: f64, room: f64) -> f64 {
    let mut x = MARGIN + 6.0;
    let seen = |wanted: &dyn Fn(&str) -> bool| rows.iter().any(|row| wanted(&row.step.context));
    let shapes: [(&str, &str, bool); 4] = [
        ("softirq", "softirq", seen(&|context| context == "softirq")),
        ("hardirq", "hardirq", seen(&|context| context == "hardirq")),
        ("task", "task", seen(&|context| !matches!(context, "" | "softirq" | "hardirq"))),
        ("", "context unknown", seen(&str::is_empty)),
    ];
    for (context, name, shown) in shapes {
        if shown {
            mark(canvas, context, (x, y - 4.0));
            canvas.text(Font::Small, "f-faint", (x + 12.0, y), 120.0, name);
            x += 12.0 + Font::Small.width(name) + 22.0;
        }
    }
    let mut line =
        "gaps grow with the logarithm of the time, bars are proportional to it".to_owned();
    if rows.iter().any(|row| row.step.stack_evidence == "inferred") {
        line.push_str(" · ~ stack learned for this path, not taken at this event");
    }
    if rows.iter().any(|row| row.step.stack_evidence == "contradicted") {
        line.push_str(" · ! stack differs from the learned one");
    }
    canvas.text(Font::Small, "f-faint", (x, y), room - x + MARGIN, &line);
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_a_device_is_where_the_packet_was() {
        for (seen, expected) in [
            ("a a b b", "a a b b"),
            ("- a - b - -", "a a a b b b"),
            ("- -", "- -"),
            ("a - c a -", "a a c a a"),
        ] {
            let step = |netns: &str| JourneyStep {
                netns: netns.trim_matches('-').to_owned(),
                ..JourneyStep::default()
            };
            let steps: Vec<JourneyStep> = seen.split(' ').map(step).collect();
            let steps: Vec<&JourneyStep> = steps.iter().collect();
            let words: Vec<&str> = namespaces(&steps)
                .into_iter()
                .map(|netns| if netns.is_empty() { "-" } else { netns })
                .collect();
            assert_eq!(words.join(" "), expected, "{seen}");
        }
    }
}
