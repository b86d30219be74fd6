//! Kernel addresses to symbol names, from `/proc/kallsyms`.

use std::fs::File;
use std::io::BufReader;

use psc_formats::event::SymbolId;
use psc_formats::fact::{Fact, SymbolFact};
use rustc_hash::FxHashMap;

/// A function is never this long; an address so far past a symbol belongs to nothing we know.
const LONGEST_FUNCTION: u64 = 1 << 20;

/// One address, named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) id: SymbolId,
    pub(crate) role: Role,
}

/// What a frame is in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A function of the path.
    Path,
    /// The way from the tracepoint to the BPF program.
    Tracing,
    /// Entry of a softirq or interrupt: the callers beyond were interrupted.
    Entry,
}

/// Function symbols, sorted by address.
pub(crate) struct Symbols {
    table: Vec<(u64, u32)>,
    names: String,
    frames: FxHashMap<u64, Frame>,
    /// Table looked up and not found since it was read: a module may have been loaded.
    misses: u32,
    last: u32,
}

impl Symbols {
    /// Names nothing.
    pub(crate) fn none() -> Self {
        Self {
            table: Vec::new(),
            names: String::new(),
            frames: FxHashMap::default(),
            misses: u32::MAX,
            last: 0,
        }
    }

    /// Reads the table; empty when the kernel does not show addresses.
    pub(crate) fn read() -> Self {
        let mut symbols = Self::none();
        symbols.reload();
        symbols
    }

    /// Whether addresses can be named at all (`kptr_restrict`, `CAP_SYSLOG`).
    pub(crate) fn usable(&self) -> bool {
        !self.table.is_empty()
    }

    fn reload(&mut self) {
        self.table.clear();
        self.names.clear();
        if let Ok(file) = File::open("/proc/kallsyms") {
            self.load(BufReader::with_capacity(1 << 16, file));
        }
        self.misses = 0;
    }

    fn load(&mut self, mut from: impl std::io::BufRead) {
        let mut line = String::new();
        while from.read_line(&mut line).is_ok_and(|n| n > 0) {
            if let Some((address, name)) = function(&line) {
                self.table.push((address, self.names.len() as u32));
                // `name\t[module]` is kept as `name\tmodule`.
                self.names.extend(name.chars().filter(|c| !matches!(c, '[' | ']')));
                self.names.push('\n');
            }
            line.clear();
        }
        // Stable, and the first of several names of one address stays first.
        self.table.sort_by_key(|&(address, _)| address);
    }

    /// Functions whose name `wanted` takes, with their modules; a name can come more than once.
    pub(crate) fn functions(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let named = self.names.lines().filter_map(|line| {
            let (name, module) = line.split_once('\t').unwrap_or((line, ""));
            wanted(name).then(|| (name.to_owned(), module.to_owned()))
        });
        named.collect()
    }

    /// Name (with module after a tab) and offset of an address.
    fn find(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.table.partition_point(|&(start, _)| start <= address);
        let (start, _) = *self.table.get(after.checked_sub(1)?)?;
        let first = self.table.partition_point(|&(other, _)| other < start);
        let (_, name) = *self.table.get(first)?;
        let offset = address - start;
        (offset < LONGEST_FUNCTION)
            .then(|| Some((self.names.get(name as usize..)?.lines().next()?, offset)))?
    }

    /// The symbol of an address; a fact goes out when it is new. 0 is "no address".
    pub(crate) fn frame(&mut self, address: u64, facts: &mut Vec<Fact>) -> Frame {
        if address == 0 {
            return Frame { id: SymbolId(0), role: Role::Path };
        }
        if let Some(&frame) = self.frames.get(&address) {
            return frame;
        }
        if self.find(address).is_none() && self.misses < 4 {
            // Once per few unknown addresses: reading the table takes tens of milliseconds.
            let misses = self.misses + 1;
            self.reload();
            self.misses = misses;
        }
        let (name, module, offset) = match self.find(address) {
            Some((text, offset)) => {
                let (name, module) = text.split_once('\t').unwrap_or((text, ""));
                (name.to_owned(), module.to_owned(), offset as u32)
            }
            None => ("?".to_owned(), String::new(), 0),
        };
        self.last += 1;
        let frame = Frame { id: SymbolId(self.last), role: role(&name) };
        facts.push(Fact::Symbol(SymbolFact { id: self.last, name, offset, module }));
        // Bounded: there are only so many call sites, but BPF programs come and go.
        if self.frames.len() >= 1 << 20 {
            self.frames.clear();
        }
        self.frames.insert(address, frame);
        frame
    }
}

