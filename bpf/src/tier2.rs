//! Tier 2: which functions can be probed here, by which rung of the ladder, and attaching them.
//!
//! The rungs are `kprobe.multi`, `fentry`/`fexit`, `kprobe`, in this order: the first costs least to attach and to
//! run. What this kernel has is tried with an empty program. A function is probed only where BTF says that its
//! arguments are what the table says; what cannot be probed is a line of the manifest, never a failure.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use libbpf_rs::{KprobeMultiOpts, KprobeOpts, Link, Object, libbpf_sys};
use psc_formats::function::{Argument, Meaning};
use psc_formats::manifest::{Probe, ProbeStatus};

use crate::attach::FIRST_FUNCTION;
use crate::functions::{FUNCTIONS, Function, Lineage, is_variant};
use crate::signature::{Returned, Signature, Signatures};
use crate::symbols::Symbols;

/// One function and what became of it.
pub(crate) struct Row {
    function: &'static Function,
    number: u8,
    /// As the kernel calls it, which may have a suffix.
    symbol: String,
    signature: Option<Signature>,
    /// What the return value means on this kernel.
    pub(crate) meaning: Meaning,
    method: &'static str,
    status: ProbeStatus,
}

/// Links and whatever else keeps a probe attached.
#[allow(dead_code, reason = "held until dropped")]
enum Held {
    Link(Link),
    Descriptors(OwnedFd, OwnedFd),
}

/// The rungs of this kernel, each with the reason why it has it not.
struct Rungs {
    multi: Result<(), String>,
    trace: Result<(), String>,
    kprobe: Result<(), String>,
}

/// All functions.
pub(crate) struct Tier2 {
    pub(crate) rows: Vec<Row>,
    rungs: Rungs,
    signatures: Option<Signatures>,
    entries: Vec<Held>,
    returns: Vec<Held>,
}

/// Programs of the object by rung: entry and return.
const MULTI: [&str; 2] = ["on_multi_entry", "on_multi_return"];
const TRACE: [&str; 3] = ["on_trace_entry", "on_trace_return", "on_trace_lineage"];
const KPROBE: [&str; 2] = ["on_kprobe_entry", "on_kprobe_return"];

impl Tier2 {
    /// What can be had; nothing is attached yet.
    pub(crate) fn plan(wanted: bool, symbols: &Symbols) -> Self {
        let unwanted = || Err("not wanted".to_owned());
        let mut plan = Self {
            rows: (0_u8..).zip(FUNCTIONS).map(|(n, function)| Row::new(n, function)).collect(),
            rungs: Rungs { multi: unwanted(), trace: unwanted(), kprobe: unwanted() },
            signatures: None,
            entries: Vec::new(),
            returns: Vec::new(),
        };
        if !wanted {
            return plan;
        }
        let found = symbols.functions(&|name| {
            FUNCTIONS.iter().any(|f| f.name == name || is_variant(name, f.name))
        });
        let modules: Vec<&str> = found.iter().map(|(_, module)| module.as_str()).collect();
        plan.signatures = Signatures::read(&|module| modules.contains(&module));
        plan.rungs = Rungs::of_this_kernel(plan.signatures.as_ref());
        let rungs = &plan.rungs;
        let none = rungs.multi.is_err() && rungs.trace.is_err() && rungs.kprobe.is_err();
        let no_rung = none.then(|| rungs.why_not());
        for row in &mut plan.rows {
            let resolved = match &no_rung {
                Some(why) => Err(why.clone()),
                None => row.resolve(&found, plan.signatures.as_ref()),
            };
            row.status = match resolved {
                Ok(()) => ProbeStatus::Attached,
                Err(why) => ProbeStatus::Failed(why),
            };
        }
        plan
    }

