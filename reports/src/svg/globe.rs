//! The earth on paper: a projection, great circles, and the land.
//!
//! The projection is Natural Earth (Šavrič, Jenny, Patterson, Petrovič, Hurni: "A Polynomial Equation for the
//! Natural Earth Projection", 2011): no shape is torn, no area inflated as Mercator does. The land is
//! `assets/countries-110m.json`, read as TopoJSON 1.0 (<https://github.com/topojson/topojson-specification>).

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::Value;

use super::canvas::px;

/// Degrees north, degrees east.
pub(super) type Place = (f64, f64);

const ATLAS: &str = include_str!("../../assets/countries-110m.json");

/// Half the width and half the height of the projected earth, radii.
const HALF: (f64, f64) = (0.8707 * std::f64::consts::PI, 1.422_238);

/// A map's frame on the figure.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    left: f64,
    top: f64,
    scale: f64,
}

impl Frame {
    /// As wide as `width`, its corner at (`left`, `top`).
    pub(super) fn new(left: f64, top: f64, width: f64) -> Self {
        Self { left, top, scale: width / (2.0 * HALF.0) }
    }

    pub(super) fn height(self) -> f64 {
        2.0 * HALF.1 * self.scale
    }

    /// Pixels of a place.
    pub(super) fn project(self, (north, east): Place) -> (f64, f64) {
        let (x, y) = natural_earth(north.to_radians(), east.to_radians());
        (self.left + (x + HALF.0) * self.scale, self.top + (HALF.1 - y) * self.scale)
    }

    /// The edge of the earth.
    pub(super) fn outline(self) -> String {
        let norths = || (0..=36).map(|step| 90.0 - f64::from(step) * 5.0);
        let east: Vec<(f64, f64)> = norths().map(|north| (north, 180.0)).collect();
        let west: Vec<(f64, f64)> = norths().rev().map(|north| (north, -180.0)).collect();
        let all: Vec<(f64, f64)> = east.into_iter().chain(west).map(|p| self.project(p)).collect();
        closed(&all)
    }

    /// All land, one path of closed rings.
    pub(super) fn land(self) -> String {
        let mut path = String::new();
        for ring in LAND.iter() {
            let points: Vec<(f64, f64)> =
                ring.iter().map(|(east, north)| self.project((*north, *east))).collect();
            path.push_str(&closed(&points));
        }
        path
    }

    /// The shortest way between two places, in pieces where it leaves the map at one side and comes
    /// back at the other.
    pub(super) fn great_circle(self, from: Place, to: Place) -> String {
        let mut path = String::new();
        for piece in pieces(&along(from, to)) {
            let points: Vec<(f64, f64)> = piece.into_iter().map(|p| self.project(p)).collect();
            path.push_str(&open(&points));
        }
        path
    }
}

/// Radians to radii of the earth.
fn natural_earth(phi: f64, lambda: f64) -> (f64, f64) {
    let p2 = phi * phi;
    let p4 = p2 * p2;
    let x = lambda
        * (0.8707 - 0.131_979 * p2 + p4 * (-0.013_791 + p4 * (0.003_971 * p2 - 0.001_529 * p4)));
    let y =
        phi * (1.007_226 + p2 * (0.015_085 + p4 * (-0.044_475 + 0.028_874 * p2 - 0.005_916 * p4)));
    (x, y)
}

/// Points of the great circle, close enough that the polyline looks like a curve.
fn along(from: Place, to: Place) -> Vec<Place> {
    let vector = |(north, east): Place| {
        let (north, east) = (north.to_radians(), east.to_radians());
        [north.cos() * east.cos(), north.cos() * east.sin(), north.sin()]
    };
    let (a, b) = (vector(from), vector(to));
    let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let angle = dot.clamp(-1.0, 1.0).acos();
    // Between antipodes every way is the shortest: a straight line on the map is as true as any.
    if angle < 1e-6 || std::f64::consts::PI - angle < 1e-3 {
        return vec![from, to];
    }
    let steps = ((angle.to_degrees() / 4.0).ceil() as usize).clamp(2, 45);
    (0..=steps)
        .map(|step| {
            let part = step as f64 / steps as f64;
            let (wa, wb) =
                (((1.0 - part) * angle).sin() / angle.sin(), (part * angle).sin() / angle.sin());
            let at = [0, 1, 2].map(|axis| wa * a[axis] + wb * b[axis]);
            (at[2].atan2(at[0].hypot(at[1])).to_degrees(), at[1].atan2(at[0]).to_degrees())
        })
        .collect()
}

