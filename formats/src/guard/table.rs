//! All rows of a rule set, arranged for lookup.

use rustc_hash::FxHashMap;

use super::{Key, Keys, ValueSet, Width};

/// Different keys that one table may ask about: each costs a lookup per packet.
pub const MAX_DIMS: usize = 24;
/// Words of all vectors together at most: 256 MiB.
const MAX_VECTORS: usize = 32 << 20;
/// From so many edges on, 32-bit values are looked up by their first half first.
const STARTS_FROM: usize = 256;

/// A conjunction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The rule that it is part of. Rows come in the order of their rules.
    pub rule: u32,
    /// What it asks; a key at most once.
    pub tests: Vec<(Key, ValueSet)>,
}

/// How the values of a dimension are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `small[table + value]`.
    Small = 0,
    /// Search in `edges32`.
    Word = 1,
    /// Search in `edges64`, one word an edge.
    Mac = 2,
    /// Search in `edges64`, two words an edge.
    V6 = 3,
}

/// One key in use. All positions are indexes into the table's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim {
    /// The key.
    pub key: Key,
    /// How it is looked up.
    pub kind: Kind,
    /// Steps of the search.
    pub steps: u8,
    /// Start in `small` or of the edges (of the first word, for [`Kind::V6`]).
    pub table: u32,
    /// Start in `classes`.
    pub classes: u32,
    /// Start in `starts`, 65,536 entries by the upper half of the value; `None` searches all edges.
    pub starts: Option<u32>,
    /// Vector of packets without this key.
    pub absent: u32,
}

/// A rule set in the form that is walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTable {
    /// Keys in use.
    pub dims: Vec<Dim>,
    /// Rule of each row.
    pub rows: Vec<u32>,
    /// Words of a vector: one bit a row.
    pub words: usize,
    /// Words of a summary: one bit a word. A vector's summary stands before it.
    pub summary: usize,
    /// Vectors (positions in `vectors`) by small value.
    pub small: Vec<u32>,
    /// Where intervals start; each dimension's edges are followed by as many greatest values as the
    /// search may step over.
    pub edges32: Vec<u32>,
    /// The same, of wider values.
    pub edges64: Vec<u64>,
    /// Vectors by number of edges that are not above the value.
    pub classes: Vec<u32>,
    /// Edges below each upper half of a 32-bit value.
    pub starts: Vec<u32>,
    /// Summaries and vectors.
    pub vectors: Vec<u64>,
}

/// Why rows do not make a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Too many keys.
    #[error(
        "the rules ask about {0} different header fields, and {MAX_DIMS} is the most at once; split them over interfaces or ask about fewer"
    )]
    Dims(usize),
    /// Too much memory.
    #[error(
        "the rules need more than 256 MiB of tables ({rows} conjunctions, {classes} groups of values of {key:?}); merge rules that differ in one address or port only into sets"
    )]
    Memory {
        /// Rows.
        rows: usize,
        /// Classes of the dimension that did not fit.
        classes: usize,
        /// Which one that was.
        key: Key,
    },
}

/// Collects the vectors of one dimension.
struct Classes<'a> {
    table: &'a mut RuleTable,
    known: FxHashMap<Vec<u64>, u32>,
    key: Key,
}

impl Classes<'_> {
    fn of(&mut self, vector: &[u64]) -> Result<u32, TableError> {
        if let Some(&at) = self.known.get(vector) {
            return Ok(at);
        }
        let vectors = &mut self.table.vectors;
        if vectors.len() + self.table.summary + self.table.words > MAX_VECTORS {
            let (rows, classes) = (self.table.rows.len(), self.known.len());
            return Err(TableError::Memory { rows, classes, key: self.key });
        }
        let at = vectors.len() as u32;
        vectors.resize(vectors.len() + self.table.summary, 0);
        for (index, _) in vector.iter().enumerate().filter(|(_, word)| **word != 0) {
            vectors[at as usize + index / 64] |= 1 << (index % 64);
        }
        vectors.extend_from_slice(vector);
        self.known.insert(vector.to_vec(), at);
        Ok(at)
    }
}

