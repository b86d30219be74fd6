//! A rule file: TOML to checked rules.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use psc_formats::guard::{Action, Behaviour, Distinct, Per, Rate};
use toml::de::DeTable;

use super::compile::single_key;
use super::literal;
use super::toml_text::{Node, Table, nearest};
use super::{AddressList, RuleError, parse_list};
use crate::expr::Expr;

/// Rules that one file may have.
pub const MAX_RULES: usize = 16_384;
/// Bytes of a rule file at most.
const MAX_TEXT: usize = 16 << 20;

/// What a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Packets for which the expression holds, when there is one, and whose source is in the list, when
    /// there is one.
    Packets {
        /// The expression.
        expr: Option<Expr>,
        /// The list.
        sources: Option<Arc<AddressList>>,
    },
    /// Whoever a finding with this id names.
    Finding(String),
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// Line of the file that it starts at.
    pub line: usize,
    /// What it is about.
    pub condition: Condition,
    /// What it does.
    pub behaviour: Behaviour,
    /// Why it is there.
    pub note: String,
    /// RFC, CVE, ATT&CK...
    pub references: Vec<String>,
}

/// Somebody who is never discarded, whatever the rules say. Bound to more than an address, so that
/// pretending to be them is no pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverBlock {
    /// Who.
    pub what: NeverWhat,
    /// Why.
    pub note: String,
}

/// Who is never discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeverWhat {
    /// An address, when it comes in by this interface from this hardware address.
    Neighbour {
        /// Interface name.
        interface: String,
        /// Hardware address.
        mac: [u8; 6],
        /// Address.
        address: IpAddr,
    },
    /// One connection, both ways.
    Connection {
        /// IP protocol: 6 or 17.
        protocol: u8,
        /// One end.
        local: (IpAddr, u16),
        /// The other.
        remote: (IpAddr, u16),
    },
}

/// A checked rule file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleFile {
    /// In order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// Who is never discarded.
    pub never_block: Vec<NeverBlock>,
}

const RULE_KEYS: &[&str] = &[
    "id",
    "match",
    "sources",
    "finding",
    "action",
    "direction",
    "unproven",
    "per",
    "rate",
    "burst",
    "distinct",
    "block-for",
    "note",
    "references",
];
const NEVER_KEYS: &[&str] = &["interface", "mac", "address", "connection", "note"];
const ACTIONS: [Action; 6] =
    [Action::Pass, Action::Count, Action::Log, Action::Alert, Action::Drop, Action::Limit];
const PERS: [Per; 5] = [Per::All, Per::Source, Per::Destination, Per::Pair, Per::Flow];

impl RuleFile {
    /// Parses and checks a rule file. `load` gives the text of a list that a rule names.
    pub fn parse(
        text: &str,
        load: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, RuleError> {
        if text.len() > MAX_TEXT {
            return Err(RuleError::new("", 0..0, "a rule file has at most 16 MiB"));
        }
        let document = DeTable::parse(text).map_err(|error| {
            let what = format!("this is not TOML: {}", error.message());
            RuleError::new(text, error.span().unwrap_or(0..0), what)
        })?;
        let top = Table::new(text, document.get_ref(), 0..text.len(), &["rule", "never-block"])?;
        let mut file = Self::default();
        let mut ids = HashSet::new();
        let mut lists = Vec::new();
        if let Some(rules) = top.get("rule") {
            for node in rules.array("a list of rules, each under [[rule]],")? {
                if file.rules.len() == MAX_RULES {
                    return Err(node.error(format!("a rule file has at most {MAX_RULES} rules")));
                }
                let table = node.table("a rule", RULE_KEYS)?;
                let rule = rule(&table, load, &mut lists)?;
                if !ids.insert(rule.id.clone()) {
                    let what = format!("there is already a rule `{}`", rule.id);
                    return Err(table.get("id").map_or(table.missing(&what), |id| id.error(&what)));
                }
                file.rules.push(rule);
            }
        }
        if let Some(entries) = top.get("never-block") {
            for node in entries.array("a list of entries, each under [[never-block]],")? {
                file.never_block.push(never(&node.table("an entry", NEVER_KEYS)?)?);
            }
        }
        Ok(file)
    }
}

fn rule(
    table: &Table<'_>,
    load: &mut dyn FnMut(&str) -> Result<String, String>,
    lists: &mut Vec<Arc<AddressList>>,
) -> Result<Rule, RuleError> {
    let id = table.get("id").ok_or_else(|| table.missing("this rule has no id: id = \"name\""))?;
    let name = id.string("a name in quotes")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        return Err(id.error("an id is up to 64 letters, digits, -, _ and ."));
    }
    let condition = condition(table, load, lists)?;
    let behaviour = behaviour(table, &condition)?;
    let note = table.get("note").map(|note| note.string("a text in quotes")).transpose()?;
    let mut references = Vec::new();
    if let Some(list) = table.get("references") {
        for reference in list.array("a list, as references = [\"RFC 4987\"],")? {
            references.push(reference.string("a text in quotes")?.to_owned());
        }
    }
    Ok(Rule {
        id: name.to_owned(),
        line: table.line(),
        condition,
        behaviour,
        note: note.unwrap_or_default().to_owned(),
        references,
    })
}