/// Cuts where the way crosses 180 degrees.
fn pieces(way: &[Place]) -> Vec<Vec<Place>> {
    let mut all: Vec<Vec<Place>> = Vec::new();
    let mut piece: Vec<Place> = Vec::new();
    for &(north, east) in way {
        if let Some(&(north_before, east_before)) = piece.last()
            && (east - east_before).abs() > 180.0
        {
            let side = 180.0f64.copysign(east_before);
            let unwrapped = east + 360.0f64.copysign(east_before);
            let span = unwrapped - east_before;
            let part = if span.abs() < 1e-9 { 0.0 } else { (side - east_before) / span };
            let edge = north_before + (north - north_before) * part;
            piece.push((edge, side));
            all.push(std::mem::take(&mut piece));
            piece.push((edge, -side));
        }
        piece.push((north, east));
    }
    all.push(piece);
    all
}

/// A line as steps in tenths of a pixel, which are shorter to write than places.
fn open(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut before = (0, 0);
    for (index, (x, y)) in points.iter().enumerate() {
        let at = ((x * 10.0).round() as i64, (y * 10.0).round() as i64);
        let tenths = |value: i64| px(value as f64 / 10.0);
        let (dx, dy) = (at.0 - before.0, at.1 - before.1);
        let _ = match index {
            0 => write!(path, "M{} {}", tenths(at.0), tenths(at.1)),
            1 => write!(path, "l{} {}", tenths(dx), tenths(dy)),
            _ => write!(path, " {} {}", tenths(dx), tenths(dy)),
        };
        before = at;
    }
    path
}

/// A ring, without points that fall on the pixel before.
fn closed(points: &[(f64, f64)]) -> String {
    let mut kept: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for point in points {
        let near = kept
            .last()
            .is_some_and(|last| (last.0 - point.0).abs() < 0.7 && (last.1 - point.1).abs() < 0.7);
        if !near {
            kept.push(*point);
        }
    }
    // What is smaller than a pixel is not drawn.
    if kept.len() < 3 {
        return String::new();
    }
    let mut path = open(&kept);
    path.push('Z');
    path
}

type Ring = Vec<(f64, f64)>;

/// Outer and inner rings of all countries, (east, north), cut at 180 degrees.
static LAND: LazyLock<Vec<Ring>> = LazyLock::new(|| {
    // The asset is ours and a test reads it: without it there is a map without land.
    serde_json::from_str(ATLAS).ok().and_then(|atlas| rings(&atlas)).unwrap_or_default()
});

fn pair(value: &Value) -> Option<(f64, f64)> {
    Some((value.get(0)?.as_f64()?, value.get(1)?.as_f64()?))
}

fn rings(atlas: &Value) -> Option<Vec<Ring>> {
    let scale = pair(&atlas["transform"]["scale"])?;
    let translate = pair(&atlas["transform"]["translate"])?;
    let arcs: Option<Vec<Ring>> = atlas["arcs"]
        .as_array()?
        .iter()
        .map(|arc| {
            let (mut x, mut y) = (0.0, 0.0);
            let points = arc.as_array()?.iter().map(|delta| {
                let (dx, dy) = pair(delta)?;
                (x, y) = (x + dx, y + dy);
                Some((x * scale.0 + translate.0, y * scale.1 + translate.1))
            });
            points.collect()
        })
        .collect();
    let arcs = arcs?;
    let mut all = Vec::new();
    for country in atlas["objects"]["countries"]["geometries"].as_array()? {
        let list = country["arcs"].as_array()?;
        let polygons: Vec<&Value> = match country["type"].as_str()? {
            "Polygon" => vec![&country["arcs"]],
            "MultiPolygon" => list.iter().collect(),
            _ => continue,
        };
        for ring in polygons.into_iter().filter_map(Value::as_array).flatten() {
            let mut points = Ring::new();
            for index in ring.as_array()? {
                let index = index.as_i64()?;
                let arc = arcs.get(if index < 0 { !index } else { index } as usize)?;
                let skip = usize::from(!points.is_empty());
                if index < 0 {
                    points.extend(arc.iter().rev().skip(skip));
                } else {
                    points.extend(arc.iter().skip(skip));
                }
            }
            all.extend(cut(&points));
        }
    }
    Some(all)
}

/// A ring as rings that stay within 180 degrees. Rings that go around a pole are closed along its edge
/// of the map.
fn cut(ring: &Ring) -> Vec<Ring> {
    let mut unwrapped = Ring::with_capacity(ring.len());
    for &(east, north) in ring {
        let mut east = east;
        if let Some(&(before, _)) = unwrapped.last() {
            east += ((before - east) / 360.0).round() * 360.0;
        }
        unwrapped.push((east, north));
    }
    let (Some(first), Some(last)) = (unwrapped.first().copied(), unwrapped.last().copied()) else {
        return Vec::new();
    };
    if (last.0 - first.0).abs() > 180.0 {
        let pole = 90.0f64.copysign(first.1);
        unwrapped.push((last.0, pole));
        unwrapped.push((first.0, pole));
    }
    let shifted = |by: f64| -> Ring { unwrapped.iter().map(|(e, n)| (e + by, *n)).collect() };
    [-360.0, 0.0, 360.0]
        .into_iter()
        .map(|by| clip(&clip(&shifted(by), -180.0, 1.0), 180.0, -1.0))
        .filter(|ring| ring.len() >= 3)
        .collect()
}