fn set(vector: &mut [u64], row: u32, to: bool) {
    let (word, bit) = (&mut vector[row as usize / 64], 1 << (row % 64));
    if to {
        *word |= bit;
    } else {
        *word &= !bit;
    }
}

impl RuleTable {
    /// The table of `rows`.
    pub fn new(rows: &[Row]) -> Result<Self, TableError> {
        let words = rows.len().div_ceil(64);
        let mut table = Self {
            rows: rows.iter().map(|row| row.rule).collect(),
            words,
            summary: words.div_ceil(64),
            ..Self::default()
        };
        let mut used: Vec<Vec<(u32, &ValueSet)>> = vec![Vec::new(); super::KEYS];
        for (row, number) in rows.iter().zip(0..) {
            for (key, accepted) in &row.tests {
                used[*key as usize].push((number, accepted));
            }
        }
        let dims = used.iter().filter(|tests| !tests.is_empty()).count();
        if dims > MAX_DIMS {
            return Err(TableError::Dims(dims));
        }
        for (key, tests) in Key::ALL.iter().zip(&used) {
            if !tests.is_empty() {
                let dim = table.dimension(*key, tests)?;
                table.dims.push(dim);
            }
        }
        // Without a row there is nothing to look up; one vector keeps every position valid.
        if table.vectors.is_empty() {
            table.vectors.resize(table.summary + table.words + 1, 0);
            let mut all = vec![0; table.words];
            (0..rows.len() as u32).for_each(|row| set(&mut all, row, true));
            for (index, word) in all.into_iter().enumerate() {
                table.vectors[index / 64] |= u64::from(word != 0) << (index % 64);
                table.vectors[table.summary + index] = word;
            }
        }
        Ok(table)
    }

    fn dimension(&mut self, key: Key, tests: &[(u32, &ValueSet)]) -> Result<Dim, TableError> {
        // Rows that do not ask about this key accept every value of it.
        let mut vector = vec![0; self.words];
        (0..self.rows.len() as u32).for_each(|row| set(&mut vector, row, true));
        for (row, _) in tests {
            set(&mut vector, *row, false);
        }
        let mut absent = vector.clone();
        let mut changes: Vec<(u128, u32, bool)> = Vec::new();
        for &(row, accepted) in tests {
            set(&mut absent, row, accepted.absent());
            for &(from, to) in accepted.ranges() {
                changes.push((from, row, true));
                if let Some(after) = to.checked_add(1).filter(|after| *after <= key.width().max()) {
                    changes.push((after, row, false));
                }
            }
        }
        changes.sort_unstable();
        let mut classes = Classes { table: self, known: FxHashMap::default(), key };
        let absent = classes.of(&absent)?;
        // (first value, vector) of each interval, neighbours with the same vector merged.
        let mut intervals: Vec<(u128, u32)> = Vec::new();
        let mut changes = changes.into_iter().peekable();
        let mut at = Some(0);
        while let Some(start) = at {
            while let Some(&(point, row, to)) = changes.peek() {
                if point != start {
                    break;
                }
                set(&mut vector, row, to);
                changes.next();
            }
            let class = classes.of(&vector)?;
            if intervals.last().is_none_or(|(_, last)| *last != class) {
                intervals.push((start, class));
            }
            at = changes.peek().map(|(point, ..)| *point);
        }
        Ok(self.lookup(key, absent, &intervals))
    }

