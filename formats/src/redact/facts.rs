//! Manifest and facts: addresses and names in them.

use std::net::IpAddr;

use super::mapping::Mapping;
use super::{Changes, Stays, is_about_nobody, rules};
use crate::{Fact, Manifest};

/// Tables and chains that every host has: their names say nothing of anybody.
const USUAL_CHAINS: [&str; 17] = [
    "filter",
    "nat",
    "mangle",
    "raw",
    "security",
    "input",
    "output",
    "forward",
    "prerouting",
    "postrouting",
    "ingress",
    "egress",
    "INPUT",
    "OUTPUT",
    "FORWARD",
    "PREROUTING",
    "POSTROUTING",
];

/// Between the hosts of a merge (`psc merge`).
const HOSTS: &str = " + ";

pub(super) fn manifest(
    manifest: &Manifest,
    mapping: &mut Mapping,
    changes: &mut Changes,
) -> Manifest {
    let mut out = manifest.clone();
    // A merge has the names of all its hosts.
    let hosts: Vec<String> = manifest
        .host
        .name
        .split(HOSTS)
        .map(|host| {
            changes.names += u64::from(!host.is_empty());
            mapping.learn("host", host)
        })
        .collect();
    out.host.name = hosts.join(HOSTS);
    // What was given to it may be anything: names, addresses, passwords.
    let words: Vec<&str> = manifest.command.split_whitespace().take(2).collect();
    if words.len() < manifest.command.split_whitespace().count() {
        changes.names += 1;
    }
    let verb = words.get(1).copied().unwrap_or_default();
    out.command = if manifest.command.is_empty() { String::new() } else { format!("psc {verb}") };
    out.filter = text(&manifest.filter, mapping, changes);
    out.blind_spots =
        manifest.blind_spots.iter().map(|spot| text(spot, mapping, changes)).collect();
    for step in &mut out.custody {
        step.options = text(&step.options, mapping, changes);
    }
    if let Some(acquisition) = &mut out.acquisition {
        acquisition.user = name("user", &acquisition.user, mapping, changes);
        acquisition.boot_id = name("boot", &acquisition.boot_id, mapping, changes);
    }
    out
}

/// Redacts a fact; `false` when it may not stay at all.
pub(super) fn fact(fact: &mut Fact, mapping: &mut Mapping, changes: &mut Changes) -> Stays {
    if is_about_nobody(fact) {
        return true;
    }
    match fact {
        Fact::Device(device) => {
            device.mac = text(&device.mac, mapping, changes);
            device.netns_name = namespace(&device.netns_name, mapping, changes);
            for address in &mut device.addresses {
                *address = text(address, mapping, changes);
            }
        }
        Fact::Task(task) => {
            task.comm = name("process", &task.comm, mapping, changes);
            task.cgroup = name("cgroup", &task.cgroup, mapping, changes);
            task.container = name("container", &task.container, mapping, changes);
        }
        Fact::Socket(socket) => {
            for end in [&mut socket.local, &mut socket.remote].into_iter().flatten() {
                end.0 = address(end.0, mapping, changes);
            }
            socket.comm = name("process", &socket.comm, mapping, changes);
        }
        Fact::Routes(routes) => {
            for route in &mut routes.routes {
                route.destination = prefix(route.destination, route.prefix, mapping, changes);
                route.gateway = route.gateway.map(|hop| address(hop, mapping, changes));
            }
            for route in &mut routes.refusing {
                route.destination = prefix(route.destination, route.prefix, mapping, changes);
            }
            for rule in &mut routes.rules {
                *rule = text(rule, mapping, changes);
            }
        }
        Fact::Neighbours(neighbours) => {
            for neighbour in &mut neighbours.neighbours {
                neighbour.address = address(neighbour.address, mapping, changes);
                neighbour.mac = text(&neighbour.mac, mapping, changes);
            }
        }
        Fact::Sysctls(sysctls) => {
            for value in sysctls.values.values_mut() {
                *value = text(value, mapping, changes);
            }
        }
        Fact::Notice(notice) => notice.text = text(&notice.text, mapping, changes),
        Fact::Counters(counters) => {
            let values = std::mem::take(&mut counters.values);
            counters.values = values
                .into_iter()
                .map(|(counter, value)| (rule_counter(counter, mapping, changes), value))
                .collect();
        }
        Fact::Firewall(firewall) => {
            let chains = firewall.chains.iter_mut().flat_map(|c| [&mut c.table, &mut c.name]);
            let rules = firewall.rules.iter_mut().flat_map(|r| [&mut r.table, &mut r.chain]);
            for part in chains.chain(rules) {
                *part = chain(part, mapping, changes);
            }
            for rule in &mut firewall.rules {
                // `jump CHAIN`, `goto CHAIN`.
                if let Some((verdict, target)) = rule.verdict.split_once(' ')
                    && matches!(verdict, "jump" | "goto")
                {
                    rule.verdict = format!("{verdict} {}", chain(target, mapping, changes));
                }
                for condition in &mut rule.conditions {
                    *condition = text(condition, mapping, changes);
                }
            }
        }
        Fact::Chain(fact) => {
            for part in [&mut fact.table, &mut fact.chain] {
                *part = chain(part, mapping, changes);
            }
        }
        Fact::End(end) => {
            // `curl exited with 0`.
            if let Some((command, status)) = end.reason.split_once(" exited with ") {
                end.reason =
                    format!("{} exited with {status}", name("process", command, mapping, changes));
            }
            changes.signatures += u64::from(end.seal.take().is_some());
        }
        Fact::RouteProbes(run) => {
            run.host = name("host", &run.host, mapping, changes);
            for end in [&mut run.source, &mut run.target].into_iter().flatten() {
                *end = address(*end, mapping, changes);
            }
            for answer in run.probes.iter_mut().filter_map(|probe| probe.answer.as_mut()) {
                answer.from = address(answer.from, mapping, changes);
            }
        }
        Fact::Rules(rules) => {
            rules.file = name("rules", &rules.file, mapping, changes);
            rules.text = rules::file(&rules.text, mapping, changes);
        }
        Fact::Verdicts(verdicts) => {
            for rule in &mut verdicts.rules {
                rule.id = name("rule", &rule.id, mapping, changes);
            }
        }
        Fact::Checkpoint(_) => {
            changes.signatures += 1;
            return false;
        }
        // Nothing is known of it.
        Fact::Unknown => return false,
        Fact::Symbol(_)
        | Fact::Stack(_)
        | Fact::Loss(_)
        | Fact::Probe(_)
        | Fact::Clock(_)
        | Fact::Sampling(_) => {}
    }
    true
}

