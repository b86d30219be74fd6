//! Datagrams in fragments (RFC 791, RFC 8200): fragments of one are told by addresses, protocol and
//! identification.
//!
//! A host that cuts a datagram makes new skbs; one that puts it together goes on with the skb of the fragment
//! that came last (`inet_frag_reasm_prepare` gives that skb the first fragment's bytes). Reassembly is
//! taken for seen when the first fragment is freed there, or when the last one goes on with the bytes of all.

use std::collections::VecDeque;
use std::net::IpAddr;

use psc_formats::event::SymbolId;
use psc_formats::packet::{Headers, Network};
use psc_formats::{Event, EventKind, Ns, Tables};
use rustc_hash::FxHashMap;

use super::{Journeys, clones};
use crate::engine::{Ambiguity, Evidence, JourneyId, Lineage};

/// How long fragments of one datagram may be apart, nanoseconds: `net.ipv4.ipfrag_time` is 30 s.
const WINDOW: u64 = 30_000_000_000;

/// Datagrams remembered at most.
const MAX: usize = 1 << 16;

/// Fragments of one at most: 64 KiB in the smallest fragments that IPv4 must carry whole (RFC 791: 68 bytes)
/// would be more, which nobody sends.
const MAX_PARTS: usize = 256;

/// Bytes that a fragment's skb may have beside its share of the datagram: the longest IPv4 header, a link
/// header with two tags.
const MAX_HEADERS: u32 = 60 + 22;

/// What fragments of one datagram share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

/// Where a fragment belongs in its datagram: offset, bytes, whether more follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    offset: u32,
    len: u32,
    more: bool,
}

/// The datagram that a packet is a fragment of; `None` when it is whole.
fn fragment(headers: &Headers) -> Option<(Key, Span)> {
    match headers.network {
        Network::V4(ip) if ip.more_fragments || ip.fragment_offset != 0 => {
            let key = Key {
                src: ip.src.into(),
                dst: ip.dst.into(),
                protocol: ip.protocol,
                id: ip.id.into(),
            };
            let len = u32::from(ip.total_len).saturating_sub(ip.header_len.into());
            Some((key, Span { offset: ip.fragment_offset.into(), len, more: ip.more_fragments }))
        }
        Network::V6(ip) => {
            let (id, offset, more) = ip.fragment?;
            let key = Key { src: ip.src.into(), dst: ip.dst.into(), protocol: ip.protocol, id };
            // A fragment's length is what its headers leave; an atomic fragment (RFC 6946) is whole.
            let whole = offset == 0 && !more;
            let len = headers.payload_len;
            (!whole).then_some((key, Span { offset: offset.into(), len, more }))
        }
        Network::V4(_) | Network::Arp(_) | Network::None => None,
    }
}

#[derive(Clone, Copy, Debug)]
struct Part {
    slot: u32,
    id: JourneyId,
    span: Span,
}

/// A datagram's fragments, as they came.
#[derive(Debug)]
struct Datagram {
    /// The journey that its fragments are joined to: the whole datagram's, else the first fragment's.
    first: JourneyId,
    parts: Vec<Part>,
    at: Ns,
    /// Its parts are joined to the one that carries it on.
    joined: bool,
}

impl Datagram {
    /// Bytes of the whole, when every fragment has been seen.
    fn total(&self) -> Option<u32> {
        let last = self.parts.iter().map(|part| part.span).find(|span| !span.more)?;
        let end = last.offset.saturating_add(last.len);
        let seen: u64 = self.parts.iter().map(|part| u64::from(part.span.len)).sum();
        (seen >= u64::from(end)).then_some(end)
    }
}

/// Datagrams under way.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    known: FxHashMap<Key, Datagram>,
    ages: VecDeque<(Ns, Key)>,
    /// Per CPU, the generation last seen there: what it cuts, it has just handled.
    last: Vec<Option<(u32, JourneyId)>>,
}

impl Datagrams {
    fn expire(&mut self, now: Ns) {
        while let Some(&(at, key)) = self.ages.front()
            && (at.0.saturating_add(WINDOW) < now.0 || self.ages.len() >= MAX)
        {
            self.ages.pop_front();
            if self.known.get(&key).is_some_and(|datagram| datagram.at == at) {
                self.known.remove(&key);
            }
        }
    }
}

