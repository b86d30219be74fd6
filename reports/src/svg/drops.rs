//! Drops by reason and place, as bars.

use psc_replay::view::analyze::DropRow;

use super::Figure;
use super::canvas::{Canvas, Font, brief};
use crate::units;

/// Bars drawn; the rest is counted.
const BARS: usize = 20;
const WIDTH: f64 = 900.0;
const MARGIN: f64 = 20.0;
const ROW: f64 = 40.0;
/// Room for the count after the longest bar.
const COUNT: f64 = 190.0;

pub(super) fn figure(rows: &[DropRow]) -> Figure {
    let mut canvas = Canvas::default();
    let inner = WIDTH - 2.0 * MARGIN;
    let total = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.packets));
    let most = rows.iter().map(|row| row.packets).max().unwrap_or(0).max(1);
    canvas.text(Font::Title, "f-ink", (MARGIN, 30.0), inner, "Drops by reason and place");
    let about = if rows.is_empty() {
        "no drop was observed".to_owned()
    } else {
        format!("{} dropped by the kernel", units::counted(total, "packet", "packets"))
    };
    canvas.text(Font::Plain, "f-faint", (MARGIN, 50.0), inner, &about);
    let mut y = 66.0;
    for row in rows.iter().take(BARS) {
        let words = format!("{}  {}", row.reason, row.layer);
        canvas.text(Font::Plain, "f-ink f-b", (MARGIN, y + 13.0), inner * 0.5, &words);
        // Some devices' names say the namespace already: `eth0@web`.
        let said = row.device.strip_suffix(&row.netns).is_some_and(|device| device.ends_with('@'));
        let netns = if said { "" } else { row.netns.as_str() };
        let place = [row.location.as_str(), row.device.as_str(), netns];
        let place: Vec<&str> = place.into_iter().filter(|part| !part.is_empty()).collect();
        let start = MARGIN + inner * 0.5 + 10.0;
        canvas.text(
            Font::Mono,
            "f-faint",
            (start, y + 13.0),
            inner * 0.5 - 10.0,
            &place.join(" · "),
        );
        let long = ((inner - COUNT) * (row.packets as f64 / most as f64)).max(1.5);
        canvas.rect("f-bar-bad", (MARGIN, y + 19.0), (long, 12.0));
        let share = units::percent(row.packets, total);
        let count = format!("{} ({share})", units::counted(row.packets, "packet", "packets"));
        canvas.text(Font::Small, "f-ink", (MARGIN + long + 8.0, y + 29.0), COUNT - 8.0, &count);
        y += ROW;
    }
    if rows.len() > BARS {
        let rest = format!("{} rarer reasons and places not drawn", rows.len() - BARS);
        canvas.text(Font::Small, "f-faint", (MARGIN, y + 13.0), inner, &rest);
        y += 22.0;
    }
    let top = rows.first().map_or_else(String::new, |row| {
        format!(
            "; most for {} at {}, {}",
            brief(&row.reason, 60),
            brief(&row.location, 80),
            units::counted(row.packets, "packet", "packets")
        )
    });
    Figure {
        width: WIDTH,
        height: y + 14.0,
        title: "Drops by reason and place".to_owned(),
        description: format!("Bars of dropped packets: {about}{top}."),
        body: canvas.body,
        interactive: false,
    }
}
