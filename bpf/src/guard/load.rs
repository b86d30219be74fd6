//! A rule set to loaded programs.

use std::os::fd::{AsFd as _, OwnedFd};

use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder, OpenObject, ProgramInput};
use psc_formats::guard::{Behaviour, MAX_DIMS, RuleTable, Unit};

use super::state::{Never, State, Told};
use super::wire::{Config, WireDim, WireRule};
use super::{GuardError, Point};
use crate::kernel;
use crate::wire::{bytes_of, read};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guard.bpf.o"));

/// Maps that outlive a rule set.
const LASTING: [&str; 4] = ["blocks", "proven", "nevers", "clocks"];

/// A compiled rule set.
#[derive(Clone, Copy, Debug)]
pub struct GuardRules<'a> {
    /// Conditions.
    pub table: &'a RuleTable,
    /// What each rule does, by number.
    pub behaviours: &'a [Behaviour],
    /// Some entry says who is never discarded.
    pub never: bool,
}

/// How programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct GuardOptions {
    /// Discard; else only count what would be.
    pub enforce: bool,
    /// Pass everything one second after the last [`Guard::beat`].
    pub heartbeat: bool,
    /// Time is set by [`Guard::test`], which reads verdicts back.
    pub test: bool,
    /// Frames begin with an Ethernet header; else with that of IP.
    pub ethernet: bool,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self { enforce: false, heartbeat: false, test: false, ethernet: true }
    }
}

/// Rules in the kernel, not yet where packets are.
pub struct Guard {
    object: Object,
    pub(super) state: State,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// A table as the bytes of one map value whose number of entries is a power of two.
struct Blob {
    bytes: Vec<u8>,
    mask: u32,
}

macro_rules! blob {
    ($values:expr) => {{
        let values = $values;
        let entries = values.len().max(1).next_power_of_two();
        let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let size = std::mem::size_of_val(&values[..]) / values.len().max(1);
        bytes.resize((entries * size).max(8), 0);
        Blob { bytes, mask: entries as u32 - 1 }
    }};
}

/// The tables of a rule set by the names of their maps.
fn blobs(table: &RuleTable) -> [(&'static str, Blob); 7] {
    [
        ("small", blob!(&table.small)),
        ("edges32", blob!(&table.edges32)),
        ("edges64", blob!(&table.edges64)),
        ("classes", blob!(&table.classes)),
        ("starts", blob!(&table.starts)),
        ("vectors", blob!(&table.vectors)),
        ("rows", blob!(&table.rows)),
    ]
}

fn config(rules: &GuardRules<'_>, options: GuardOptions, blobs: &[(&str, Blob); 7]) -> Config {
    let mask = |index: usize| blobs[index].1.mask;
    let mut dim = [WireDim::UNUSED; MAX_DIMS];
    let mut used = 0;
    for (wire, own) in dim.iter_mut().zip(&rules.table.dims) {
        *wire = WireDim::of(own);
        used |= 1 << own.key as u8;
    }
    let mut blocking = 0;
    let mut stateful = false;
    for behaviour in rules.behaviours {
        if let Some(distinct) = &behaviour.distinct {
            used |= 1 << distinct.key as u8;
        }
        if behaviour.block.is_some() {
            blocking |= 1 << behaviour.per as u8;
        }
        stateful |= behaviour.rate.is_some()
            || behaviour.distinct.is_some()
            || behaviour.block.is_some()
            || behaviour.unproven;
    }
    Config {
        used,
        dims: rules.table.dims.len() as u32,
        words: rules.table.words as u32,
        summary: rules.table.summary as u32,
        rules: rules.behaviours.len() as u32,
        small_mask: mask(0),
        edges32_mask: mask(1),
        edges64_mask: mask(2),
        classes_mask: mask(3),
        starts_mask: mask(4),
        vectors_mask: mask(5),
        rows_mask: mask(6),
        blocking,
        stateful: stateful.into(),
        enforce: options.enforce.into(),
        never: rules.never.into(),
        heartbeat: options.heartbeat.into(),
        test: options.test.into(),
        ethernet: options.ethernet.into(),
        pad: [0; 2],
        dim,
    }
}

fn wire_rule(behaviour: &Behaviour) -> WireRule {
    let rate = behaviour.rate;
    WireRule {
        action: behaviour.action as u8,
        per: behaviour.per as u8,
        ways: u8::from(behaviour.ingress) | u8::from(behaviour.egress) << 1,
        rate: rate.map_or(0, |rate| match rate.unit {
            Unit::Packets => 1,
            Unit::Bytes => 2,
        }),
        distinct: behaviour.distinct.map_or(0xff, |distinct| distinct.key as u8),
        unproven: behaviour.unproven.into(),
        pad: [0; 2],
        over: behaviour.distinct.map_or(0, |distinct| distinct.over),
        pad2: 0,
        within: behaviour.distinct.map_or(0, |distinct| distinct.within),
        amount: rate.map_or(0, |rate| rate.amount),
        every: rate.map_or(0, |rate| rate.every),
        depth: rate.map_or(0, |rate| rate.depth()),
        block: behaviour.block.unwrap_or(0),
    }
}

impl Guard {
    /// Loads programs for `rules`. Blocks, proven sources and never-block entries are those of `before`, when
    /// there is one.
    pub fn load(
        rules: &GuardRules<'_>,
        options: GuardOptions,
        before: Option<&Self>,
    ) -> Result<Self, GuardError> {
        libbpf_rs::set_print(None);
        let blobs = blobs(rules.table);
        let config = config(rules, options, &blobs);
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            move |error: libbpf_rs::Error| GuardError::new(doing.clone(), &error)
        };
        let mut open = ObjectBuilder::default()
            .open_memory(OBJECT)
            .map_err(failed("read the rule programs"))?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let count = rules.behaviours.len().max(1) as u32;
            let done = match name.as_str() {
                "rules" | "counters" => map.set_max_entries(count),
                name if name.ends_with(".rodata.config") => {
                    map.set_initial_value(bytes_of(&config))
                }
                name => match blobs.iter().find(|(blob, _)| *blob == name) {
                    Some((_, blob)) => map.set_value_size(blob.bytes.len() as u32),
                    None => Ok(()),
                },
            };
            done.map_err(failed("size the rule tables"))?;
            if let Some(before) = before.filter(|_| LASTING.contains(&name.as_str())) {
                map.reuse_fd(before.state.map(&name)?.as_fd())
                    .map_err(failed("keep the blocks under way"))?;
            }
        }
        let object = load(open)?;
        for (name, blob) in &blobs {
            update(&object, name, &0_u32.to_ne_bytes(), &blob.bytes)?;
        }
        for (behaviour, number) in rules.behaviours.iter().zip(0_u32..) {
            update(&object, "rules", &number.to_ne_bytes(), bytes_of(&wire_rule(behaviour)))?;
        }
        let state = State::new(&object, rules.behaviours.len())?;
        Ok(Self { object, state })
    }

