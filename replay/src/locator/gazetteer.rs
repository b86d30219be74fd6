//! What is known about an address beside the packets: registries, tables, and the user's databases.

use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{Reader, geoip2};

use super::coordinates::{self, Place};
use super::prefixes::{BlockList, announced};
use super::{anycast, countries, place};

/// Kilometres by which a city database's point may be off where it does not say: its coordinates are a
/// city's centre, and cities are as wide as this.
const CITY_KM: u64 = 100;

/// A MaxMind DB that the user named: city or country, or ASN.
#[derive(Clone)]
pub struct Database {
    name: String,
    reader: Arc<Reader<Vec<u8>>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.name)
    }
}

impl Database {
    /// Takes the bytes of an mmdb file; `name` is shown with what comes from it.
    pub fn new(name: &str, bytes: Vec<u8>) -> Result<Self, String> {
        let reader = Reader::from_source(bytes).map_err(|error| {
            format!("{name} is no MaxMind DB ({error}); give a .mmdb file as it was downloaded")
        })?;
        Ok(Self { name: name.to_owned(), reader: Arc::new(reader) })
    }

    fn attribution(&self) -> String {
        let metadata = &self.reader.metadata();
        format!(
            "{} ({}), the user's database: its licence and its errors are its own.",
            self.name, metadata.database_type
        )
    }
}

/// Where the user says that the recording was made.
#[derive(Clone, Debug, PartialEq)]
pub enum Here {
    /// Degrees north, degrees east.
    Point(f64, f64),
    /// ISO 3166 code.
    Country(String),
}

impl Here {
    /// `52.5,13.4`, or a country's code.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is no place: write degrees north and east (52.5,13.4) or a country's code (DE)"
            )
        };
        if let Some((north, east)) = text.split_once(',') {
            let number = |part: &str, most: f64| {
                part.trim().parse().ok().filter(|value: &f64| value.abs() <= most)
            };
            let north = number(north, 90.0).ok_or_else(bad)?;
            return Ok(Self::Point(north, number(east, 180.0).ok_or_else(bad)?));
        }
        let code = text.trim().to_ascii_uppercase();
        match coordinates::label(&code) {
            Some(_) => Ok(Self::Country(code)),
            None => Err(bad()),
        }
    }
}

/// Everything that names an address.
#[derive(Clone, Debug, Default)]
pub struct Gazetteer {
    /// The user's city or country database.
    pub cities: Option<Database>,
    /// The user's ASN database.
    pub networks: Option<Database>,
    /// The user's block lists.
    pub listed: BlockList,
}

/// What is known about one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) scope: &'static str,
    /// ISO 3166 code, empty when none.
    pub(super) country: String,
    pub(super) country_name: String,
    /// `registered`, or the database's name.
    pub(super) country_from: String,
    pub(super) city: String,
    pub(super) asn: Option<u32>,
    pub(super) as_name: String,
    pub(super) anycast: &'static str,
    pub(super) listed: String,
    pub(super) prefix: String,
    pub(super) point: Option<Point>,
}

/// A point that a city database claims.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) place: Place,
    pub(super) within_km: u64,
}

impl Gazetteer {
    pub(super) fn look_up(&self, address: IpAddr) -> Entry {
        let scope = place::scope(address);
        let mut entry = Entry {
            scope,
            anycast: anycast::service(address).unwrap_or_default(),
            listed: self.listed.covers(address).unwrap_or_default(),
            ..Entry::default()
        };
        if scope == place::GLOBAL {
            entry.prefix = announced(address);
            if let Some(code) = place::registered_country(address) {
                code.clone_into(&mut entry.country);
                "registered".clone_into(&mut entry.country_from);
            }
        }
        // A user's database may well say something about private addresses: their own plan.
        if let Some(database) = &self.cities {
            city(database, address, &mut entry);
        }
        if let Some(database) = &self.networks {
            let found = database.reader.lookup(address);
            if let Ok(Some(asn)) = found.and_then(|found| found.decode::<geoip2::Asn<'_>>()) {
                entry.asn = asn.autonomous_system_number;
                entry.as_name = asn
                    .autonomous_system_organization
                    .unwrap_or_default()
                    .chars()
                    .take(80)
                    .collect();
            }
        }
        entry.country_name = countries::name(&entry.country).unwrap_or_default().to_owned();
        entry
    }