    /// Programs that the object must have loaded for this.
    pub(crate) fn programs(&self) -> Vec<&'static str> {
        if !self.wants_any() {
            return Vec::new();
        }
        let mut programs = Vec::new();
        if self.rungs.multi.is_ok() {
            programs.extend(MULTI);
        } else if self.rungs.trace.is_ok() {
            programs.extend(TRACE);
        }
        if self.rungs.kprobe.is_ok() {
            programs.extend(KPROBE);
        }
        programs
    }

    /// Whether any function is to be attached.
    pub(crate) fn wants_any(&self) -> bool {
        self.rows.iter().any(|row| row.status == ProbeStatus::Attached)
    }

    /// A program that the verifier of this kernel refused: its rung is none.
    pub(crate) fn refused(&mut self, program: &str, why: &str) {
        for (names, rung) in [
            (&MULTI[..], &mut self.rungs.multi),
            (&TRACE[..], &mut self.rungs.trace),
            (&KPROBE[..], &mut self.rungs.kprobe),
        ] {
            if names.contains(&program) {
                *rung = Err(why.to_owned());
            }
        }
    }

    /// Attaches every planned function by the highest rung that takes it.
    pub(crate) fn attach(&mut self, object: &Object) {
        self.attach_multi(object);
        self.attach_traces(object);
        self.attach_kprobes(object);
        for row in &mut self.rows {
            if row.status == ProbeStatus::Attached && row.method.is_empty() {
                row.status = ProbeStatus::Failed(self.rungs.why_not());
            }
        }
    }

    /// Functions that are attached, by probe number.
    pub(crate) fn attached(&self) -> Vec<u16> {
        let attached = self.rows.iter().filter(|row| row.status == ProbeStatus::Attached);
        attached.map(|row| u16::from(row.number)).collect()
    }

    /// Detaches: entries first, so that no call is entered whose return cannot be seen.
    pub(crate) fn detach(&mut self) {
        self.entries.clear();
        self.returns.clear();
    }

    /// The functions as the manifest lists them.
    pub(crate) fn manifest(&self) -> impl Iterator<Item = Probe> + '_ {
        self.rows.iter().map(|row| Probe {
            name: row.function.name.to_owned(),
            method: if row.method.is_empty() { "function" } else { row.method }.to_owned(),
            layer: row.function.layer,
            status: row.status.clone(),
        })
    }

    fn open_rows(&self) -> Vec<usize> {
        let open = |row: &Row| row.status == ProbeStatus::Attached && row.method.is_empty();
        (0..self.rows.len()).filter(|&at| open(&self.rows[at])).collect()
    }

    fn attach_multi(&mut self, object: &Object) {
        if self.rungs.multi.is_err() {
            return;
        }
        let open = self.open_rows();
        // Returns first: one that comes before its entry is passed over, an entry without return is not.
        let with_return: Vec<usize> =
            open.iter().copied().filter(|&at| self.rows[at].function.probes_return()).collect();
        let mut failed = Vec::new();
        self.multi_link(object, &with_return, true, &mut failed);
        let entries: Vec<usize> = open.into_iter().filter(|at| !failed.contains(at)).collect();
        self.multi_link(object, &entries, false, &mut failed);
        for at in entries.into_iter().filter(|at| !failed.contains(at)) {
            self.rows[at].method = "kprobe.multi";
        }
    }

    /// One link for all of `rows`; when the kernel refuses, halves, down to the functions it refuses.
    fn multi_link(
        &mut self,
        object: &Object,
        rows: &[usize],
        returns: bool,
        failed: &mut Vec<usize>,
    ) {
        if rows.is_empty() {
            return;
        }
        let Some(program) = program(object, MULTI[usize::from(returns)]) else {
            failed.extend(rows);
            return;
        };
        let opts = KprobeMultiOpts {
            symbols: rows.iter().map(|&at| self.rows[at].symbol.clone()).collect(),
            cookies: rows.iter().map(|&at| self.rows[at].cookie()).collect(),
            retprobe: returns,
            ..KprobeMultiOpts::default()
        };
        match program.attach_kprobe_multi_with_opts(opts) {
            Ok(link) => self.held(returns).push(Held::Link(link)),
            Err(_) if rows.len() == 1 => failed.push(rows[0]),
            Err(_) => {
                let (first, second) = rows.split_at(rows.len() / 2);
                self.multi_link(object, first, returns, failed);
                self.multi_link(object, second, returns, failed);
            }
        }
    }

    fn held(&mut self, returns: bool) -> &mut Vec<Held> {
        if returns { &mut self.returns } else { &mut self.entries }
    }

    fn attach_traces(&mut self, object: &Object) {
        if self.rungs.multi.is_ok() || self.rungs.trace.is_err() {
            return;
        }
        let insns = |name| program(object, name).map(|program| program.insns().to_vec());
        let [Some(entry), Some(exit), Some(lineage)] = TRACE.map(insns) else { return };
        for at in self.open_rows() {
            let row = &self.rows[at];
            // A name with a suffix is no function of BTF's.
            if row.symbol != row.function.name {
                continue;
            }
            let exit = if row.function.reads_return() { &lineage } else { &exit };
            let exit = row.function.probes_return().then(|| self.trace(row, exit, true));
            let linked = match exit {
                Some(Err(why)) => Err(why),
                other => self.trace(row, &entry, false).map(|link| (link, other)),
            };
            match linked {
                Ok((entry, exit)) => {
                    self.entries.push(entry);
                    self.returns.extend(exit.and_then(Result::ok));
                    self.rows[at].method = "fentry";
                }
                // The next rung may take it; if not, this says why.
                Err(why) => self.rungs.trace = Err(why),
            }
        }
    }

    /// Loads a copy of the program for one function and attaches it.
    fn trace(
        &self,
        row: &Row,
        insns: &[libbpf_sys::bpf_insn],
        returns: bool,
    ) -> Result<Held, String> {
        let signature = row.signature.as_ref().ok_or("no BTF")?;
        let signatures = self.signatures.as_ref().ok_or("no BTF")?;
        let module = signatures.module_fd(&signature.module);
        let program = load_trace(insns, signature.id, module.map(|fd| fd.as_raw_fd()), returns)?;
        let mut opts = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
            ..libbpf_sys::bpf_link_create_opts::default()
        };
        opts.__bindgen_anon_1.tracing.cookie = row.cookie();
        // SAFETY: a program just loaded, and options that live through the call.
        let link = unsafe {
            libbpf_sys::bpf_link_create(
                program.as_raw_fd(),
                0,
                trace_type(returns),
                &raw const opts,
            )
        };
        owned(link).map(|link| Held::Descriptors(link, program))
    }

    fn attach_kprobes(&mut self, object: &Object) {
        if self.rungs.kprobe.is_err() {
            return;
        }
        for at in self.open_rows() {
            let row = &self.rows[at];
            let mut links = Vec::new();
            let directions: &[bool] =
                if row.function.probes_return() { &[true, false] } else { &[false] };
            for &returns in directions {
                let opts = KprobeOpts { cookie: row.cookie(), ..KprobeOpts::default() };
                let linked = program(object, KPROBE[usize::from(returns)])
                    .ok_or_else(|| "psc has no program for it".to_owned())
                    .and_then(|program| {
                        program
                            .attach_kprobe_with_opts(returns, &row.symbol, opts)
                            .map_err(|e| format!("kprobe: {e:#}"))
                    });
                match linked {
                    Ok(link) => links.push((returns, link)),
                    Err(why) => {
                        self.rows[at].status = ProbeStatus::Failed(why);
                        break;
                    }
                }
            }
            if self.rows[at].status == ProbeStatus::Attached {
                self.rows[at].method = "kprobe";
                for (returns, link) in links {
                    self.held(returns).push(Held::Link(link));
                }
            }
        }
    }
}

