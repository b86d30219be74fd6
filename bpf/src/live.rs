//! The running kernel as an [`EventSource`].

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use libbpf_rs::libbpf_sys;
use libbpf_rs::{Link, MapCore as _, MapFlags, Object, ObjectBuilder, OpenObject};
use psc_formats::fact::{Fact, LossFact, NoticeFact, Severity};
use psc_formats::manifest::{Manifest, Origin, ProbeStatus};
use psc_formats::{Batch, EventSource, Ns, Progress, SourceError};

use crate::attach::{self, PROBES};
use crate::decode::Decoder;
use crate::facts::{Devices, Snapshots, notice};
use crate::filter::{FilterMaps, Wanted};
use crate::governor::Governor;
use crate::kernel::{self, KernelTypes};
use crate::maps::SharedArray;
use crate::netfilter::NetfilterLinks;
use crate::options::{BytesMode, Options, Profile, StackPolicy, StartError};
use crate::ring::{Next, Ring};
use crate::stacks::Stacks;
use crate::symbols::Symbols;
use crate::tier2::Tier2;
use crate::wire::{self, AGGREGATES, Aggregate, Config, Cpu, LEVELS, PATHS};

/// Events decoded by one [`EventSource::fill`] at most.
const BATCH: usize = 32 * 1024;
/// Ring bytes of all CPUs together at most, unless asked for.
const RINGS_TOTAL: usize = 512 << 20;
/// The probe's clock may run this far behind the one we read at the same moment.
const CLOCK_SLACK_NS: u64 = 100_000;
/// How often aggregates are told of and interfaces that were missing are looked for.
const LOOK_EVERY_NS: u64 = 200_000_000;
/// skb cache slots, 8 bytes each.
const SKB_SLOTS: u32 = 1 << 17;
/// Calls of functions that can be under way at once; each CPU and sleeping task may be inside some dozen.
const CALLS: u32 = 1 << 14;

/// Bytes that hold the headers of nearly every packet: who keeps no more asks for no payload.
const HEADERS: u32 = 128;
/// Said where payload is asked for and cannot be had.
const NO_PAGES: &str = "this kernel (before 6.12) shows tracepoints no payload that lies in pages: of what \
    applications here send over TCP the headers are recorded, whatever -s says, and so of what drivers receive into pages";

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capture.bpf.o"));

/// One pass over all rings: everything reserved before `started` is below `targets`.
struct Pass {
    started: u64,
    targets: Vec<u64>,
    /// First ring that is not read to its target.
    next: usize,
    /// A ring stopped at a record still being written: what is after it comes next time.
    blocked: bool,
}

/// The running kernel's network stack.
pub struct LiveSource {
    pub(crate) manifest: Manifest,
    pub(crate) links: Vec<(usize, Link)>,
    pub(crate) tier2: Tier2,
    links1b: NetfilterLinks,
    /// Programs by probe's name, to read what the kernel counted after detaching.
    pub(crate) programs: Vec<(String, OwnedFd)>,
    rings: Vec<Ring>,
    ring_bytes: usize,
    cpus: SharedArray<Cpu>,
    decoder: Decoder,
    snapshots: Snapshots,
    aggregates: SharedArray<Aggregate>,
    /// Drops counted instead of stored, when the aggregates were last told of.
    aggregated: u64,
    pub(crate) filter: FilterMaps,
    /// Names given to `-i` and `--netns`, whose bearers may come later.
    pub(crate) wanted: Wanted,
    looked_at: u64,
    pub(crate) governor: Option<Governor>,
    /// Facts found between passes.
    pending: Vec<Fact>,
    pass: Option<Pass>,
    /// Share of a ring that the last pass found full, in percent.
    fullness: u64,
    pub(crate) stopped: bool,
    ended: bool,
    // Last: maps go after everything that is mapped from them.
    _object: Object,
}

impl LiveSource {
    /// Loads and attaches the programs; events flow from here on.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let missing = kernel::missing_capabilities();
        if !missing.is_empty() {
            return Err(StartError::Privilege { missing });
        }
        let budget = options.budget_ppm;
        let types = KernelTypes::read()?;
        let mut config = config(&options, &types);
        let cpu_count = kernel::possible_cpus();
        let mut blind_spots = kernel::blind_spots();
        if config.paged != 0 && !reads_pages(&config, cpu_count)? {
            config.paged = 0;
            blind_spots.push(NO_PAGES.to_owned());
        }
        let ring_bytes = ring_bytes(&options, cpu_count);