    /// Attributions of what was used beside the registries' data.
    pub(super) fn sources(&self) -> Vec<String> {
        [&self.cities, &self.networks].into_iter().flatten().map(Database::attribution).collect()
    }
}

fn city(database: &Database, address: IpAddr, entry: &mut Entry) {
    let found = database.reader.lookup(address);
    let Ok(Some(city)) = found.and_then(|found| found.decode::<geoip2::City<'_>>()) else { return };
    // Two capitals, or the file's own words would be taken for a code.
    let code = city.country.iso_code.filter(|code| code.len() == 2 && code.is_ascii());
    if let Some(code) = code {
        entry.country = code.to_ascii_uppercase();
        entry.country_from.clone_from(&database.name);
    }
    entry.city = city.city.names.english.unwrap_or_default().chars().take(80).collect();
    if let (Some(north), Some(east)) = (city.location.latitude, city.location.longitude)
        && north.abs() <= 90.0
        && east.abs() <= 180.0
    {
        let within_km =
            city.location.accuracy_radius.map_or(CITY_KM, |km| u64::from(km).max(CITY_KM));
        entry.point = Some(Point { place: (north, east), within_km });
    }
}

impl Entry {
    /// Where it is drawn, and from what; nothing for anycast, which is in many places.
    pub(super) fn drawn(&self) -> Option<(Place, &'static str)> {
        if let Some(point) = self.point {
            return Some((point.place, "city database"));
        }
        if !self.anycast.is_empty() {
            return None;
        }
        let from = if self.country_from == "registered" {
            "registered country"
        } else {
            "country database"
        };
        Some((coordinates::label(&self.country)?, from))
    }

    /// What is claimed, in words; empty when nothing is.
    pub(super) fn claim(&self) -> String {
        let country = if self.country_name.is_empty() { &self.country } else { &self.country_name };
        match (&self.point, self.city.is_empty(), country.is_empty()) {
            (_, _, true) => String::new(),
            (_, false, _) => format!("in {}, {country} ({})", self.city, self.country_from),
            (None, ..) if self.country_from == "registered" => format!("registered in {country}"),
            (Some(_), true, _) | (None, ..) => format!("in {country} ({})", self.country_from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ip;

    #[test]
    fn here_is_a_point_or_a_country() {
        assert_eq!(Here::parse("52.5, 13.4"), Ok(Here::Point(52.5, 13.4)));
        assert_eq!(Here::parse("de"), Ok(Here::Country("DE".to_owned())));
        for bad in ["", "91,0", "0,181", "XX", "EU", "Berlin", "1,2,3", "nan,0"] {
            assert!(Here::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_an_error_with_a_way_out() {
        let error = Database::new("x.mmdb", b"not a database".to_vec()).expect_err("no database");
        assert!(error.contains("x.mmdb is no MaxMind DB"), "{error}");
    }

    #[test]
    fn anycast_is_not_drawn_and_the_rest_where_it_is_registered() {
        let gazetteer = Gazetteer::default();
        let cloud = gazetteer.look_up(ip("1.1.1.1"));
        assert_eq!((cloud.country.as_str(), cloud.anycast), ("AU", "Cloudflare resolver"));
        assert_eq!(cloud.drawn(), None);
        let ripe = gazetteer.look_up(ip("193.0.6.139"));
        assert_eq!(ripe.claim(), "registered in Netherlands");
        assert_eq!(ripe.drawn().map(|drawn| drawn.1), Some("registered country"));
        assert_eq!(ripe.prefix, "193.0.6.0/24");
        let own = gazetteer.look_up(ip("10.0.0.1"));
        assert_eq!((own.scope, own.claim().as_str(), own.prefix.as_str()), ("private", "", ""));
    }

    /// A database of one IPv4 prefix, by the format's specification 2.0
    /// (<https://maxmind.github.io/MaxMind-DB/>): a chain of nodes of 24-bit records, the data, the metadata.
    fn database(prefix: [u8; 3], kind: &str, data: &[u8]) -> Vec<u8> {
        let bits = 24_u32;
        let mut file = Vec::new();
        for depth in 0..bits {
            let bit = prefix[depth as usize / 8] >> (7 - depth % 8) & 1;
            let next = if depth + 1 == bits { bits + 16 } else { depth + 1 };
            let mut records = [bits, bits];
            records[usize::from(bit)] = next;
            for record in records {
                file.extend_from_slice(&record.to_be_bytes()[1..]);
            }
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        let number = |kind: u8, value: u8| vec![kind << 5 | 1, value];
        let fields = [
            ("node_count", number(6, bits as u8)),
            ("record_size", number(5, 24)),
            ("ip_version", number(5, 4)),
            ("database_type", text(kind)),
            ("languages", vec![0, 4]),
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", vec![5 << 5]),
            ("build_epoch", vec![1, 2, 1]),
            ("description", vec![7 << 5]),
        ];
        file.extend(map(&fields));
        file
    }

    fn text(text: &str) -> Vec<u8> {
        // Lengths from 29 on are told by another byte.
        assert!(text.len() < 29 + 256);
        let mut out = vec![2 << 5 | text.len().min(29) as u8];
        out.extend(text.len().checked_sub(29).map(|more| more as u8));
        out.extend(text.as_bytes());
        out
    }

    fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![7 << 5 | fields.len() as u8];
        for (name, value) in fields {
            out.extend(text(name));
            out.extend(value);
        }
        out
    }

    fn double(value: f64) -> Vec<u8> {
        let mut out = vec![3 << 5 | 8];
        out.extend(value.to_be_bytes());
        out
    }

    #[test]
    fn the_users_databases_go_before_the_registries() {
        let place = map(&[
            ("city", map(&[("names", map(&[("en", text("Berlin"))]))])),
            ("country", map(&[("iso_code", text("DE"))])),
            ("location", map(&[("latitude", double(52.5)), ("longitude", double(13.4))])),
        ]);
        let network = map(&[
            ("autonomous_system_number", vec![6 << 5 | 2, 0xfd, 0xe8]),
            ("autonomous_system_organization", text("Example Net")),
        ]);
        let gazetteer = Gazetteer {
            cities: Some(
                Database::new("city.mmdb", database([193, 0, 6], "Test-City", &place))
                    .expect("a database"),
            ),
            networks: Some(
                Database::new("asn.mmdb", database([193, 0, 6], "Test-ASN", &network))
                    .expect("a database"),
            ),
            ..Gazetteer::default()
        };
        let inside = gazetteer.look_up(ip("193.0.6.139"));
        assert_eq!((inside.country.as_str(), inside.city.as_str()), ("DE", "Berlin"));
        assert_eq!(inside.drawn(), Some(((52.5, 13.4), "city database")));
        assert_eq!((inside.asn, inside.as_name.as_str()), (Some(65_000), "Example Net"));
        assert_eq!(inside.claim(), "in Berlin, Germany (city.mmdb)");
        let outside = gazetteer.look_up(ip("193.0.14.1"));
        assert_eq!((outside.country_from.as_str(), outside.asn), ("registered", None));
        assert_eq!(gazetteer.sources().len(), 2);
        // Every cut of a database is an error or an answer, never a panic.
        let whole = database([193, 0, 6], "Test-City", &place);
        for end in 0..whole.len() {
            if let Ok(cut) = Database::new("cut.mmdb", whole[..end].to_vec()) {
                let gazetteer = Gazetteer { cities: Some(cut), ..Gazetteer::default() };
                gazetteer.look_up(ip("193.0.6.139"));
            }
        }
    }
}