fn program<'obj>(object: &'obj Object, name: &str) -> Option<libbpf_rs::ProgramMut<'obj>> {
    object.progs_mut().find(|program| program.name() == name)
}

impl Row {
    fn new(number: u8, function: &'static Function) -> Self {
        Self {
            function,
            number: FIRST_FUNCTION + number,
            symbol: function.name.to_owned(),
            signature: None,
            meaning: function.returns.unwrap_or_default(),
            method: "",
            status: ProbeStatus::Unwanted,
        }
    }

    fn cookie(&self) -> u64 {
        self.function.cookie(self.number)
    }

    /// Finds the function in the kernel and checks that it is the one the table means.
    fn resolve(
        &mut self,
        found: &[(String, String)],
        signatures: Option<&Signatures>,
    ) -> Result<(), String> {
        let name = self.function.name;
        let exact: Vec<_> = found.iter().filter(|(symbol, _)| symbol == name).collect();
        let variants: Vec<_> =
            found.iter().filter(|(symbol, _)| is_variant(symbol, name)).collect();
        let candidates = if exact.is_empty() { variants } else { exact };
        let (symbol, module) = match candidates.as_slice() {
            [] => return Err("this kernel has no such function, or has inlined it".to_owned()),
            [one] => one,
            many => return Err(format!("{} functions of this kernel have this name", many.len())),
        };
        let signature = signatures
            .and_then(|signatures| signatures.find(name, module))
            .ok_or("BTF does not describe it: its arguments may be anywhere")?;
        let packet = signature.points_to.get(usize::from(self.function.skb) - 1);
        let expected = if self.function.argument.0 == Argument::Chain && self.function.skb == 1 {
            "nft_pktinfo"
        } else {
            "sk_buff"
        };
        if packet.is_none_or(|packet| packet != expected) {
            return Err(format!("argument {} is no {expected} on this kernel", self.function.skb));
        }
        if self.function.sock != 0 {
            let sock = signature.points_to.get(usize::from(self.function.sock) - 1);
            if sock.is_none_or(|sock| sock != "sock") {
                return Err(format!("argument {} is no socket on this kernel", self.function.sock));
            }
        }
        symbol.clone_into(&mut self.symbol);
        if self.function.returns.is_some() {
            self.meaning = meaning(self.function, signature.returned);
        }
        self.signature = Some(signature);
        Ok(())
    }
}