        // Read before attaching: the events wait in the rings meanwhile, but not longer than need be.
        let symbols = if options.stacks == StackPolicy::Off && options.empty {
            Symbols::none()
        } else {
            Symbols::read()
        };
        let mut status = attach::choose(options.profile, &types);
        let mut tier2 = Tier2::plan(options.functions, &symbols);
        let mut links1b = NetfilterLinks::plan(options.netfilter);
        let object = load(&config, cpu_count, &mut status, &mut tier2, &mut links1b)?;

        let mut rings = Vec::with_capacity(cpu_count);
        let outer = map_fd(&object, "rings")?;
        for cpu in 0..cpu_count {
            rings.push(make_ring(outer.as_raw_fd(), cpu, ring_bytes)?);
        }
        let cpus = SharedArray::new(map_fd(&object, "cpus")?.as_fd(), cpu_count)
            .map_err(|e| mapping_failed(&e))?;
        let levels = SharedArray::bytes(map_fd(&object, "levels")?.as_fd(), LEVELS)
            .map_err(|e| mapping_failed(&e))?;
        let filter = FilterMaps::new(&object)?;
        let aggregates =
            SharedArray::new(map_fd(&object, "aggregates")?.as_fd(), cpu_count * AGGREGATES)
                .map_err(|e| mapping_failed(&e))?;
        let mut wanted = Wanted::new(&options)?;
        let mut devices = Devices::default();
        let mut snapshots = Snapshots::default();
        let mut pending = Vec::new();
        // Before attaching, so that nothing unwanted is recorded.
        wanted.apply(&filter, &mut devices, &mut snapshots.only, &mut pending)?;

