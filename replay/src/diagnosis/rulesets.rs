//! Which rule of the packet filter a drop is due to, as far as rules, counters and packets tell.

use std::collections::BTreeSet;
use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::fact::{FilterChain, FilterRule, FirewallFact};
use psc_formats::flow::ProtocolName;

use super::case::{Case, counted};
use super::seen::{Drop, Hook};

/// Rules named when it may have been any of several.
const SHOWN: usize = 3;

/// A rule or a policy, and how it is known.
pub(super) struct Culprit {
    /// Where: `inet t c handle 4`, `the policy of inet t c`; empty when it may have been any of several.
    pub(super) name: String,
    pub(super) evidence: Vec<String>,
}

/// The rule that these drops at one hook are due to.
pub(super) fn culprit(case: &Case<'_>, netns: u32, hook: Hook, drops: &[&Drop]) -> Option<Culprit> {
    let fact = case.tables.firewalls.iter().rev().find(|fact| fact.netns == netns)?;
    let space = case.space(netns)?;
    let most = drops.iter().max_by_key(|drop| drop.times.count)?;
    let flow = most.flows.most(1).into_iter().next().map(|(flow, _)| flow);
    let v6 = flow.is_some_and(|flow| flow.dst.is_ipv6());
    let bases: Vec<&FilterChain> =
        fact.chains.iter().filter(|chain| is_at(chain, hook, v6)).collect();
    let chains = reachable(fact, &bases);
    let device = case.device_name(most.device);
    let mut rules: Vec<(&FilterRule, Option<u64>)> = fact
        .rules
        .iter()
        .filter(|rule| {
            chains.contains(&(rule.family.as_str(), rule.table.as_str(), rule.chain.as_str()))
                && matches!(rule.verdict.as_str(), "drop" | "reject")
                && may_match(rule, flow, device)
        })
        .map(|rule| (rule, space.counted(&rule.counter())))
        // A counter that stood still says that it was not this one.
        .filter(|(_, rise)| *rise != Some(0))
        .collect();
    // One that rose says that it was.
    if rules.iter().any(|(_, rise)| rise.is_some()) {
        rules.retain(|(_, rise)| rise.is_some());
    }
    let policies: Vec<&&FilterChain> =
        bases.iter().filter(|chain| chain.policy == "drop").collect();
    match (rules.as_slice(), policies.as_slice()) {
        (&[(rule, rise)], policies) if rise.is_some() || policies.is_empty() => Some(Culprit {
            name: format!("rule {} of {} {} {}", rule.handle, rule.family, rule.table, rule.chain),
            evidence: vec![
                format!("Rule {} of {} {} {}: `{}`.", rule.handle, rule.family, rule.table, rule.chain, shown(rule)),
                match rise {
                    Some(rise) => format!("Its counter rose by {rise} during the recording (the kernel's own count)."),
                    None => "It has no counter; it is the only rule at that hook that drops and that these packets can match \
                             (inferred)."
                        .to_owned(),
                },
            ],
        }),
        (&[], &[chain]) => Some(Culprit {
            name: format!("the policy of {} {} {}", chain.family, chain.table, chain.name),
            evidence: vec![format!(
                "The chain {} {} {} drops what no rule accepts (policy drop), and no rule at that hook drops these packets \
                 (inferred).",
                chain.family, chain.table, chain.name
            )],
        }),
        (&[], _) => None,
        (rules, policies) => Some(Culprit {
            name: String::new(),
            evidence: rules
                .iter()
                .take(SHOWN)
                .map(|(rule, rise)| {
                    format!(
                        "It may have been rule {} of {} {} {}: `{}`{}.",
                        rule.handle,
                        rule.family,
                        rule.table,
                        rule.chain,
                        shown(rule),
                        rise.map_or(String::new(), |rise| format!(", counted {}", counted(rise, "packet")))
                    )
                })
                .chain(policies.iter().map(|chain| {
                    format!("It may have been the policy of {} {} {}.", chain.family, chain.table, chain.name)
                }))
                .collect(),
        }),
    }
}

fn is_at(chain: &FilterChain, hook: Hook, v6: bool) -> bool {
    let of_ip = chain.family == "inet" || chain.family == if v6 { "ip6" } else { "ip" };
    let named = chain.hook == hook.name();
    match hook {
        Hook::Unknown => false,
        Hook::ArpInput | Hook::ArpOutput => chain.family == "arp" && named,
        Hook::Bridge => chain.family == "bridge" && !chain.hook.is_empty(),
        Hook::Ingress | Hook::Egress => matches!(chain.family.as_str(), "netdev" | "inet") && named,
        Hook::Prerouting | Hook::Input | Hook::Forward | Hook::Output | Hook::Postrouting => {
            of_ip && named
        }
    }
}

type Key<'a> = (&'a str, &'a str, &'a str);

