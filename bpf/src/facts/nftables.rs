//! The packet filter's chains and rules, with what their counters say, by nfnetlink.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psc_formats::fact::{FilterChain, FilterRule, FirewallFact};
use psc_formats::function::{known_family, known_hook};

use super::netlink::{Netlink, attributes, text};

/// Rules told of one namespace; of more, the number that was left out.
const RULES: usize = 2_000;
const CHAINS: usize = 512;

const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;

/// Chains and rules of the namespace that the thread is in; counters go to
/// `nft.FAMILY.TABLE.CHAIN.HANDLE.packets`. Empty where there are none or no nf_tables.
pub(super) fn read(counters: &mut BTreeMap<String, u64>) -> FirewallFact {
    let mut fact = FirewallFact::default();
    let Ok(mut netlink) = Netlink::open(libc::NETLINK_NETFILTER) else { return fact };
    // struct nfgenmsg: family (all), version, resource.
    let request = [0; 4];
    let chains = &mut fact.chains;
    let all = netlink.dump(SUBSYSTEM | GET_CHAIN, &request, |body| {
        if chains.len() < CHAINS {
            chains.extend(chain(body));
        }
    });
    if all.is_err() || fact.chains.is_empty() {
        return fact;
    }
    let (rules, left_out) = (&mut fact.rules, &mut fact.left_out);
    let _ = netlink.dump(SUBSYSTEM | GET_RULE, &request, |body| {
        if rules.len() >= RULES {
            *left_out += 1;
        } else if let Some((rule, packets)) = rule(body) {
            if let Some(packets) = packets {
                counters.insert(rule.counter(), packets);
            }
            rules.push(rule);
        }
    });
    fact
}

fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

fn be64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

/// `enum nft_chain_attributes` and `enum nft_hook_attributes`.
fn chain(body: &[u8]) -> Option<FilterChain> {
    let &family = body.first()?;
    let mut found =
        FilterChain { family: known_family(family)?.to_owned(), ..FilterChain::default() };
    for (attribute, value) in attributes(body, 4) {
        match attribute {
            1 => found.table = text(value),
            3 => found.name = text(value),
            4 => {
                for (attribute, value) in attributes(value, 0) {
                    match attribute {
                        1 => {
                            let hook = u8::try_from(be32(value)?).ok();
                            let name = hook.and_then(|hook| known_hook(family, hook));
                            name.unwrap_or_default().clone_into(&mut found.hook);
                        }
                        2 => found.priority = be32(value)?.cast_signed(),
                        3 => found.device = text(value),
                        _ => {}
                    }
                }
            }
            5 => {
                let policy = if be32(value)? == 0 { "drop" } else { "accept" };
                policy.clone_into(&mut found.policy);
            }
            _ => {}
        }
    }
    Some(found)
}

/// `enum nft_rule_attributes`; the packets of its counter, if it has one.
fn rule(body: &[u8]) -> Option<(FilterRule, Option<u64>)> {
    let family = known_family(*body.first()?)?;
    let mut found = FilterRule { family: family.to_owned(), ..FilterRule::default() };
    let mut words = Words::default();
    for (attribute, value) in attributes(body, 4) {
        match attribute {
            1 => found.table = text(value),
            2 => found.chain = text(value),
            3 => found.handle = be64(value)?,
            4 => {
                for (_, element) in attributes(value, 0) {
                    let (mut name, mut data): (String, &[u8]) = (String::new(), &[]);
                    for (attribute, value) in attributes(element, 0) {
                        match attribute {
                            1 => name = text(value),
                            2 => data = value,
                            _ => {}
                        }
                    }
                    words.expression(&name, data);
                }
            }
            _ => {}
        }
    }
    found.conditions = words.conditions;
    found.verdict = words.verdict;
    Some((found, words.packets))
}

/// What a register holds.
#[derive(Clone, Debug)]
enum Loaded {
    /// `tcp dport`, of so many bytes in network order.
    Field(String),
    /// An interface's name.
    Name(String),
    /// A number in the host's order, with names of its bits.
    Host(String),
    /// Bits of one: what was masked in.
    Bits(String, u32),
}

/// Reads expressions as `nft list ruleset` would show them. What it does not know it names, so that a rule is
/// never taken for a wider one.
#[derive(Default)]
struct Words {
    registers: BTreeMap<u32, Loaded>,
    protocol: Option<String>,
    conditions: Vec<String>,
    verdict: String,
    packets: Option<u64>,
}

const PROTOCOLS: &[(u8, &str)] = &[
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (47, "gre"),
    (50, "esp"),
];
const STATES: &[(u32, &str)] =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];