        if !symbols.usable() && !options.empty {
            pending.push(notice(
                "the kernel hides its addresses (/proc/kallsyms needs CAP_SYSLOG and kernel.kptr_restrict below 2): functions have no names".to_owned(),
                1,
            ));
        }
        let stacks = Stacks::new(symbols, cpu_count, levels);
        let mut decoder = Decoder::new(stacks, devices, cpu_count, options.snaplen != Some(0));
        let links = attach::attach(&object, &mut status)?;
        // Functions last: what they say joins what tier 1 sees.
        links1b.attach(&object, &wanted.namespaces());
        tier2.attach(&object);
        decoder.meanings = tier2.rows.iter().map(|row| row.meaning).collect();
        let tracepoints = links.iter().map(|&(number, _)| {
            let spec = &PROBES[number];
            (spec.name.to_owned(), spec.program())
        });
        let others = tier2
            .programs()
            .into_iter()
            .map(|name| (name.trim_start_matches("on_").replace('_', " "), name.to_owned()));
        let programs = tracepoints
            .chain(others)
            .filter_map(|(name, program)| Some((name, attach::program_fd(&object, &program)?)))
            .collect();
        let mut probes = attach::manifest(&status);
        probes.extend(links1b.manifest());
        probes.extend(tier2.manifest());
        let manifest = Manifest {
            origin: Origin::Kernel,
            psc_version: env!("CARGO_PKG_VERSION").to_owned(),
            command: options.command,
            clock: kernel::measure_clock(),
            host: kernel::host(),
            probes,
            drop_reasons: types.drop_reasons,
            reset_reasons: types.reset_reasons,
            snaplen: options.snaplen,
            stacks: options.stacks.name().to_owned(),
            filter: options.filter,
            blind_spots,
            ..Manifest::default()
        };
        Ok(Self {
            manifest,
            links,
            tier2,
            links1b,
            programs,
            rings,
            ring_bytes,
            cpus,
            decoder,
            snapshots,
            aggregates,
            aggregated: 0,
            filter,
            wanted,
            looked_at: 0,
            governor: budget.map(|budget| Governor::new(budget, kernel::now())),
            pending,
            pass: None,
            fullness: 0,
            stopped: false,
            ended: false,
            _object: object,
        })
    }

    /// How long to wait after [`Progress::Idle`]: less when the rings fill fast.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(match self.fullness {
            0..=2 => 10,
            3..=10 => 4,
            11..=25 => 2,
            _ => 0,
        })
    }

    /// What has been lost up to now, by the kernel side's own counters.
    pub fn loss(&self) -> LossFact {
        let mut loss = LossFact { at: kernel::now(), ..LossFact::default() };
        let mut by_probe = vec![0_u64; self.manifest.probes.len()];
        for cpu in 0..self.cpus.len() {
            let counters = self.cpus.get(cpu);
            loss.written.push(counters.seq.saturating_sub(counters.ring_full));
            loss.ring_full.push(counters.ring_full);
            loss.missed_stacks += counters.missed_stacks;
            loss.unreadable_packets += counters.unreadable;
            loss.filtered += counters.filtered;
            loss.aggregated += counters.aggregated;
            loss.shed += counters.shed;
            loss.lost_returns += counters.lost_returns;
            for (sum, lost) in by_probe.iter_mut().zip(counters.lost) {
                *sum += lost;
            }
        }
        loss.missed_stacks += self.decoder.stacks.unresolved;
        [loss.stacks_agreed, loss.stacks_differed] = self.decoder.stacks.represented;
        for (probe, lost) in self.manifest.probes.iter().zip(by_probe) {
            if lost > 0 {
                loss.by_probe.insert(probe.name.clone(), lost);
            }
        }
        for (name, fd) in &self.programs {
            if let Some(misses @ 1..) = attach::recursion_misses(fd.as_fd()) {
                loss.recursion.insert(name.clone(), misses);
            }
        }
        loss
    }

    /// Counters, sockets, routes, neighbours and the rest as they are now; call at start, at
    /// each interval and at the end.
    pub fn snapshot_facts(&mut self) -> Vec<Fact> {
        let mut devices = std::mem::take(&mut self.decoder.devices);
        let decoder = &self.decoder;
        let mut facts = self.snapshots.take(&mut devices, |key| decoder.known_socket(key));
        self.decoder.devices = devices;
        facts.push(Fact::Loss(self.loss()));
        facts
    }

    /// Detaches every probe. What is in the rings still comes; then `fill` says `End`.
    pub fn stop(&mut self) {
        self.tier2.detach();
        self.links1b.detach();
        self.links.clear();
        self.stopped = true;
        // A pass begun before may have ended short of the last events.
        self.pass = None;
    }

    /// What is done between passes and not for each event.
    fn keep_house(&mut self, batch: &mut Batch) {
        batch.facts.append(&mut self.pending);
        let now = kernel::now();
        if now - self.looked_at >= LOOK_EVERY_NS || self.stopped {
            self.looked_at = now;
            self.tell_aggregates(batch);
            self.tell_malformed(batch);
            self.govern(now, batch);
            let applied = self.wanted.apply(
                &self.filter,
                &mut self.decoder.devices,
                &mut self.snapshots.only,
                &mut batch.facts,
            );
            if let Err(e) = applied {
                batch
                    .facts
                    .push(notice(format!("the filter could not be kept up to date: {e}"), 1));
            }
        }
    }

    /// Records that made no sense would be a fault of ours: never silent.
    fn tell_malformed(&mut self, batch: &mut Batch) {
        let count = std::mem::take(&mut self.decoder.malformed);
        if count > 0 {
            batch.facts.push(Fact::Notice(NoticeFact {
                at: kernel::now(),
                severity: Severity::Error,
                text: "records from the kernel that psc could not decode were left out".to_owned(),
                count,
            }));
        }
    }

    fn tell_aggregates(&mut self, batch: &mut Batch) {
        let total = (0..self.cpus.len()).map(|cpu| self.cpus.get(cpu).aggregated).sum();
        if std::mem::replace(&mut self.aggregated, total) == total {
            return;
        }
        for index in 0..self.aggregates.len() {
            let entry = self.aggregates.get(index);
            // Copied while the kernel was changing it: next time.
            let again = self.aggregates.get(index);
            let settled = entry.epoch == again.epoch && entry.location == again.location;
            if settled && entry.count > 0 {
                self.decoder.repeated(index as u32, &entry, batch);
            }
        }
    }

    fn begin_pass(&mut self) -> Pass {
        let started = kernel::now();
        let targets: Vec<u64> = self.rings.iter().map(Ring::produced).collect();
        self.fullness = self
            .rings
            .iter()
            .zip(&targets)
            .map(|(ring, target)| (target - ring.position()) * 100 / self.ring_bytes as u64)
            .max()
            .unwrap_or(0);
        Pass { started, targets, next: 0, blocked: false }
    }
}

