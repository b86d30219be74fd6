//! From kernel stacks to the functions that tell where a packet was.

use psc_formats::event::{StackId, SymbolId};
use psc_formats::manifest::Layer;
use psc_formats::{Event, EventKind, Manifest, Tables};
use rustc_hash::FxHashMap;

use crate::layers;

/// Functions that are how a probe is reached wherever the packet is: freeing, copying out, and the
/// tracing machinery itself. What called them is the place.
const PLUMBING: [&str; 18] = [
    "__bpf_",
    "__copy_skb",
    "__kfree_skb",
    "__skb_datagram",
    "__traceiter_",
    "arch_rethook",
    "bpf_",
    "consume_skb",
    "ftrace_",
    "kfree_skb",
    "kprobe_",
    "napi_consume_skb",
    "perf_trace_",
    "sk_skb_reason_drop",
    "skb_consume_udp",
    "skb_copy_datagram",
    "skb_free_datagram",
    "trace_",
];

fn is_plumbing(name: &str) -> bool {
    PLUMBING.iter().any(|prefix| name.starts_with(prefix))
}

/// A function name by number, from 1; 0 is "not known".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionId(pub(crate) u32);

/// Names of functions, and which one each stack comes down to.
#[derive(Debug)]
pub(crate) struct Functions {
    names: Vec<String>,
    layers: Vec<Option<Layer>>,
    by_name: FxHashMap<String, FunctionId>,
    by_stack: FxHashMap<StackId, FunctionId>,
}

impl Default for Functions {
    fn default() -> Self {
        Self {
            names: vec![String::new()],
            layers: vec![None],
            by_name: FxHashMap::default(),
            by_stack: FxHashMap::default(),
        }
    }
}

impl Functions {
    /// The function that a step is at: the one whose own probe it is, else as [`Self::of_event`].
    pub(crate) fn of_step(
        &mut self,
        event: &Event,
        manifest: &Manifest,
        tables: &Tables,
    ) -> FunctionId {
        match event.kind {
            EventKind::FunctionEntry { .. } | EventKind::FunctionReturn { .. } => {
                self.intern(manifest.probe_name(event.probe))
            }
            _ => self.of_event(event, tables),
        }
    }

    /// The function that `event` happened in: the innermost one of its stack that belongs to the
    /// network stack, else the caller that a free names.
    fn of_event(&mut self, event: &Event, tables: &Tables) -> FunctionId {
        let from_stack = self.of_stack(event.stack.id, tables);
        if from_stack != FunctionId(0) {
            return from_stack;
        }
        match event.kind {
            EventKind::Free { location, .. } | EventKind::Consume { location } => tables
                .symbols
                .get(&location)
                .map_or(FunctionId(0), |symbol| self.intern(&symbol.name)),
            _ => FunctionId(0),
        }
    }

    fn of_stack(&mut self, id: StackId, tables: &Tables) -> FunctionId {
        if id == StackId(0) {
            return FunctionId(0);
        }
        if let Some(known) = self.by_stack.get(&id) {
            return *known;
        }
        // A stack whose fact has not come yet may still come: not remembered.
        let Some(stack) = tables.stacks.get(&id) else { return FunctionId(0) };
        let place = stack
            .frames
            .iter()
            .map(|&frame| tables.function(SymbolId(frame)))
            .find(|name| !is_plumbing(name) && layers::of_function(name).is_some());
        let function = place.map_or(FunctionId(0), |name| self.intern(name));
        self.by_stack.insert(id, function);
        function
    }

    /// The functions through which a stack entered each layer, outermost first.
    pub(crate) fn entries(&mut self, id: StackId, tables: &Tables) -> Vec<FunctionId> {
        let Some(stack) = tables.stacks.get(&id) else { return Vec::new() };
        let mut entries = Vec::new();
        let mut inside = None;
        for &frame in stack.frames.iter().rev() {
            let name = tables.function(SymbolId(frame));
            let layer = layers::of_function(name).filter(|_| !is_plumbing(name));
            if layer.is_some() && layer != inside {
                inside = layer;
                entries.push(self.intern(name));
            }
        }
        entries
    }

    pub(crate) fn name(&self, id: FunctionId) -> &str {
        &self.names[id.0 as usize]
    }

    /// The layer of a function, where its name tells.
    pub(crate) fn layer(&self, id: FunctionId) -> Option<Layer> {
        self.layers[id.0 as usize]
    }

    fn intern(&mut self, name: &str) -> FunctionId {
        // `.constprop.0`, `.isra.0`, `.part.0`, `.cold`: what the compiler made of one function.
        let name = name.split('.').next().unwrap_or(name);
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let id = FunctionId(self.names.len() as u32);
        self.names.push(name.to_owned());
        self.layers.push(layers::of_function(name));
        self.by_name.insert(name.to_owned(), id);
        id
    }
}
