//! The rules at work: attached, replaced, confirmed or taken back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use psc_bpf::guard::{Attached, Block, Guard, GuardOptions, GuardRules, Point};
use psc_formats::fact::{RuleVerdicts, RulesFact, VerdictsFact};
use psc_formats::guard::{Behaviour, EVERY_RULE, Flow, Per};
use psc_replay::guarder::rules::{Condition, RuleSet};
use psc_replay::view::detect::Finding;

use super::board::address;
use super::{interface, never};
use crate::cli::LiveArgs;
use crate::cli::live::AttachPoint;
use crate::output::Console;

/// A rule set in the kernel.
struct Loaded {
    set: RuleSet,
    guard: Guard,
    text: String,
    enforced: bool,
}

/// How programs fit the kernel and the interface.
#[derive(Clone, Copy)]
struct Shape {
    /// No TCX: filters that look for a sign of life.
    classic: bool,
    /// Frames have Ethernet headers.
    ethernet: bool,
}

/// The rules of one interface.
pub(super) struct Control {
    path: PathBuf,
    ifindex: u32,
    interface: String,
    classic: bool,
    ethernet: bool,
    enforce: bool,
    current: Loaded,
    attached: Vec<Attached>,
    /// Until when to be confirmed, and what to go back to otherwise.
    trial: Option<Instant>,
    before: Option<Loaded>,
    confirm_within: Option<Duration>,
    /// Blocks that have been told of: (key, made).
    told: Vec<Block>,
    swept: Instant,
}

impl Control {
    /// Loads and attaches. What was chosen and why goes to the console.
    pub(super) fn start(args: &LiveArgs, path: PathBuf, console: Console) -> anyhow::Result<Self> {
        let (ifindex, ethernet) = interface::find(&args.interface)?;
        let classic = !interface::kernel_has_tcx() || args.attach == AttachPoint::TcFilter;
        let (set, text) = read(&path, args.enforce, console)?;
        let shape = Shape { classic, ethernet };
        let mut current = load(set, text, args.enforce, shape, None)?;
        let egress = current.set.file.rules.iter().any(|rule| rule.behaviour.egress);
        let ingress = current.set.file.rules.iter().any(|rule| rule.behaviour.ingress) || !egress;
        never_block(&current, &args.interface, console)?;
        let mut points = Vec::new();
        if ingress {
            points.push(choose(args, &mut current.guard, console));
        }
        if egress {
            points.push(Point::TcEgress);
        }
        let mut attached = Vec::new();
        for point in points {
            current.guard.beat()?;
            let tried = Attached::new(&current.guard, point, ifindex, classic);
            attached.push(match (tried, point, args.attach) {
                (Err(error), Point::XdpNative, AttachPoint::Auto) => {
                    console.note(&format!("the driver takes no XDP program ({error}): using TC"));
                    Attached::new(&current.guard, Point::TcIngress, ifindex, classic)?
                }
                (tried, ..) => tried.with_context(|| {
                    format!("cannot attach rules to {}; try another --attach", args.interface)
                })?,
            });
        }
        for one in &attached {
            let how = if one.stays() {
                "; a filter stays should psc be killed, and passes everything after a second"
            } else {
                "; the kernel takes it out when psc ends"
            };
            console.note(&format!("rules at {} of {}{how}", one.point().name(), args.interface));
        }
        let confirm_within = args.confirm_within.map(|span| span.0);
        Ok(Self {
            path,
            ifindex,
            interface: args.interface.clone(),
            classic,
            ethernet,
            enforce: args.enforce,
            current,
            attached,
            trial: confirm_within.and_then(|span| now().checked_add(span)),
            before: None,
            confirm_within,
            told: Vec::new(),
            swept: now(),
        })
    }

    /// What is at work, in words.
    pub(super) fn mode(&self) -> String {
        let points: Vec<&str> = self.attached.iter().map(|one| one.point().name()).collect();
        let what = if self.current.enforced { "enforcing" } else { "dry-run" };
        format!("{what} at {}", points.join(" and "))
    }

    /// The rules as a fact of the recording.
    pub(super) fn fact(&self, at: u64) -> RulesFact {
        RulesFact {
            at,
            interface: self.interface.clone(),
            points: self.attached.iter().map(|one| one.point().name().to_owned()).collect(),
            enforced: self.current.enforced,
            file: crate::source::name(&self.path),
            text: self.current.text.clone(),
        }
    }

    /// What they have done, as a fact of the recording.
    pub(super) fn verdicts(&self, at: u64) -> anyhow::Result<VerdictsFact> {
        let totals = self.current.guard.totals()?;
        let counters = self.current.guard.counters()?;
        let rules = self.current.set.file.rules.iter().zip(counters);
        Ok(VerdictsFact {
            at,
            asked: totals.asked,
            discarded: totals.discarded,
            never: totals.never,
            no_state: totals.no_state,
            rules: rules
                .map(|(rule, c)| RuleVerdicts {
                    id: rule.id.clone(),
                    matched: c.matched,
                    discarded: c.discarded,
                    blocked: c.blocked,
                    blocks: c.blocks,
                    unproven: c.unproven,
                })
                .collect(),
        })
    }