impl EventSource for LiveSource {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if self.ended {
            return Ok(Progress::End);
        }
        let mut pass = if let Some(pass) = self.pass.take() {
            pass
        } else {
            self.keep_house(batch);
            self.begin_pass()
        };
        while let Some(ring) = self.rings.get_mut(pass.next) {
            let first = batch.events.len();
            let mut finished = false;
            while batch.events.len() < BATCH {
                match ring.next(pass.targets[pass.next]) {
                    Next::Record(bytes) => self.decoder.decode(pass.next, bytes, batch),
                    Next::Busy => {
                        (finished, pass.blocked) = (true, true);
                        break;
                    }
                    Next::Done => {
                        finished = true;
                        break;
                    }
                }
            }
            ring.release();
            // A softirq between reservation and numbering swaps neighbours.
            let mine = &mut batch.events[first..];
            if !mine.is_sorted_by_key(|event| event.seq) {
                mine.sort_by_key(|event| event.seq);
            }
            if !finished {
                self.pass = Some(pass);
                return Ok(Progress::More);
            }
            pass.next += 1;
        }
        if !pass.blocked {
            self.decoder.promised = pass.started.saturating_sub(CLOCK_SLACK_NS);
            batch.complete_to = Some(Ns(self.decoder.promised));
        }
        if self.stopped && !pass.blocked {
            self.ended = true;
            return Ok(Progress::End);
        }
        Ok(Progress::Idle)
    }
}

fn config(options: &Options, types: &KernelTypes) -> Config {
    let has = |tracepoint: &str, arguments: usize| {
        u8::from(types.tracepoint(tracepoint).is_some_and(|arity| arity >= arguments))
    };
    Config {
        snaplen: options.snaplen.unwrap_or(65536).min(65536),
        aggregate_over: options.aggregate_over,
        aggregate_window_ns: options.aggregate_window.as_nanos() as u64,
        preempt_delta: types.preempt_delta,
        return_frame: kernel::return_frame(),
        skb_mask: SKB_SLOTS - 1,
        stacks: match options.stacks {
            StackPolicy::Off => 0,
            StackPolicy::Learn => 1,
            StackPolicy::All => 2,
            StackPolicy::Drops => 3,
        },
        bytes_always: u8::from(options.bytes == BytesMode::Every),
        empty: u8::from(options.empty),
        filtering: u8::from(
            !(options.interfaces.is_empty()
                && options.namespaces.is_empty()
                && options.exclude.is_empty()
                && options.budget_ppm.is_none()),
        ),
        consume_has_location: has("consume_skb", 2),
        free_has_socket: has("kfree_skb", 4),
        reset_has_reason: has("tcp_send_reset", 3),
        retransmit_has_result: has("tcp_retransmit_skb", 3),
        udp_fail_has_skb: has("udp_fail_queue_rcv_skb", 3),
        every_call: u8::from(options.profile == Profile::Full),
        // Whether this kernel can is found out by trying.
        paged: u8::from(options.snaplen.is_none_or(|bytes| bytes > HEADERS)),
        pad: 0,
    }
}

/// Data bytes of each ring: a power of two and whole pages.
fn ring_bytes(options: &Options, cpus: usize) -> usize {
    let wanted = options.ring_bytes.unwrap_or((RINGS_TOTAL / cpus).min(16 << 20));
    wanted.clamp(64 << 10, 1 << 30).next_power_of_two()
}

fn open(config: &Config, cpus: usize, calls: u32) -> Result<OpenObject, StartError> {
    let mut object = ObjectBuilder::default()
        .open_memory(OBJECT)
        .map_err(|e| StartError::kernel("read psc's BPF programs", &e))?;
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let done = match name.as_str() {
            "rings" | "cpus" => map.set_max_entries(cpus as u32),
            "paths" => map.set_max_entries((cpus * PATHS) as u32),
            "skbs" => map.set_max_entries(SKB_SLOTS),
            "chains" => map.set_max_entries((cpus * wire::CHAINS) as u32),
            "calls" => map.set_max_entries(calls),
            "aggregates" => map.set_max_entries((cpus * wire::AGGREGATES) as u32),
            // libbpf prefixes some section maps with the object's name.
            name if name.ends_with(".rodata.config") => {
                map.set_initial_value(wire::bytes_of(config))
            }
            _ => Ok(()),
        };
        done.map_err(|e| StartError::kernel("size psc's BPF maps", &e))?;
    }
    Ok(object)
}

/// Whether this kernel's verifier lets a tracepoint read an skb's pages.
fn reads_pages(config: &Config, cpus: usize) -> Result<bool, StartError> {
    libbpf_rs::set_print(None);
    let mut object = open(config, cpus, 1)?;
    attach::set_autoload(&mut object, &[], &["on_consume_skb"]);
    Ok(attach::load_with_reason(object).is_ok())
}

