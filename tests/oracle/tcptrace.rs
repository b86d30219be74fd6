//! What tcptrace says of each TCP connection.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::output;

/// One connection: ends `address:port`, figures by column name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) ends: [String; 2],
    figures: BTreeMap<String, String>,
}

impl Connection {
    /// A figure of one direction (0 from the first end).
    pub(crate) fn get(&self, name: &str, from: usize) -> Option<f64> {
        let suffix = ["a2b", "b2a"][from];
        self.figures.get(&format!("{name}_{suffix}"))?.parse().ok()
    }
}

/// Connections in the order of their first packets.
pub(crate) fn read(capture: &Path) -> Result<Vec<Connection>, String> {
    let mut command = Command::new("tcptrace");
    let text = output(command.args(["-lrW", "-n", "--csv"]).arg(capture))?;
    let mut rows = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let Some(header) = rows.next() else { return Ok(Vec::new()) };
    let columns: Vec<&str> = header.split(',').map(str::trim).collect();
    let mut connections = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split(',').map(str::trim).collect();
        if cells.len() + 1 < columns.len() || cells[0].parse::<u64>().is_err() {
            continue;
        }
        let end = |host: &str, port: &str| {
            let host: Option<std::net::IpAddr> = host.parse().ok();
            let port: Option<u16> = port.parse().ok();
            host.zip(port).map(|ends| std::net::SocketAddr::from(ends).to_string())
        };
        let (Some(a), Some(b)) = (end(cells[1], cells[3]), end(cells[2], cells[4])) else {
            continue;
        };
        let figures = columns
            .iter()
            .zip(&cells)
            .map(|(column, cell)| ((*column).to_owned(), (*cell).to_owned()))
            .collect();
        connections.push(Connection { ends: [a, b], figures });
    }
    Ok(connections)
}