fn condition(
    table: &Table<'_>,
    load: &mut dyn FnMut(&str) -> Result<String, String>,
    lists: &mut Vec<Arc<AddressList>>,
) -> Result<Condition, RuleError> {
    if let Some(finding) = table.get("finding") {
        for key in ["match", "sources", "rate", "burst", "distinct", "direction", "unproven", "per"]
        {
            if table.get(key).is_some() {
                let what = format!("a rule about a finding has no `{key}`: it is about its actors");
                return Err(table.key_error(key, what));
            }
        }
        let id = finding.string("the id of a detector, as \"port-scan\",")?;
        return Ok(Condition::Finding(id.to_owned()));
    }
    let mut expr = None;
    if let Some(node) = table.get("match") {
        let text = node.string("an expression in quotes, as match = \"tcp.dstport == 22\",")?;
        let parsed = Expr::parse(text)
            .map_err(|error| node.inside(error.column(), error.width(), error.what()))?;
        expr = Some(parsed);
    }
    let mut sources = None;
    if let Some(node) = table.get("sources") {
        let name = node.string("the name of a file with addresses, in quotes,")?;
        let known = lists.iter().find(|list| list.name == name).cloned();
        sources = Some(if let Some(list) = known {
            list
        } else {
            let text = load(name).map_err(|error| node.error(error))?;
            lists.push(Arc::new(parse_list(name, &text)?));
            lists[lists.len() - 1].clone()
        });
    }
    if expr.is_none() && sources.is_none() {
        return Err(table
            .missing("this rule says not what it is about: give `match`, `sources` or `finding`"));
    }
    Ok(Condition::Packets { expr, sources })
}