/// Address, kind, name, and after a tab the module in brackets; functions only.
fn function(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.split_once(' ')?;
    let (kind, name) = rest.trim_end().split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    (address != 0 && matches!(kind, "t" | "T" | "w" | "W")).then_some((address, name))
}

fn role(name: &str) -> Role {
    const TRACING: &[&str] = &[
        "bpf_prog_",
        "bpf_trace_run",
        "__bpf_trace_",
        "__traceiter_",
        "bpf_trampoline_",
        "bpf_get_stack",
        "__bpf_get_stack",
    ];
    const ENTRY: &[&str] = &[
        "__do_softirq",
        "handle_softirqs",
        "do_softirq",
        "do_softirq_own_stack",
        "irq_exit_rcu",
        "__irq_exit_rcu",
        "irq_exit",
        "common_interrupt",
        "handle_irq_event",
        "__handle_irq_event_percpu",
        "generic_handle_irq",
        "el1_interrupt",
        "el0_interrupt",
        "call_on_irq_stack",
        "run_ksoftirqd",
    ];
    // The compiler's clones: `do_softirq.part.0`.
    let base = name.split('.').next().unwrap_or(name);
    if TRACING.iter().any(|prefix| base.starts_with(prefix)) {
        Role::Tracing
    } else if ENTRY.contains(&base) || base.starts_with("sysvec_") || base.starts_with("asm_") {
        Role::Entry
    } else {
        Role::Path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000100 t tcp_v4_rcv
ffffffff81000100 t tcp_v4_rcv_alias
ffffffff81000080 T ip_rcv
ffffffff81000180 D some_data
ffffffffc0000000 t nf_hook\t[nf_tables]
";

    fn table() -> Symbols {
        let mut symbols = Symbols::none();
        symbols.load(TABLE.as_bytes());
        symbols
    }

    #[test]
    fn addresses_get_the_symbol_below_them() {
        let symbols = table();
        assert_eq!(symbols.find(0xffff_ffff_8100_0080), Some(("ip_rcv", 0)));
        assert_eq!(symbols.find(0xffff_ffff_8100_00ff), Some(("ip_rcv", 0x7f)));
        assert_eq!(symbols.find(0xffff_ffff_8100_0100), Some(("tcp_v4_rcv", 0)), "first alias");
        assert_eq!(symbols.find(0xffff_ffff_8100_007f), None, "below the first");
        assert_eq!(symbols.find(0xffff_ffff_9000_0000), None, "far past a function");
    }

    #[test]
    fn one_fact_per_address_and_the_module_apart() {
        let (mut symbols, mut facts) = (table(), Vec::new());
        let first = symbols.frame(0xffff_ffff_c000_0010, &mut facts);
        assert_eq!(symbols.frame(0xffff_ffff_c000_0010, &mut facts).id, first.id);
        let [Fact::Symbol(symbol)] = facts.as_slice() else { panic!("{facts:?}") };
        assert_eq!((symbol.name.as_str(), symbol.offset), ("nf_hook", 0x10));
        assert_eq!(symbol.module, "nf_tables");
    }

    #[test]
    fn clones_of_entries_are_entries() {
        assert_eq!(role("do_softirq.part.0"), Role::Entry);
        assert_eq!(role("handle_softirqs"), Role::Entry);
        assert_eq!(role("asm_sysvec_apic_timer_interrupt"), Role::Entry);
        assert_eq!(role("__traceiter_kfree_skb"), Role::Tracing);
        assert_eq!(role("net_rx_action"), Role::Path);
    }
}