/// Loads what can be loaded: when the verifier of this kernel refuses a program, that probe fails
/// and the others stay.
fn load(
    config: &Config,
    cpus: usize,
    status: &mut [ProbeStatus],
    tier2: &mut Tier2,
    links1b: &mut NetfilterLinks,
) -> Result<Object, StartError> {
    libbpf_rs::set_print(None);
    let calls = if tier2.wants_any() { CALLS } else { 1 };
    let others = |tier2: &Tier2, links1b: &NetfilterLinks| {
        let mut others = tier2.programs();
        others.extend(links1b.programs());
        others
    };
    let mut object = open(config, cpus, calls)?;
    attach::set_autoload(&mut object, status, &others(tier2, links1b));
    let first = match object.load() {
        Ok(object) => return Ok(object),
        Err(e) => e,
    };
    let mut refused = 0;
    // What every kernel has comes first: only if that loads alone, the others are to blame.
    let wanted = others(tier2, links1b);
    let mut base = open(config, cpus, calls)?;
    attach::set_autoload(&mut base, status, &[]);
    let base_loads = !wanted.is_empty() && base.load().is_ok();
    let nothing = vec![ProbeStatus::Unwanted; status.len()];
    for number in 0..status.len() {
        if base_loads || status[number] != ProbeStatus::Attached {
            continue;
        }
        let mut alone = nothing.clone();
        alone[number] = ProbeStatus::Attached;
        let mut object = open(config, cpus, calls)?;
        attach::set_autoload(&mut object, &alone, &[]);
        if let Err(e) = attach::load_with_reason(object) {
            status[number] = ProbeStatus::Failed(e);
            refused += 1;
        }
    }
    for name in wanted {
        let mut object = open(config, cpus, calls)?;
        attach::set_autoload(&mut object, &nothing, &[name]);
        if let Err(e) = attach::load_with_reason(object) {
            tier2.refused(name, &e);
            links1b.refused(name, &e);
            refused += 1;
        }
    }
    if refused == 0 || !status.contains(&ProbeStatus::Attached) {
        return Err(StartError::kernel("load psc's BPF programs", &first));
    }
    let mut object = open(config, cpus, calls)?;
    attach::set_autoload(&mut object, status, &others(tier2, links1b));
    object.load().map_err(|e| StartError::kernel("load psc's BPF programs", &e))
}

fn map_fd(object: &Object, name: &str) -> Result<OwnedFd, StartError> {
    object
        .maps()
        .find(|map| map.name() == name)
        .and_then(|map| map.as_fd().try_clone_to_owned().ok())
        .ok_or_else(|| StartError::Kernel {
            doing: "open psc's BPF maps",
            cause: format!("no map {name}"),
            hint: "",
        })
}

fn mapping_failed(e: &std::io::Error) -> StartError {
    StartError::Kernel { doing: "map the rings and counters", cause: e.to_string(), hint: "" }
}

/// Creates one CPU's ring and puts it into the outer map.
fn make_ring(outer: i32, cpu: usize, bytes: usize) -> Result<Ring, StartError> {
    // SAFETY: a NUL-terminated name and no options.
    let fd = unsafe {
        libbpf_sys::bpf_map_create(
            libbpf_sys::BPF_MAP_TYPE_RINGBUF,
            c"psc_ring".as_ptr(),
            0,
            0,
            bytes as u32,
            std::ptr::null(),
        )
    };
    if fd < 0 {
        return Err(StartError::Kernel {
            doing: "create the ring buffers",
            cause: std::io::Error::from_raw_os_error(-fd).to_string(),
            hint: " (try a smaller ring; before 5.11, raise `ulimit -l`)",
        });
    }
    // SAFETY: just created and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let (key, value) = (cpu as u32, fd.as_raw_fd());
    // SAFETY: key and value are the four bytes each that the outer map has.
    let rc = unsafe {
        libbpf_sys::bpf_map_update_elem(
            outer,
            std::ptr::from_ref(&key).cast(),
            std::ptr::from_ref(&value).cast(),
            MapFlags::ANY.bits(),
        )
    };
    if rc < 0 {
        return Err(StartError::Kernel {
            doing: "give the ring buffers to the programs",
            cause: std::io::Error::from_raw_os_error(-rc).to_string(),
            hint: "",
        });
    }
    // The mapping and the outer map keep the ring alive.
    Ring::new(fd.as_fd(), bytes).map_err(|e| mapping_failed(&e))
}