    /// Action of each rule, in order.
    pub(super) fn actions(&self) -> impl Iterator<Item = &'static str> {
        self.current.set.file.rules.iter().map(|rule| rule.behaviour.action.name())
    }

    /// A sign of life, for programs that look for one.
    pub(super) fn beat(&self) -> anyhow::Result<()> {
        Ok(self.current.guard.beat()?)
    }

    /// This source completed a handshake.
    pub(super) fn prove(&self, flow: &Flow) -> anyhow::Result<()> {
        Ok(self.current.guard.prove(flow)?)
    }

    /// What rules about findings do with this one; told in words.
    pub(super) fn finding(&self, finding: &Finding) -> anyhow::Result<Vec<String>> {
        let mut said = Vec::new();
        for (rule, number) in self.current.set.file.rules.iter().zip(0_u32..) {
            let Condition::Finding(id) = &rule.condition else { continue };
            let Some(span) = rule.behaviour.block.filter(|_| *id == finding.id) else { continue };
            for source in finding.actors.iter().filter_map(|actor| address(actor)) {
                let tuple = psc_formats::FiveTuple {
                    protocol: 0,
                    src: source,
                    sport: 0,
                    dst: source,
                    dport: 0,
                };
                let flow = Flow::of_tuple(&tuple);
                if self.current.guard.is_proven(&flow)? {
                    self.current.guard.block(number, Per::Source, &flow, span)?;
                } else {
                    said.push(format!(
                        "rule {} does not block {source}: it completed no handshake, so anybody could have \
                         pretended to be it",
                        rule.id
                    ));
                }
            }
        }
        Ok(said)
    }

    /// Blocks under way and, since the last look, new ones in words. Ends those whose time is over.
    pub(super) fn blocks(&mut self, now_ns: u64) -> anyhow::Result<(Vec<Block>, Vec<String>)> {
        let mut under_way = Vec::new();
        let mut said = Vec::new();
        let sweep = self.swept.elapsed() > Duration::from_secs(1);
        for block in self.current.guard.blocks()? {
            if block.until <= now_ns {
                if sweep {
                    self.current.guard.unblock(&block.key)?;
                }
                continue;
            }
            let known = self.told.iter().any(|t| t.key == block.key && t.made == block.made);
            if !known {
                let after = match block.made.checked_sub(block.first).filter(|_| block.first != 0) {
                    Some(ns) => format!(
                        ", {} after the first packet that counted",
                        psc_reports::units::duration(ns)
                    ),
                    None => String::new(),
                };
                said.push(format!(
                    "rule {} {} {} for {}{after}",
                    self.rule_name(block.rule),
                    if self.current.enforced { "blocks" } else { "would block" },
                    who(&block),
                    psc_reports::units::duration(block.until - block.made)
                ));
            }
            under_way.push(block);
        }
        if sweep {
            self.swept = now();
        }
        under_way.sort_by_key(|block| (block.made, block.key));
        self.told.clone_from(&under_way);
        Ok((under_way, said))
    }

    /// Id of a rule by its number.
    pub(super) fn rule_name(&self, number: u32) -> &str {
        self.current.set.file.rules.get(number as usize).map_or("?", |rule| rule.id.as_str())
    }

    /// Confirms what is on trial; whether anything was.
    pub(super) fn confirm(&mut self) -> bool {
        self.before = None;
        self.trial.take().is_some()
    }

    /// Goes back to what was before when the time to confirm is over; in words when it was.
    pub(super) fn expire(&mut self) -> anyhow::Result<Option<String>> {
        if self.trial.is_none_or(|until| now() < until) {
            return Ok(None);
        }
        self.trial = None;
        if let Some(before) = self.before.take() {
            self.swap(before)?;
            return Ok(Some("not confirmed in time: the rules from before are back".to_owned()));
        }
        let dry = load(
            self.current.set.clone(),
            self.current.text.clone(),
            false,
            Shape { classic: self.classic, ethernet: self.ethernet },
            Some(&self.current.guard),
        )?;
        self.enforce = false;
        self.swap(dry)?;
        Ok(Some(
            "not confirmed in time: nothing is discarded any more, rules only count".to_owned(),
        ))
    }

    /// Reads the rule file again and puts it in the place of what is at work.
    pub(super) fn reload(&mut self, console: Console) -> anyhow::Result<String> {
        let (set, text) = read(&self.path, self.enforce, console)?;
        let fresh = load(
            set,
            text,
            self.enforce,
            Shape { classic: self.classic, ethernet: self.ethernet },
            Some(&self.current.guard),
        )?;
        let needs_egress = fresh.set.file.rules.iter().any(|rule| rule.behaviour.egress);
        anyhow::ensure!(
            !needs_egress || self.attached.iter().any(|one| one.point() == Point::TcEgress),
            "the new rules look at packets that go out and the old ones did not; start psc live again for that"
        );
        self.keep_blocks(&fresh)?;
        never_block(&fresh, &self.interface, console)?;
        let before = self.swap(fresh)?;
        if let Some(span) = self.confirm_within {
            self.before = Some(before);
            self.trial = now().checked_add(span);
        }
        Ok(format!("{} rules from {}", self.current.set.file.rules.len(), self.path.display()))
    }

    /// Blocks go on under the new number of their rule, and end with a rule that is gone.
    fn keep_blocks(&self, fresh: &Loaded) -> anyhow::Result<()> {
        for mut block in self.current.guard.blocks()? {
            let id = self.rule_name(block.rule);
            match fresh.set.file.rules.iter().position(|rule| rule.id == id) {
                Some(number) => {
                    block.rule = number as u32;
                    fresh.guard.put_block(&block)?;
                }
                None => fresh.guard.unblock(&block.key)?,
            }
        }
        Ok(())
    }

    /// Puts other rules to work; returns those that were.
    fn swap(&mut self, fresh: Loaded) -> anyhow::Result<Loaded> {
        fresh.guard.beat()?;
        for one in &mut self.attached {
            one.replace(&fresh.guard, self.ifindex)?;
        }
        Ok(std::mem::replace(&mut self.current, fresh))
    }
}