    /// Writes the intervals of a dimension where a value is looked up.
    fn lookup(&mut self, key: Key, absent: u32, intervals: &[(u128, u32)]) -> Dim {
        let width = key.width();
        let mut dim =
            Dim { key, kind: Kind::Small, steps: 0, table: 0, classes: 0, starts: None, absent };
        if let Width::Small(bits) = width {
            dim.table = self.small.len() as u32;
            let ends = intervals.iter().skip(1).map(|(from, _)| *from).chain([1 << bits]);
            for ((from, class), end) in intervals.iter().zip(ends) {
                self.small.extend(std::iter::repeat_n(*class, (end - from) as usize));
            }
            return dim;
        }
        let edges = &intervals[1..];
        let mut most = edges.len();
        dim.classes = self.classes.len() as u32;
        if width == Width::Word && edges.len() >= STARTS_FROM {
            dim.starts = Some(self.starts.len() as u32);
            let mut below = 0;
            most = 0;
            for upper in 0..=0xffff_u128 {
                // Edges at the first value of this half are found by the search.
                self.starts.push(below as u32);
                let end = edges[below..].partition_point(|(from, _)| from >> 16 <= upper);
                most = most.max(end);
                below += end;
            }
        }
        dim.steps = (usize::BITS - most.leading_zeros()) as u8;
        let beyond = (1_usize << dim.steps) - 1;
        self.classes.extend(intervals.iter().map(|(_, class)| *class));
        let last = intervals.last().map_or(absent, |(_, class)| *class);
        self.classes.extend(std::iter::repeat_n(last, beyond));
        match width {
            Width::Word | Width::Small(_) => {
                dim.kind = Kind::Word;
                dim.table = self.edges32.len() as u32;
                self.edges32.extend(edges.iter().map(|(from, _)| *from as u32));
                self.edges32.extend(std::iter::repeat_n(u32::MAX, beyond));
            }
            Width::Mac => {
                dim.kind = Kind::Mac;
                dim.table = self.edges64.len() as u32;
                self.edges64.extend(edges.iter().map(|(from, _)| *from as u64));
                // The search compares as signed differences, which 48 bits leave room for.
                self.edges64.extend(std::iter::repeat_n(1 << 62, beyond));
            }
            Width::V6 => {
                dim.kind = Kind::V6;
                dim.table = self.edges64.len() as u32;
                self.edges64
                    .extend(edges.iter().flat_map(|(from, _)| [(from >> 64) as u64, *from as u64]));
                self.edges64.extend(std::iter::repeat_n(u64::MAX, 2 * beyond));
            }
        }
        dim
    }

    /// Position of the vector of a packet in one dimension.
    fn vector(&self, dim: &Dim, keys: &Keys) -> usize {
        let Some(value) = keys.get(dim.key) else { return dim.absent as usize };
        if dim.kind == Kind::Small {
            return self.small[dim.table as usize + value as usize] as usize;
        }
        let starts = dim.starts.map(|starts| starts as usize + (value >> 16) as usize);
        let mut below = starts.map_or(0, |at| self.starts[at] as usize);
        for step in (0..dim.steps).rev() {
            let half = 1 << step;
            let at = dim.table as usize + below + half - 1;
            let edge = match dim.kind {
                Kind::Word | Kind::Small => self.edges32[at].into(),
                Kind::Mac => self.edges64[at].into(),
                Kind::V6 => {
                    let at = dim.table as usize + 2 * (below + half - 1);
                    u128::from(self.edges64[at]) << 64 | u128::from(self.edges64[at + 1])
                }
            };
            if edge <= value {
                below += half;
            }
        }
        self.classes[dim.classes as usize + below] as usize
    }

    /// Bytes of all lookup tables.
    pub fn bytes(&self) -> u64 {
        let words = self.small.len() + self.edges32.len() + self.classes.len() + self.starts.len();
        (4 * (words + self.rows.len()) + 8 * (self.edges64.len() + self.vectors.len())) as u64
    }

    /// Calls `see` with the rule of every row that matches, in order, each rule once, until it says
    /// `false`.
    pub fn matches(&self, keys: &Keys, see: &mut dyn FnMut(u32) -> bool) {
        let mut vectors = [0; MAX_DIMS];
        for (vector, dim) in vectors.iter_mut().zip(&self.dims) {
            *vector = self.vector(dim, keys);
        }
        // With no dimension, the one vector of all rows.
        let vectors = &vectors[..self.dims.len().max(1)];
        let and = |offset: usize| -> u64 {
            vectors.iter().fold(u64::MAX, |word, vector| word & self.vectors[vector + offset])
        };
        let mut last = None;
        for part in 0..self.summary {
            let mut summary = and(part);
            while summary != 0 {
                let index = part * 64 + summary.trailing_zeros() as usize;
                summary &= summary - 1;
                let mut word = and(self.summary + index);
                while word != 0 {
                    let rule = self.rows[index * 64 + word.trailing_zeros() as usize];
                    word &= word - 1;
                    if last != Some(rule) && !see(rule) {
                        return;
                    }
                    last = Some(rule);
                }
            }
        }
    }
}