impl Journeys {
    /// Joins the generation in `slot` to the other fragments of its datagram, if `headers` say that it is one
    /// now; `opens` when this event is its first.
    pub(super) fn note_fragment(
        &mut self,
        slot: u32,
        opens: bool,
        event: &Event,
        headers: &Headers,
    ) {
        let Some((key, span)) = fragment(headers) else { return };
        let generation = self.slab.get(slot);
        if generation.is_clone {
            return;
        }
        let id = generation.id;
        let part = Part { slot, id, span };
        let whole = if opens { self.cut_from(event, headers) } else { None };
        let datagrams = &mut self.datagrams;
        datagrams.expire(event.at);
        let known = datagrams.known.get_mut(&key);
        let mut doubtful = false;
        let first = match known {
            // Seen again as it was, on its way through another device.
            Some(known) if known.parts.iter().any(|p| p.id == id && p.span == span) => return,
            Some(known)
                if !known.parts.iter().any(|p| p.id == id || p.span.offset == span.offset)
                    && known.parts.len() < MAX_PARTS =>
            {
                known.parts.push(part);
                known.first
            }
            known => {
                // The same place again: another datagram of the same identification, or this one cut anew.
                let cut_anew = known.as_ref().is_none_or(|k| k.parts.iter().any(|p| p.id == id));
                doubtful = !cut_anew && known.is_some_and(|known| known.total().is_none());
                let first = whole.unwrap_or(id);
                let datagram = Datagram { first, parts: vec![part], at: event.at, joined: false };
                datagrams.known.insert(key, datagram);
                datagrams.ages.push_back((event.at, key));
                first
            }
        };
        let generation = self.slab.get_mut(slot);
        generation.datagram = Some(key);
        if doubtful {
            generation.ambiguous.get_or_insert(Ambiguity::SameIdentification);
        }
        if first != id {
            generation.join(Lineage::Fragment, first, Evidence::Content);
            // Where it comes from is known: that it was not seen to be born is what cutting looks like.
            if opens && generation.ambiguous == Some(Ambiguity::BirthNotObserved) {
                generation.ambiguous = None;
            }
        }
    }

    /// The whole packet that this CPU handled just before it made this fragment.
    fn cut_from(&self, event: &Event, headers: &Headers) -> Option<JourneyId> {
        let (slot, id) = self.datagrams.last.get(event.cpu as usize).copied().flatten()?;
        if !self.slab.holds(slot, id) {
            return None;
        }
        // Addresses may have been translated on the way.
        match (self.slab.get(slot).last_headers()?.network, headers.network) {
            (Network::V4(whole), Network::V4(part))
                if whole.id == part.id
                    && whole.protocol == part.protocol
                    && !whole.more_fragments
                    && whole.fragment_offset == 0
                    && whole.total_len > part.total_len =>
            {
                Some(id)
            }
            _ => None,
        }
    }

    /// Notes what an event says about reassembly, and what its CPU handled last.
    pub(super) fn note_reassembly(&mut self, slot: u32, event: &Event, tables: &Tables) {
        let generation = self.slab.get(slot);
        let (id, datagram) = (generation.id, generation.datagram);
        let cpu = event.cpu as usize;
        if self.datagrams.last.len() <= cpu {
            self.datagrams.last.resize(cpu + 1, None);
        }
        self.datagrams.last[cpu] = Some((slot, id));
        let Some(key) = datagram else { return };
        let Some(known) = self.datagrams.known.get_mut(&key) else { return };
        let Some(&carrier) = known.parts.last() else { return };
        if known.joined || known.parts.len() < 2 || !known.parts.iter().any(|part| part.id == id) {
            return;
        }
        let seen = match event.kind {
            EventKind::Consume { location } | EventKind::Free { location, .. }
                if carrier.id != id =>
            {
                is_reassembly(location, tables)
            }
            _ => {
                let own = carrier.span.len.saturating_add(MAX_HEADERS);
                carrier.id == id && event.len > own && known.total().is_some()
            }
        };
        if !seen {
            return;
        }
        known.joined = true;
        let parts = known.parts.clone();
        for part in parts {
            if part.id != carrier.id && self.slab.holds(part.slot, part.id) {
                let generation = self.slab.get_mut(part.slot);
                generation.join(Lineage::Reassembled, carrier.id, Evidence::Content);
                generation.goes_on = true;
            }
        }
    }
}

/// Whether what is freed there is the first fragment of a datagram that goes on in another skb.
fn is_reassembly(location: SymbolId, tables: &Tables) -> bool {
    matches!(
        clones::base_name(tables.function(location)),
        "inet_frag_reasm_prepare" | "inet_frag_reasm_finish" | "ip_frag_reasm" | "ip_frag_queue"
    )
}