/// The table's meaning, corrected by what this kernel's function returns.
fn meaning(function: &Function, returned: Returned) -> Meaning {
    match (returned, function.returns.unwrap_or_default()) {
        // With no reason to say: one that returns nothing, or is from before drop reasons.
        (Returned::Void, _) | (Returned::Other, Meaning::DropReason) => Meaning::Nothing,
        (Returned::DropReason, _) => Meaning::DropReason,
        (Returned::Bool, _) => Meaning::Truth,
        (Returned::Pointer, _) => Meaning::Pointer,
        (Returned::Other, meaning) => meaning,
    }
}

impl Rungs {
    /// Why no rung takes a function.
    fn why_not(&self) -> String {
        let rungs =
            [("kprobe.multi", &self.multi), ("fentry", &self.trace), ("kprobe", &self.kprobe)];
        let words = rungs.into_iter().map(|(name, rung)| match rung {
            Ok(()) => format!("{name}: refused for this function"),
            Err(why) => format!("{name}: {why}"),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn of_this_kernel(signatures: Option<&Signatures>) -> Self {
        let symbol = "consume_skb";
        let id =
            signatures.and_then(|signatures| signatures.find(symbol, "")).map(|found| found.id);
        let pmu = Path::new("/sys/bus/event_source/devices/kprobe");
        Self {
            multi: try_multi(symbol),
            trace: id.ok_or_else(|| "no BTF".to_owned()).and_then(try_trace),
            kprobe: if pmu.exists() {
                Ok(())
            } else {
                Err("this kernel is built without kprobes".to_owned())
            },
        }
    }
}

/// `return 0`.
fn empty_program() -> [libbpf_sys::bpf_insn; 2] {
    // BPF_ALU64 | BPF_MOV | BPF_K of register 0, BPF_JMP | BPF_EXIT.
    [0xb7, 0x95].map(|code| libbpf_sys::bpf_insn { code, ..libbpf_sys::bpf_insn::default() })
}

pub(crate) fn owned(fd: i32) -> Result<OwnedFd, String> {
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd).to_string());
    }
    // SAFETY: just created and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn trace_type(returns: bool) -> libbpf_sys::bpf_attach_type {
    if returns { libbpf_sys::BPF_TRACE_FEXIT } else { libbpf_sys::BPF_TRACE_FENTRY }
}

