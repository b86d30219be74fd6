//! Columns of integers: how one is written in the fewest bytes that are quick to read.

use rustc_hash::FxHashMap;

use super::v1::EventsV1;

/// How the numbers of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Coding {
    /// Every row is the base: no data.
    Constant = 0,
    /// Base plus a number of `width` bytes: all lowest bytes first, then all second bytes...
    Planes = 1,
    /// A number of `width` bytes, stored as planes: a row of the column's dictionary.
    Dictionary = 2,
}

impl Coding {
    fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Constant,
            1 => Self::Planes,
            2 => Self::Dictionary,
            _ => return None,
        })
    }
}

/// Most values that a dictionary is tried for: above, planes are as small after zstd.
const DICTIONARY: usize = 256;

/// Appends one column to a payload.
pub(super) fn put(out: &mut EventsV1, values: &[u64], distinct: &mut FxHashMap<u64, u64>) {
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(0);
    out.column_rows.push(values.len() as u32);
    out.column_base.push(min);
    let width = width_of(max - min);
    if width > 1 && dictionary(values, distinct) {
        // In order of appearance, so that the same events give the same bytes.
        let start = out.dictionary.len();
        let entries = distinct.len();
        out.dictionary.resize(start + entries, 0);
        for (value, index) in distinct.iter() {
            out.dictionary[start + *index as usize] = *value;
        }
        out.column_coding.push(Coding::Dictionary as u8);
        out.column_width.push(1);
        out.column_dictionary.push(entries as u32);
        out.data.extend(values.iter().map(|value| distinct[value] as u8));
        return;
    }
    out.column_coding.push(if width == 0 { Coding::Constant } else { Coding::Planes } as u8);
    out.column_width.push(width);
    out.column_dictionary.push(0);
    for plane in 0..width {
        out.data.extend(values.iter().map(|value| ((value - min) >> (plane * 8)) as u8));
    }
}

/// Appends a column of single bytes.
pub(super) fn put_bytes(out: &mut EventsV1, values: &[u8]) {
    out.column_rows.push(values.len() as u32);
    out.column_base.push(0);
    out.column_coding.push(Coding::Planes as u8);
    out.column_width.push(1);
    out.column_dictionary.push(0);
    out.data.extend_from_slice(values);
}

fn width_of(range: u64) -> u8 {
    (64 - range.leading_zeros()).div_ceil(8) as u8
}

/// Numbers the distinct values by appearance; `false` when there are too many.
fn dictionary(values: &[u64], distinct: &mut FxHashMap<u64, u64>) -> bool {
    distinct.clear();
    // A dictionary pays for its eight bytes an entry only when entries repeat.
    let limit = DICTIONARY.min(values.len() / 4);
    for value in values {
        let next = distinct.len() as u64;
        distinct.entry(*value).or_insert(next);
        if distinct.len() > limit {
            return false;
        }
    }
    true
}

/// The columns of a payload, checked to be where their directory says.
pub(super) struct Columns<'a> {
    coding: &'a [u8],
    width: &'a [u8],
    rows: &'a [u32le],
    base: &'a [u64le],
    entries: &'a [u32le],
    dictionary: &'a [u64le],
    data: &'a [u8],
    next: usize,
}

#[allow(non_camel_case_types)]
type u32le = rkyv::rend::u32_le;
#[allow(non_camel_case_types)]
type u64le = rkyv::rend::u64_le;