#[expect(clippy::disallowed_methods, reason = "trials and sweeps happen in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Who a block is about.
pub(super) fn who(block: &Block) -> String {
    let key = &block.key;
    debug_assert_eq!(key.rule, EVERY_RULE);
    let address = |bytes: &[u8; 16]| match key.family {
        4 => std::net::Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).to_string(),
        _ => std::net::Ipv6Addr::from(*bytes).to_string(),
    };
    let (src, dst) = (address(&key.src), address(&key.dst));
    match key.per {
        per if per == Per::Source as u8 && key.family == 6 => format!("{src}/64"),
        per if per == Per::Source as u8 => src,
        per if per == Per::Pair as u8 => format!("{src} to {dst}"),
        _ => format!("{src} {} to {dst} {}", key.sport, key.dport),
    }
}

fn read(
    path: &std::path::Path,
    enforce: bool,
    console: Console,
) -> anyhow::Result<(RuleSet, String)> {
    let set = crate::guard::load(path, console)?;
    let refused = set.not_enforceable();
    if let Some((rule, why)) = refused.first() {
        anyhow::ensure!(
            !enforce,
            "{}: the kernel cannot decide {} of these rules, and leaving them out would change what the others \
             do: {} (line {}): {why}; `psc guard check` lists all",
            path.display(),
            refused.len(),
            rule.id,
            rule.line
        );
        console.note(&format!(
            "{} of the rules are for replay only and not asked here",
            refused.len()
        ));
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Ok((set, text))
}

fn load(
    set: RuleSet,
    text: String,
    enforce: bool,
    shape: Shape,
    before: Option<&Guard>,
) -> anyhow::Result<Loaded> {
    let behaviours: Vec<Behaviour> = set.file.rules.iter().map(|rule| rule.behaviour).collect();
    // The ssh session and the gateway are entries whatever the file says.
    let rules = GuardRules { table: &set.table, behaviours: &behaviours, never: true };
    let options =
        GuardOptions { enforce, heartbeat: shape.classic, test: false, ethernet: shape.ethernet };
    let guard =
        Guard::load(&rules, options, before).context("cannot put the rules into the kernel")?;
    Ok(Loaded { set, guard, text, enforced: enforce })
}

fn never_block(loaded: &Loaded, interface: &str, console: Console) -> anyhow::Result<()> {
    for (never, who) in never::entries(interface, &loaded.set.file) {
        loaded.guard.never(&never)?;
        console.note(&format!("never discarded: {who}"));
    }
    Ok(())
}

/// Where to look at packets that come in, said with the reason.
fn choose(args: &LiveArgs, guard: &mut Guard, console: Console) -> Point {
    let mut frame =
        vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 1, 0x40, 0, 60, 17];
    frame.extend([0, 0, 192, 0, 2, 9, 192, 0, 2, 1, 0x9c, 0x40, 0, 9, 0, 30, 0, 0]);
    frame.resize(64, 0);
    let mut cost = |point| guard.rate(Some(point), &frame, 2000);
    let (xdp, tc) = (cost(Point::XdpNative), cost(Point::TcIngress));
    if let (Ok(xdp), Ok(tc)) = (&xdp, &tc) {
        console.note(&format!(
            "these rules take {xdp} ns a packet at XDP and {tc} ns at TC on this machine"
        ));
    }
    match args.attach {
        AttachPoint::Tc | AttachPoint::TcFilter => Point::TcIngress,
        AttachPoint::Xdp => Point::XdpNative,
        AttachPoint::XdpGeneric => Point::XdpGeneric,
        AttachPoint::Auto => {
            let facts = interface::facts(&args.interface);
            let (point, why) = interface::choose(&facts);
            console.note(&format!("{} for {}: {why}", point.name(), args.interface));
            point
        }
    }
}
