//! What is ordinary: who may ask whom for what, learned from a recording or written by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::talk::Ends;
use super::{Protocol, Role, Streams, Talks};
use crate::engine::{Observer, Sighting, World};
use crate::first_sight::FirstSight;

/// Pairs of clients and servers, and what each client may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Sorted by protocol, client and server.
    #[serde(default)]
    pub pair: Vec<Pair>,
}

/// One client and one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Protocol between them.
    pub protocol: Protocol,
    /// Who asks.
    pub client: IpAddr,
    /// Who is asked.
    pub server: IpAddr,
    /// Units, outstations or common addresses asked for; empty allows all.
    #[serde(default)]
    pub units: Vec<u32>,
    /// Function numbers, each with the address ranges (first, last) asked for; no range allows all.
    #[serde(default)]
    pub functions: BTreeMap<String, Vec<(u32, u32)>>,
}

impl Pair {
    /// Address ranges allowed for a function; `None` when the function is not.
    pub(crate) fn ranges(&self, function: u16) -> Option<&[(u32, u32)]> {
        self.functions.get(&function.to_string()).map(Vec::as_slice)
    }
}

impl Baseline {
    /// The pair, when it is ordinary at all.
    pub(crate) fn pair(&self, ends: &Ends) -> Option<&Pair> {
        self.pair.iter().find(|pair| {
            pair.protocol == ends.protocol
                && pair.client == ends.client
                && pair.server == ends.server
        })
    }

    /// What was said, as what may be said.
    pub(crate) fn of(talks: &Talks) -> Self {
        let pair = talks
            .pairs
            .iter()
            .filter(|(_, talk)| talk.requests > 0)
            .map(|(ends, talk)| Pair {
                protocol: ends.protocol,
                client: ends.client,
                server: ends.server,
                units: talk.units.iter().copied().collect(),
                functions: talk
                    .functions
                    .iter()
                    .map(|(code, function)| {
                        (code.to_string(), function.ranges.iter().copied().collect())
                    })
                    .collect(),
            })
            .collect();
        Self { pair }
    }
}

/// Observes a pass and learns its baseline.
#[derive(Debug, Default)]
pub struct Learner {
    once: FirstSight,
    streams: Streams,
    talks: Talks,
    counts: BTreeMap<(Protocol, u16), u64>,
}

impl Learner {
    /// What the pass showed.
    pub fn finish(self) -> Baseline {
        Baseline::of(&self.talks)
    }

    /// Messages by protocol and function number, both directions; CIP services, BACnet's unconfirmed
    /// services and the link frames of IEC 104 have bit 0x100 set.
    pub fn counts(&self) -> &BTreeMap<(Protocol, u16), u64> {
        &self.counts
    }
}

impl Observer for Learner {
    fn sighting(&mut self, _world: World<'_>, sighting: &Sighting<'_>) {
        let Some((headers, _)) = self.once.packet(sighting) else { return };
        let payload = crate::guarder::payload(headers, sighting.bytes);
        let Some((protocol, role, read)) = self.streams.packet(headers, payload) else { return };
        let Some((src, dst)) = headers.addresses() else { return };
        for message in &read.messages {
            *self.counts.entry((protocol, message.function)).or_default() += 1;
            let (client, server) = ends(role, message.role, src, dst);
            if let Some(talk) = self.talks.of(Ends { protocol, client, server }) {
                talk.heard(message, sighting.event.at.0, sighting.journey);
            }
        }
    }

    fn closed(&mut self, _world: World<'_>, journey: &crate::engine::ClosedJourney) {
        self.once.never_counted(journey);
    }
}

/// Client and server of a message: by the ports (`side`), except where both ends have the server's port,
/// then by what the message is.
pub(crate) fn ends(side: Role, message: Role, src: IpAddr, dst: IpAddr) -> (IpAddr, IpAddr) {
    match (side, message) {
        (Role::Request, Role::Request) => (src, dst),
        (Role::Request, Role::Response) | (Role::Response, _) => (dst, src),
    }
}