/// One column as it lies in the payload.
pub(super) struct Column<'a> {
    coding: Coding,
    base: u64,
    dictionary: &'a [u64le],
    /// `width` planes of `rows` bytes.
    data: &'a [u8],
    rows: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn new(payload: &'a super::v1::ArchivedEventsV1) -> Result<Self, String> {
        let this = Self {
            coding: payload.column_coding.as_slice(),
            width: payload.column_width.as_slice(),
            rows: payload.column_rows.as_slice(),
            base: payload.column_base.as_slice(),
            entries: payload.column_dictionary.as_slice(),
            dictionary: payload.dictionary.as_slice(),
            data: payload.data.as_slice(),
            next: 0,
        };
        let columns = this.coding.len();
        if [this.width.len(), this.rows.len(), this.base.len(), this.entries.len()]
            .iter()
            .any(|&len| len != columns)
        {
            return Err("the column directory is uneven".to_owned());
        }
        Ok(this)
    }

    /// The next column, which must have `rows` rows.
    pub(super) fn next(&mut self, rows: usize) -> Result<Column<'a>, String> {
        let index = self.next;
        let (Some(&coding), Some(&width)) = (self.coding.get(index), self.width.get(index)) else {
            return Err(format!("column {index} is missing"));
        };
        self.next += 1;
        if self.rows[index].to_native() as usize != rows {
            return Err(format!(
                "column {index} has {} rows where {rows} were expected",
                self.rows[index]
            ));
        }
        let coding = Coding::from_u8(coding)
            .ok_or_else(|| format!("column {index} has unknown coding {coding}"))?;
        if width > 8 || (coding == Coding::Constant && width != 0) {
            return Err(format!("column {index} has impossible width {width}"));
        }
        let (data, rest) = self
            .data
            .split_at_checked(rows * usize::from(width))
            .ok_or_else(|| format!("column {index} is longer than the data"))?;
        let (dictionary, dictionary_rest) = self
            .dictionary
            .split_at_checked(self.entries[index].to_native() as usize)
            .ok_or_else(|| format!("column {index} is longer than the dictionaries"))?;
        self.data = rest;
        self.dictionary = dictionary_rest;
        Ok(Column { coding, base: self.base[index].to_native(), dictionary, data, rows })
    }

    /// Whether every column and byte has been taken.
    pub(super) fn finish(self) -> Result<(), String> {
        if self.next != self.coding.len() || !self.data.is_empty() || !self.dictionary.is_empty() {
            return Err("there are more columns than the events need".to_owned());
        }
        Ok(())
    }
}

impl Column<'_> {
    /// Appends the rows to `out`.
    pub(super) fn read(&self, out: &mut Vec<u64>) -> Result<(), String> {
        let start = out.len();
        match self.coding {
            Coding::Constant => out.resize(start + self.rows, self.base),
            Coding::Planes | Coding::Dictionary => {
                out.resize(start + self.rows, 0);
                self.gather(&mut out[start..]);
            }
        }
        if self.coding == Coding::Dictionary {
            for value in &mut out[start..] {
                let entry = usize::try_from(*value).ok().and_then(|at| self.dictionary.get(at));
                *value = entry.ok_or("a dictionary index is out of range")?.to_native();
            }
        } else if self.coding == Coding::Planes {
            for value in &mut out[start..] {
                *value = value.wrapping_add(self.base);
            }
        }
        Ok(())
    }

    /// Puts the planes together. The narrow widths are what nearly all columns have.
    fn gather(&self, out: &mut [u64]) {
        if self.rows == 0 {
            return;
        }
        let mut planes = self.data.chunks_exact(self.rows);
        match self.data.len() / self.rows {
            1 => {
                for (value, low) in out.iter_mut().zip(self.data) {
                    *value = u64::from(*low);
                }
            }
            2 => {
                let (low, high) = self.data.split_at(self.rows);
                for ((value, low), high) in out.iter_mut().zip(low).zip(high) {
                    *value = u64::from(u16::from_le_bytes([*low, *high]));
                }
            }
            4 => {
                let (low, high) = self.data.split_at(self.rows * 2);
                let (a, b) = low.split_at(self.rows);
                let (c, d) = high.split_at(self.rows);
                for ((((value, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *value = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
                }
            }
            width => {
                for shift in 0..width {
                    let plane = planes.next().unwrap_or(&[]);
                    for (value, byte) in out.iter_mut().zip(plane) {
                        *value |= u64::from(*byte) << (shift * 8);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn roundtrip(values: &[u64]) -> Vec<u64> {
        let mut payload = EventsV1::default();
        put(&mut payload, values, &mut FxHashMap::default());
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&payload).unwrap();
        let archived =
            rkyv::access::<super::super::v1::ArchivedEventsV1, rkyv::rancor::Error>(&bytes)
                .unwrap();
        let mut columns = Columns::new(archived).unwrap();
        let mut out = Vec::new();
        columns.next(values.len()).unwrap().read(&mut out).unwrap();
        columns.finish().unwrap();
        out
    }

    proptest! {
        #[test]
        fn any_column_reads_back(
            base in any::<u64>(),
            shift in 0u32..64,
            steps in prop::collection::vec(any::<u64>(), 0..300),
        ) {
            let values: Vec<u64> = steps.iter().map(|s| base.wrapping_add(s >> shift)).collect();
            prop_assert_eq!(roundtrip(&values), values);
        }
    }

    #[test]
    fn few_distinct_wide_values_take_a_byte_each() {
        let values: Vec<u64> = (0..1000).map(|i| [1, 1 << 40, u64::MAX][i % 3]).collect();
        let mut payload = EventsV1::default();
        put(&mut payload, &values, &mut FxHashMap::default());
        assert_eq!((payload.data.len(), payload.dictionary.len()), (1000, 3));
        assert_eq!(roundtrip(&values), values);
    }
}