fn name(kind: &str, name: &str, mapping: &Mapping, changes: &mut Changes) -> String {
    changes.names += u64::from(!name.is_empty());
    mapping.name(kind, name)
}

/// A table or chain of the packet filter.
fn chain(part: &str, mapping: &Mapping, changes: &mut Changes) -> String {
    if USUAL_CHAINS.contains(&part) {
        return part.to_owned();
    }
    name("chain", part, mapping, changes)
}

/// The name of a counter; tables and chains are part of those of rules
/// ([`crate::fact::FilterRule::counter`]). Where a name has a dot, which part is which is not known, and the
/// whole is replaced: nothing leaks, and the rule has no counter.
fn rule_counter(counter: String, mapping: &Mapping, changes: &mut Changes) -> String {
    let Some((family, rest)) = counter.strip_prefix("nft.").and_then(|c| c.split_once('.')) else {
        return counter;
    };
    let parts: Vec<&str> = rest.split('.').collect();
    match parts[..] {
        [table, part, handle, unit] => {
            let (table, part) = (chain(table, mapping, changes), chain(part, mapping, changes));
            format!("nft.{family}.{table}.{part}.{handle}.{unit}")
        }
        _ => format!("nft.{family}.{}", name("chain", rest, mapping, changes)),
    }
}

/// A namespace; in a merge, its host's name comes before it, or stands for the one that has no name.
fn namespace(name: &str, mapping: &mut Mapping, changes: &mut Changes) -> String {
    changes.names += u64::from(!name.is_empty());
    if let Some(host) = mapping.host(name) {
        return host.clone();
    }
    if let Some((host, own)) = name.split_once('/')
        && let Some(host) = mapping.host(host).cloned()
    {
        return format!("{host}/{}", mapping.learn("namespace", own));
    }
    mapping.learn("namespace", name)
}

fn address(address: IpAddr, mapping: &mut Mapping, changes: &mut Changes) -> IpAddr {
    changes.addresses += 1;
    mapping.address(address)
}

/// A network's address, replaced: of what stands for it, only the prefix means something.
fn prefix(of: IpAddr, len: u8, mapping: &mut Mapping, changes: &mut Changes) -> IpAddr {
    network(address(of, mapping, changes), len.into())
}

/// The first address of a network.
fn network(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// Every address and link-layer address in a text, and every name of a host or namespace known so far, replaced.
pub(super) fn text(text: &str, mapping: &mut Mapping, changes: &mut Changes) -> String {
    let hidden = mapping.hide(text);
    let text = hidden.as_str();
    let part_of_one = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        let len = rest.find(|c| !part_of_one(c)).unwrap_or(rest.len());
        if len == 0 || inside_word {
            inside_word = first.is_alphanumeric() || first == '_';
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (token, after) = rest.split_at(len);
        // `deadbeef` of a longer word is no address.
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        out.push_str(&if ends { replaced(token, mapping, changes) } else { token.to_owned() });
        inside_word = !ends;
        rest = after;
    }
    out
}

fn replaced(token: &str, mapping: &mut Mapping, changes: &mut Changes) -> String {
    let bare = token.trim_end_matches(['.', ':']);
    let tail = &token[bare.len()..];
    let octets: Vec<&str> = bare.split(':').collect();
    if octets.len() == 6 && octets.iter().all(|octet| octet.len() == 2) {
        let mut mac = [0; 6];
        for (byte, octet) in mac.iter_mut().zip(&octets) {
            *byte = u8::from_str_radix(octet, 16).unwrap_or(0);
        }
        changes.macs += 1;
        return format!("{}{tail}", crate::packet::Mac(mapping.mac(mac)));
    }
    // An address alone; one whose last colon was taken for the sentence's (`fe80::`); with a port.
    let with_port = bare.rsplit_once(':').filter(|(address, _)| !address.contains(':'));
    for (candidate, tail) in [
        (token, String::new()),
        (bare, tail.to_owned()),
        (
            with_port.map_or("", |(address, _)| address),
            with_port.map_or(String::new(), |(_, port)| format!(":{port}{tail}")),
        ),
    ] {
        if let Ok(found) = candidate.parse::<IpAddr>() {
            return format!("{}{tail}", address(found, mapping, changes));
        }
    }
    token.to_owned()
}