/// Base chains and whatever their rules jump or go to.
fn reachable<'a>(fact: &'a FirewallFact, bases: &[&'a FilterChain]) -> BTreeSet<Key<'a>> {
    let mut found: BTreeSet<Key<'a>> = BTreeSet::new();
    let mut open: Vec<Key<'a>> = bases
        .iter()
        .map(|chain| (chain.family.as_str(), chain.table.as_str(), chain.name.as_str()))
        .collect();
    while let Some(key) = open.pop() {
        if !found.insert(key) {
            continue;
        }
        for rule in &fact.rules {
            if (rule.family.as_str(), rule.table.as_str(), rule.chain.as_str()) == key
                && let Some((_, target)) = rule
                    .verdict
                    .split_once(' ')
                    .filter(|(what, _)| matches!(*what, "jump" | "goto"))
            {
                open.push((key.0, key.1, target));
            }
        }
    }
    found
}

/// Whether no condition of a rule contradicts the packets. What is not understood may hold.
fn may_match(rule: &FilterRule, flow: Option<FiveTuple>, device: &str) -> bool {
    let Some(flow) = flow else { return true };
    rule.conditions.iter().all(|condition| {
        let words: Vec<&str> = condition.split(' ').collect();
        // `FIELD NAME VALUE`, equality alone.
        let &[of, field, value] = words.as_slice() else { return true };
        let address = |of: IpAddr| value.parse::<IpAddr>().map_or(true, |value| value == of);
        let port = |of: u16| value.parse::<u16>().map_or(true, |value| value == of);
        let protocol = || {
            ProtocolName(flow.protocol).to_string() == value
                || value.parse::<u8>() == Ok(flow.protocol)
                || value == "ipv6-icmp" && flow.protocol == 58
        };
        match (of, field) {
            ("meta", "l4proto") | ("ip", "protocol") => protocol(),
            ("meta", "nfproto") => (value == "ipv6") == flow.dst.is_ipv6(),
            ("ip" | "ip6", "saddr") => address(flow.src),
            ("ip" | "ip6", "daddr") => address(flow.dst),
            ("tcp" | "udp" | "th", "sport") => port(flow.sport),
            ("tcp" | "udp" | "th", "dport") => port(flow.dport),
            ("iifname", _) => field == device,
            _ => true,
        }
    })
}

/// As `nft list ruleset` would show it: without what a later word implies.
fn shown(rule: &FilterRule) -> String {
    let implied = |protocol: &str| {
        rule.conditions.iter().any(|condition| condition.starts_with(&format!("{protocol} ")))
    };
    let mut words: Vec<&str> = rule
        .conditions
        .iter()
        .filter(|condition| !condition.strip_prefix("meta l4proto ").is_some_and(&implied))
        .map(String::as_str)
        .collect();
    words.push(&rule.verdict);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(chain: &str, conditions: &[&str], verdict: &str) -> FilterRule {
        FilterRule {
            family: "inet".to_owned(),
            table: "t".to_owned(),
            chain: chain.to_owned(),
            handle: 4,
            conditions: conditions.iter().map(|&condition| condition.to_owned()).collect(),
            verdict: verdict.to_owned(),
        }
    }

    #[test]
    fn a_rule_that_contradicts_the_packet_is_left_out() {
        let flow = FiveTuple {
            protocol: 6,
            src: [10, 0, 0, 1].into(),
            sport: 4000,
            dst: [10, 0, 0, 2].into(),
            dport: 80,
        };
        let cases: &[(&[&str], bool)] = &[
            (&[], true),
            (&["meta l4proto tcp", "tcp dport 80"], true),
            (&["meta l4proto tcp", "tcp dport 443"], false),
            (&["meta l4proto udp", "udp dport 80"], false),
            (&["ip saddr 10.0.0.1"], true),
            (&["ip saddr 10.0.0.9"], false),
            (&["ip6 saddr fd00::1"], false),
            (&["tcp dport != 443"], true),
            (&["ct state invalid"], true),
            (&["in set blocked"], true),
            (&["meta nfproto ipv6"], false),
        ];
        for (conditions, expected) in cases {
            let rule = rule("c", conditions, "drop");
            assert_eq!(may_match(&rule, Some(flow), "eth0"), *expected, "{conditions:?}");
        }
    }

    #[test]
    fn chains_are_followed_and_rules_read_like_nft() {
        let base = FilterChain {
            family: "inet".to_owned(),
            table: "t".to_owned(),
            name: "c".to_owned(),
            hook: "input".to_owned(),
            ..FilterChain::default()
        };
        let fact = FirewallFact {
            rules: vec![rule("c", &[], "jump d"), rule("d", &[], "goto c"), rule("e", &[], "drop")],
            ..FirewallFact::default()
        };
        assert!(is_at(&base, Hook::Input, true) && !is_at(&base, Hook::Forward, true));
        let names: Vec<&str> = reachable(&fact, &[&base]).into_iter().map(|key| key.2).collect();
        assert_eq!(names, ["c", "d"]);
        assert_eq!(
            shown(&rule("c", &["meta l4proto tcp", "tcp dport 80"], "drop")),
            "tcp dport 80 drop"
        );
    }
}