fn protocol(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

impl Words {
    fn expression(&mut self, name: &str, data: &[u8]) {
        let get =
            |wanted: u16| attributes(data, 0).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
        let number = |wanted: u16| get(wanted).and_then(be32);
        match name {
            "counter" => self.packets = get(2).and_then(be64),
            "meta" => {
                if let (Some(register), Some(key)) = (number(1), number(2)) {
                    let field = match key {
                        1 => Loaded::Field("meta protocol".to_owned()),
                        6 => Loaded::Name("iifname".to_owned()),
                        7 => Loaded::Name("oifname".to_owned()),
                        15 => Loaded::Field("meta nfproto".to_owned()),
                        16 => Loaded::Field("meta l4proto".to_owned()),
                        3 => Loaded::Host("meta mark".to_owned()),
                        _ => Loaded::Host(format!("meta {key}")),
                    };
                    self.registers.insert(register, field);
                }
            }
            "ct" => {
                if let (Some(register), Some(key)) = (number(1), number(2)) {
                    let field = if key == 0 { "ct state".to_owned() } else { format!("ct {key}") };
                    self.registers.insert(register, Loaded::Host(field));
                }
            }
            "payload" => {
                if let (Some(register), Some(base), Some(offset), Some(len)) =
                    (number(1), number(2), number(3), number(4))
                {
                    let field = self.field(base, offset, len);
                    self.registers.insert(register, Loaded::Field(field));
                }
            }
            "bitwise" => {
                let mask = get(4).and_then(|value| attributes(value, 0).next()).map(|(_, v)| v);
                if let (Some(from), Some(to)) = (number(1), number(2)) {
                    let bits =
                        mask.and_then(|m| m.get(..4)?.try_into().ok()).map(u32::from_ne_bytes);
                    let loaded = match (self.registers.get(&from), bits) {
                        (Some(Loaded::Host(field)), Some(bits)) => {
                            Loaded::Bits(field.clone(), bits)
                        }
                        (Some(Loaded::Field(field)), _) => {
                            Loaded::Field(format!("{field} & {}", hex(mask.unwrap_or_default())))
                        }
                        _ => Loaded::Field("bits".to_owned()),
                    };
                    self.registers.insert(to, loaded);
                }
            }
            "cmp" => {
                let value = get(3).and_then(|value| attributes(value, 0).next()).map(|(_, v)| v);
                if let (Some(register), Some(operator), Some(value)) = (number(1), number(2), value)
                {
                    self.compare(register, operator, value);
                }
            }
            "limit" => {
                let (rate, unit) = (get(1).and_then(be64), get(2).and_then(be64));
                let over = number(5).is_some_and(|flags| flags & 1 != 0);
                let unit = match unit {
                    Some(1) => "second",
                    Some(60) => "minute",
                    Some(3600) => "hour",
                    _ => "unit",
                };
                let rate = rate.unwrap_or(0);
                self.conditions
                    .push(format!("limit rate {}{rate}/{unit}", if over { "over " } else { "" }));
            }
            "reject" => "reject".clone_into(&mut self.verdict),
            "immediate" => {
                let verdict =
                    get(2).and_then(|value| attributes(value, 0).find(|(kind, _)| *kind == 2));
                if let Some((_, verdict)) = verdict {
                    self.decide(verdict);
                }
            }
            // Those of iptables-nft: what they match is theirs to know.
            "target" => {
                let target = get(1).map(text).unwrap_or_default();
                match target.as_str() {
                    "REJECT" => "reject".clone_into(&mut self.verdict),
                    _ => self.conditions.push(format!("target {target}")),
                }
            }
            "match" => {
                self.conditions.push(format!("match {}", get(1).map(text).unwrap_or_default()));
            }
            "lookup" => {
                self.conditions.push(format!("in set {}", get(1).map(text).unwrap_or_default()));
            }
            other => self.conditions.push(other.to_owned()),
        }
    }

    /// Bases: link 0, network 1, transport 2 (`enum nft_payload_bases`).
    fn field(&self, base: u32, offset: u32, len: u32) -> String {
        let transport = self.protocol.as_deref().unwrap_or("th");
        match (base, offset, len) {
            (1, 9, 1) => "ip protocol".to_owned(),
            (1, 12, 4) => "ip saddr".to_owned(),
            (1, 16, 4) => "ip daddr".to_owned(),
            (1, 8, 16) => "ip6 saddr".to_owned(),
            (1, 24, 16) => "ip6 daddr".to_owned(),
            (2, 0, 1) => format!("{transport} type"),
            (2, 0, 2) => format!("{transport} sport"),
            (2, 2, 2) => format!("{transport} dport"),
            (2, 13, 1) if transport == "tcp" => "tcp flags".to_owned(),
            _ => format!(
                "@{},{},{}",
                ["ll", "nh", "th"].get(base as usize).unwrap_or(&"?"),
                offset * 8,
                len * 8
            ),
        }
    }

    fn compare(&mut self, register: u32, operator: u32, value: &[u8]) {
        let sign =
            ["", "!= ", "< ", "<= ", "> ", ">= "].get(operator as usize).copied().unwrap_or("? ");
        let condition = match self.registers.get(&register) {
            Some(Loaded::Bits(field, bits))
                if operator == 1 && value.iter().all(|octet| *octet == 0) =>
            {
                let names: Vec<&str> = STATES
                    .iter()
                    .filter(|(bit, _)| bits & bit != 0)
                    .map(|(_, name)| *name)
                    .collect();
                if field == "ct state" {
                    format!("{field} {}", names.join(","))
                } else {
                    format!("{field} & {bits:#x}")
                }
            }
            Some(Loaded::Bits(field, bits)) => format!("{field} & {bits:#x} {sign}{}", hex(value)),
            Some(Loaded::Name(field)) => format!("{field} {sign}{}", text(value)),
            Some(Loaded::Host(field)) => {
                let number =
                    value.get(..4).and_then(|v| v.try_into().ok()).map_or(0, u32::from_ne_bytes);
                format!("{field} {sign}{number:#x}")
            }
            Some(Loaded::Field(field)) => {
                let shown = match (field.as_str(), value) {
                    ("meta l4proto" | "ip protocol", &[number]) => {
                        if operator == 0 {
                            self.protocol = Some(protocol(number));
                        }
                        protocol(number)
                    }
                    ("meta nfproto", [2]) => "ipv4".to_owned(),
                    ("meta nfproto", [10]) => "ipv6".to_owned(),
                    (field, &[a, b, c, d]) if field.starts_with("ip ") => {
                        IpAddr::from(Ipv4Addr::new(a, b, c, d)).to_string()
                    }
                    (field, value) if field.starts_with("ip6 ") && !field.contains('&') => {
                        <[u8; 16]>::try_from(value)
                            .map_or_else(|_| hex(value), |v| Ipv6Addr::from(v).to_string())
                    }
                    (field, &[a, b]) if field.ends_with("port") => {
                        u16::from_be_bytes([a, b]).to_string()
                    }
                    (field, &[a]) if field.ends_with("type") => a.to_string(),
                    (_, value) => hex(value),
                };
                format!("{field} {sign}{shown}")
            }
            None => format!("? {sign}{}", hex(value)),
        };
        self.conditions.push(condition);
    }

    fn decide(&mut self, verdict: &[u8]) {
        let mut code = None;
        let mut chain = String::new();
        for (attribute, value) in attributes(verdict, 0) {
            match attribute {
                1 => code = be32(value).map(u32::cast_signed),
                2 => chain = text(value),
                _ => {}
            }
        }
        self.verdict = match code {
            Some(0) => "drop".to_owned(),
            Some(1) => "accept".to_owned(),
            Some(3) => "queue".to_owned(),
            Some(-3) => format!("jump {chain}"),
            Some(-4) => format!("goto {chain}"),
            Some(-5) => "return".to_owned(),
            _ => return,
        };
    }
}

fn hex(value: &[u8]) -> String {
    let digits: Vec<String> = value.iter().take(16).map(|octet| format!("{octet:02x}")).collect();
    format!("0x{}", digits.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        attribute(kind, &value.to_be_bytes())
    }

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let name = attribute(1, format!("{name}\0").as_bytes());
        attribute(1, &[name, attribute(2, &data.concat())].concat())
    }

    /// `tcp dport 80 ct state invalid counter packets 7 drop`
    fn message() -> Vec<u8> {
        let data = |value: &[u8]| attribute(3, &attribute(1, value));
        let expressions = [
            expression("meta", &[number(1, 1), number(2, 16)]),
            expression("cmp", &[number(1, 1), number(2, 0), data(&[6])]),
            expression("payload", &[number(1, 1), number(2, 2), number(3, 2), number(4, 2)]),
            expression("cmp", &[number(1, 1), number(2, 0), data(&[0, 80])]),
            expression("ct", &[number(1, 1), number(2, 0)]),
            expression(
                "bitwise",
                &[number(1, 1), number(2, 1), attribute(4, &attribute(1, &1_u32.to_ne_bytes()))],
            ),
            expression("cmp", &[number(1, 1), number(2, 1), data(&[0; 4])]),
            expression("counter", &[attribute(1, &[0; 8]), attribute(2, &7_u64.to_be_bytes())]),
            expression("immediate", &[number(1, 0), attribute(2, &attribute(2, &number(1, 0)))]),
        ];
        let mut body = vec![1, 0, 0, 0];
        body.extend(attribute(1, b"t\0"));
        body.extend(attribute(2, b"c\0"));
        body.extend(attribute(3, &4_u64.to_be_bytes()));
        body.extend(attribute(4, &expressions.concat()));
        body
    }

    #[test]
    fn a_rule_reads_as_nft_shows_it() {
        let (rule, packets) = rule(&message()).expect("a rule");
        assert_eq!((rule.family.as_str(), rule.handle, packets), ("inet", 4, Some(7)));
        assert_eq!(rule.conditions, ["meta l4proto tcp", "tcp dport 80", "ct state invalid"]);
        assert_eq!(
            (rule.verdict.as_str(), rule.counter().as_str()),
            ("drop", "nft.inet.t.c.4.packets")
        );
    }

    #[test]
    fn messages_cut_anywhere_are_harmless() {
        let whole = message();
        for len in 0..whole.len() {
            let _ = (rule(&whole[..len]), chain(&whole[..len]));
        }
        let _ = (rule(&[0xff; 300]), chain(&[0xff; 300]));
    }
}