fn load_trace(
    insns: &[libbpf_sys::bpf_insn],
    id: u32,
    module: Option<i32>,
    returns: bool,
) -> Result<OwnedFd, String> {
    let mut opts = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
        expected_attach_type: trace_type(returns),
        attach_btf_id: id,
        attach_btf_obj_fd: module.map_or(0, i32::cast_unsigned),
        ..libbpf_sys::bpf_prog_load_opts::default()
    };
    let name = if returns { c"psc_return" } else { c"psc_entry" };
    // SAFETY: instructions, names and options live through the call.
    owned(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_TRACING,
            name.as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as libbpf_sys::size_t,
            &raw mut opts,
        )
    })
}

fn try_trace(id: u32) -> Result<(), String> {
    let program =
        load_trace(&empty_program(), id, None, false).map_err(|e| format!("refused: {e}"))?;
    // SAFETY: a program just loaded and no options.
    let link = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, trace_type(false), std::ptr::null())
    };
    owned(link).map(drop).map_err(|e| format!("attach refused: {e}"))
}

fn try_multi(symbol: &str) -> Result<(), String> {
    let mut opts = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
        expected_attach_type: libbpf_sys::BPF_TRACE_KPROBE_MULTI,
        ..libbpf_sys::bpf_prog_load_opts::default()
    };
    let insns = empty_program();
    // SAFETY: instructions, names and options live through the call.
    let program = owned(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_KPROBE,
            c"psc_try".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as libbpf_sys::size_t,
            &raw mut opts,
        )
    })
    .map_err(|e| format!("refused: {e}"))?;
    let symbol = CString::new(symbol).map_err(|e| e.to_string())?;
    let mut symbols = [symbol.as_ptr()];
    let mut opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        ..libbpf_sys::bpf_link_create_opts::default()
    };
    opts.__bindgen_anon_1.kprobe_multi =
        libbpf_sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_2 {
            cnt: 1,
            syms: symbols.as_mut_ptr(),
            ..Default::default()
        };
    // SAFETY: as above; one symbol, as the count says.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            0,
            libbpf_sys::BPF_TRACE_KPROBE_MULTI,
            &raw const opts,
        )
    };
    owned(link).map(drop).map_err(|e| format!("attach refused: {e}"))
}

/// What an event of the lineage programs is, by the function's row.
pub(crate) fn lineage_kind(
    number: u8,
    other: psc_formats::SkbAddr,
) -> Option<psc_formats::EventKind> {
    use psc_formats::EventKind;
    let function = FUNCTIONS.get(usize::from(number.checked_sub(FIRST_FUNCTION)?))?;
    Some(match function.lineage {
        Lineage::Clone => EventKind::Cloned { child: other },
        Lineage::Copy => EventKind::Copied { child: other },
        Lineage::Segment => EventKind::Segmented { child: other },
        Lineage::Merge => EventKind::Merged { into: other },
        Lineage::Fragment | Lineage::FragmentList => EventKind::Fragmented { child: other },
        Lineage::Reassemble => EventKind::Reassembled { into: other },
        Lineage::None => return None,
    })
}