    /// A descriptor of the program for a point.
    pub(super) fn program(&self, point: Point) -> Result<OwnedFd, GuardError> {
        let wanted = point.program();
        let program = self.object.progs().find(|program| program.name() == wanted);
        program.and_then(|program| program.as_fd().try_clone_to_owned().ok()).ok_or_else(|| {
            GuardError { doing: format!("find {wanted}"), cause: "it was not loaded".to_owned() }
        })
    }

    /// What the program for `point` says about a frame of at least 14 bytes at time `now`, run once in the
    /// kernel. Only after loading with [`GuardOptions::test`].
    pub fn test(&mut self, point: Point, frame: &[u8], now: u64) -> Result<Told, GuardError> {
        update(&self.object, "clocks", &0_u32.to_ne_bytes(), &now.to_ne_bytes())?;
        self.run(point.program(), frame, 1)?;
        let value = lookup(&self.object, "told", &0_u32.to_ne_bytes())?;
        Ok(Told::of(&read(&value).unwrap_or_else(Told::unknown)))
    }

    /// Nanoseconds that the program for `point` takes for a frame, over `repeat` runs; `None` for an empty XDP
    /// program.
    pub fn rate(
        &mut self,
        point: Option<Point>,
        frame: &[u8],
        repeat: u32,
    ) -> Result<u64, GuardError> {
        let name = point.map_or("guard_nothing", Point::program);
        self.run(name, frame, repeat)
    }

    fn run(&mut self, name: &str, frame: &[u8], repeat: u32) -> Result<u64, GuardError> {
        let failed = |error: &libbpf_rs::Error| GuardError::new("run a rule program once", error);
        let program = self.object.progs_mut().find(|program| program.name() == name);
        let program = program.ok_or_else(|| GuardError {
            doing: format!("find {name}"),
            cause: "it was not loaded".to_owned(),
        })?;
        let input = ProgramInput { data_in: Some(frame), repeat, ..ProgramInput::default() };
        let output = program.test_run(input).map_err(|error| failed(&error))?;
        Ok(output.duration.as_nanos() as u64)
    }

    /// Says that psc is alive.
    pub fn beat(&self) -> Result<(), GuardError> {
        let now = kernel::now().to_ne_bytes();
        update(&self.object, "clocks", &1_u32.to_ne_bytes(), &now)
    }

    /// Adds somebody who is never discarded.
    pub fn never(&self, never: &Never) -> Result<(), GuardError> {
        for key in never.keys() {
            update(&self.object, "nevers", bytes_of(&key), &1_u64.to_ne_bytes())?;
        }
        Ok(())
    }
}

/// Loads, and says what the verifier said when it refuses.
fn load(open: OpenObject) -> Result<Object, GuardError> {
    open.load().map_err(|error| GuardError::new("load the rule programs", &error))
}

fn update(object: &Object, name: &str, key: &[u8], value: &[u8]) -> Result<(), GuardError> {
    let failed = |error: &libbpf_rs::Error| GuardError::new(format!("write to {name}"), error);
    let map = object.maps().find(|map| map.name() == name).ok_or_else(|| GuardError {
        doing: format!("find {name}"),
        cause: "there is no such map".to_owned(),
    })?;
    map.update(key, value, MapFlags::ANY).map_err(|error| failed(&error))
}

fn lookup(object: &Object, name: &str, key: &[u8]) -> Result<Vec<u8>, GuardError> {
    let failed = |error: &libbpf_rs::Error| GuardError::new(format!("read {name}"), error);
    let map = object.maps().find(|map| map.name() == name).ok_or_else(|| GuardError {
        doing: format!("find {name}"),
        cause: "there is no such map".to_owned(),
    })?;
    Ok(map.lookup(key, MapFlags::ANY).map_err(|error| failed(&error))?.unwrap_or_default())
}
