//! Draws the fixtures' views into a directory, to be looked at: every figure, text and the page.

use std::path::PathBuf;

#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: sample DIRECTORY")?);
    std::fs::create_dir_all(&dir)?;
    for (name, figure) in fixtures::figures() {
        std::fs::write(dir.join(format!("{name}.svg")), figure)?;
    }
    let mut page = String::new();
    psc_reports::html::report(
        &fixtures::trace(),
        &fixtures::analyze(),
        &fixtures::locate(),
        &fixtures::detect(),
        &mut page,
    )?;
    std::fs::write(dir.join("report.html"), page)?;
    Ok(())
}