/// The value of `key` that is one of `all`, by name.
fn one_of<T: Copy>(
    table: &Table<'_>,
    key: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, RuleError> {
    let Some(node) = table.get(key) else { return Ok(None) };
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    let text = node.string(&format!("one of {} in quotes", names.join(", ")))?;
    match all.iter().find(|one| name(**one) == text) {
        Some(one) => Ok(Some(*one)),
        None => Err(node.error(format!(
            "`{key}` is one of {}; the nearest is `{}`",
            names.join(", "),
            nearest(text, &names)
        ))),
    }
}

fn behaviour(table: &Table<'_>, condition: &Condition) -> Result<Behaviour, RuleError> {
    let action = one_of(table, "action", &ACTIONS, Action::name)?.ok_or_else(|| {
        table.missing("this rule has no action: action = \"count\" changes nothing and counts")
    })?;
    let direction = one_of(table, "direction", &["ingress", "egress", "both"], |name| name)?
        .unwrap_or("ingress");
    let per = one_of(table, "per", &PERS, Per::name)?;
    let unproven = table.get("unproven").map(|node| node.boolean("true or false")).transpose()?;
    let rate = rate(table)?;
    let distinct = table.get("distinct").map(|node| distinct(&node)).transpose()?;
    let block = table
        .get("block-for")
        .map(|node| {
            let text = node.string("a duration in quotes (\"10m\")")?;
            literal::duration(text).ok_or_else(|| {
                node.error(format!("`{text}` is no duration: write 30s, 10m or 1h30m, up to 365d"))
            })
        })
        .transpose()?;
    let fail = |key: &str, what: &str| Err(table.key_error(key, what));
    let by_finding = matches!(condition, Condition::Finding(_));
    match action {
        Action::Limit if rate.is_none() && !by_finding => {
            return fail("action", "`limit` needs a rate: rate = \"100/s\"");
        }
        Action::Drop if rate.is_some() => {
            return fail(
                "action",
                "with a rate, the action is `limit`: what is over it is dropped",
            );
        }
        Action::Pass if rate.is_some() || distinct.is_some() => {
            return fail(
                "action",
                "`pass` takes no rate and no threshold: state what is too much with `limit` or `drop`",
            );
        }
        Action::Pass | Action::Count | Action::Log | Action::Alert if block.is_some() => {
            return fail("block-for", "only `drop` and `limit` block");
        }
        Action::Limit | Action::Pass if by_finding => {
            return fail("action", "a rule about a finding counts, logs, alerts or drops");
        }
        Action::Drop if by_finding && block.is_none() => {
            return fail(
                "action",
                "a finding comes after its packets: say for how long to drop, block-for = \"10m\"",
            );
        }
        _ => {}
    }
    if per.is_some() && rate.is_none() && distinct.is_none() && block.is_none() {
        return fail(
            "per",
            "`per` says whose packets are counted together; there is no rate, threshold or block here",
        );
    }
    // What one source does is what most rates are about; a threshold without one makes no sense.
    let per = per.unwrap_or(Per::Source);
    if block.is_some() && !matches!(per, Per::Source | Per::Pair | Per::Flow) {
        let key = if table.get("per").is_some() { "per" } else { "block-for" };
        return fail(key, "`block-for` blocks a source, a pair or a flow");
    }
    Ok(Behaviour {
        action,
        ingress: direction != "egress",
        egress: direction != "ingress",
        per,
        rate,
        distinct,
        unproven: unproven.unwrap_or(false),
        block,
    })
}

fn rate(table: &Table<'_>) -> Result<Option<Rate>, RuleError> {
    let Some(node) = table.get("rate") else {
        return match table.get("burst") {
            Some(_) => Err(table.key_error("burst", "`burst` belongs to a rate: rate = \"100/s\"")),
            None => Ok(None),
        };
    };
    let text = node.string("a rate in quotes (\"100/s\", \"2 MB/s\")")?;
    let mut rate = literal::rate(text).ok_or_else(|| {
        node.error(format!(
            "`{text}` is no rate: write 100/s, 5/m, 1000/h for packets, 500 kB/s or 2 MiB/s for bytes"
        ))
    })?;
    if let Some(node) = table.get("burst") {
        let (unit, burst) = if node.is_integer() {
            (rate.unit, node.integer("a number")?)
        } else {
            let text = node.string("a number of packets, or bytes in quotes (\"1 MB\"),")?;
            literal::amount(text)
                .ok_or_else(|| node.error(format!("`{text}` is no amount: write 50 or \"1 MB\"")))?
        };
        if unit != rate.unit {
            return Err(node.error("rate and burst count the same: packets, or bytes"));
        }
        if !(1..=1 << 40).contains(&burst) {
            return Err(node.error("a burst is from 1 to 1,099,511,627,776"));
        }
        rate.burst = burst;
    }
    Ok(Some(rate))
}

/// Cells fill up: beyond this the count of distinct values would fall far behind the truth.
const MAX_DISTINCT: u64 = 400;

fn distinct(node: &Node<'_>) -> Result<Distinct, RuleError> {
    let shape = "{ field = \"tcp.dstport\", over = 20, within = \"10s\" }";
    let table = node.table(&format!("a threshold, as {shape},"), &["field", "over", "within"])?;
    let need = |key: &str| {
        table
            .get(key)
            .ok_or_else(|| table.missing(format!("`{key}` is missing: distinct = {shape}")))
    };
    let field = need("field")?;
    let name = field.string("a field in quotes")?;
    let key = single_key(name).map_err(|what| field.error(what))?;
    let over = need("over")?;
    let count = over.integer("a number")?;
    if !(1..=MAX_DISTINCT).contains(&count) {
        return Err(over.error(format!("`over` is from 1 to {MAX_DISTINCT}")));
    }
    let within = need("within")?;
    let text = within.string("a duration in quotes (\"10s\")")?;
    let within = literal::duration(text)
        .ok_or_else(|| within.error(format!("`{text}` is no duration: write 10s, 5m or 1h")))?;
    Ok(Distinct { key, over: count as u32, within })
}

fn never(table: &Table<'_>) -> Result<NeverBlock, RuleError> {
    let text = |key: &str| table.get(key).map(|node| Ok((node, node.string("a text in quotes")?)));
    let note = text("note").transpose()?.map_or("", |(_, note)| note).to_owned();
    if let Some((node, ends)) = text("connection").transpose()? {
        let what = connection(ends).ok_or_else(|| {
            node.error(
                "a connection is written \"tcp 192.0.2.1:22 198.51.100.7:50000\", IPv6 as [::1]:22",
            )
        })?;
        return Ok(NeverBlock { what, note });
    }
    let bound = "an entry is bound to interface, mac and address, or to a connection: an address alone \
                 anybody can pretend to have";
    let (Some(interface), Some(mac), Some(address)) =
        (text("interface").transpose()?, text("mac").transpose()?, text("address").transpose()?)
    else {
        return Err(table.missing(bound));
    };
    let mac = crate::expr::parse_mac(mac.1)
        .ok_or_else(|| mac.0.error("a hardware address is written 02:00:00:00:00:01"))?;
    let address =
        address.1.parse().map_err(|_| address.0.error("an IPv4 or IPv6 address is expected"))?;
    let interface = interface.1.to_owned();
    Ok(NeverBlock { what: NeverWhat::Neighbour { interface, mac, address }, note })
}

fn connection(text: &str) -> Option<NeverWhat> {
    let mut words = text.split_whitespace();
    let protocol = match words.next()? {
        "tcp" => 6,
        "udp" => 17,
        _ => return None,
    };
    let mut end = || -> Option<(IpAddr, u16)> {
        let end: std::net::SocketAddr = words.next()?.parse().ok()?;
        Some((end.ip(), end.port()))
    };
    let (local, remote) = (end()?, end()?);
    (words.next().is_none() && local.0.is_ipv4() == remote.0.is_ipv4())
        .then_some(NeverWhat::Connection { protocol, local, remote })
}