/// What of a ring lies on one side of a meridian (Sutherland and Hodgman).
fn clip(ring: &Ring, at: f64, sign: f64) -> Ring {
    let mut out = Ring::new();
    let inside = |point: &(f64, f64)| (point.0 - at) * sign >= 0.0;
    for (index, point) in ring.iter().enumerate() {
        let before = &ring[(index + ring.len() - 1) % ring.len()];
        if inside(before) != inside(point) {
            let part = (at - before.0) / (point.0 - before.0);
            let north = before.1 + (point.1 - before.1) * part;
            // The edge of the map is curved: follow it between two cuts.
            if let Some(&(east, from)) = out.last()
                && (east - at).abs() < 1e-9
            {
                let steps = ((north - from).abs() / 5.0) as usize;
                for step in 1..=steps {
                    out.push((at, from + (north - from) * step as f64 / (steps + 1) as f64));
                }
            }
            out.push((at, north));
        }
        if inside(point) {
            out.push(*point);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the paper's own table of coefficients, by d3-geo's `geoNaturalEarth1`.
    #[test]
    fn places_are_where_the_projection_puts_them() {
        let frame = Frame::new(0.0, 0.0, 1000.0);
        let cases = [
            ((0.0, 0.0), (500.0, 260.0)),
            ((0.0, 180.0), (1000.0, 260.0)),
            ((0.0, -180.0), (0.0, 260.0)),
            ((90.0, 0.0), (500.0, 0.0)),
            ((-90.0, 0.0), (500.0, 520.0)),
        ];
        for (place, (x, y)) in cases {
            let (px, py) = frame.project(place);
            assert!((px - x).abs() < 0.5 && (py - y).abs() < 0.7, "{place:?}: {px} {py}");
        }
        // North is up, east is right, and poles are shorter than the equator.
        let (x, _) = frame.project((85.0, 180.0));
        assert!(x > 780.0 && x < 840.0, "{x}");
    }

    #[test]
    fn the_land_is_all_there_and_on_the_map() {
        assert!(LAND.len() > 280, "{} rings", LAND.len());
        for ring in LAND.iter() {
            for (east, north) in ring {
                assert!(east.abs() <= 180.0 + 1e-9 && north.abs() <= 90.0 + 1e-9, "{east} {north}");
            }
            // Nothing is smeared across the map: neighbours are near, but along its edge and the pole.
            for pair in ring.windows(2) {
                let edge = pair[0].1.abs() > 89.9 && pair[1].1.abs() > 89.9;
                assert!(edge || (pair[0].0 - pair[1].0).abs() < 60.0, "{pair:?}");
            }
        }
        let land = Frame::new(0.0, 0.0, 960.0).land();
        assert!(land.len() < 90_000, "{} bytes", land.len());
    }

    #[test]
    fn arcs_are_split_at_the_antimeridian_and_nowhere_else() {
        #[rustfmt::skip]
        let cases = [
            ("Tokyo to San Francisco", (35.7, 139.7), (37.8, -122.4), 2),
            ("San Francisco to Tokyo", (37.8, -122.4), (35.7, 139.7), 2),
            ("London to New York",     (51.5, -0.1),  (40.7, -74.0),  1),
            ("Auckland to Santiago",   (-36.8, 174.8), (-33.4, -70.7), 2),
            ("a point to itself",      (10.0, 10.0),  (10.0, 10.0),   1),
            ("antipodes",              (0.0, 0.0),    (0.0, 180.0),   1),
        ];
        for (name, from, to, expected) in cases {
            let pieces = pieces(&along(from, to));
            assert_eq!(pieces.len(), expected, "{name}");
            for piece in &pieces {
                for pair in piece.windows(2) {
                    assert!((pair[0].1 - pair[1].1).abs() <= 180.0, "{name}: {pair:?}");
                }
            }
            if expected == 2 {
                assert_eq!(pieces[0].last().map(|p| p.1.abs()), Some(180.0), "{name}");
                assert_eq!(pieces[1].first().map(|p| p.1.abs()), Some(180.0), "{name}");
            }
        }
        // The way from Tokyo to San Francisco goes north of both.
        let most = along((35.7, 139.7), (37.8, -122.4)).iter().map(|p| p.0).fold(0.0, f64::max);
        assert!(most > 45.0, "{most}");
    }
}
