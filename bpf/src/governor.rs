//! The load governor of `record --budget`: what recording takes of the machine is measured each second; over
//! the budget, optional probes are detached and then whole flows left out, by hash and with their weight told,
//! so that totals can be made whole again. Losing events at random could not be.

use std::os::fd::{AsFd as _, OwnedFd};

use libbpf_rs::libbpf_sys;
use psc_formats::Batch;
use psc_formats::fact::{Fact, ProbeFact, SamplingFact};
use psc_formats::manifest::ProbeStatus;

use crate::attach;
use crate::kernel;
use crate::live::LiveSource;

/// Load is measured over this long.
const PERIOD_NS: u64 = 1_000_000_000;
/// Periods well below the budget after which a flow in two comes back.
const CALM: u32 = 5;
/// Flows kept: one in this many at least.
const MOST: u32 = 1 << 16;

/// What to do about the load of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Detach probes that journeys and drops can do without.
    Detach,
    /// Keep one in this many flows.
    Keep(u32),
}

/// Decides; reads no clock and no counter.
#[derive(Clone, Copy, Debug)]
struct Rule {
    budget_ppm: u32,
    weight: u32,
    optional: bool,
    calm: u32,
}

impl Rule {
    fn step(&mut self, load_ppm: u32) -> Step {
        if load_ppm > self.budget_ppm {
            self.calm = 0;
            if self.optional {
                self.optional = false;
                return Step::Detach;
            }
            // As far as the excess says, but one period's burst must not shed nearly everything.
            let excess = load_ppm.div_ceil(self.budget_ppm.max(1)).clamp(2, 8).next_power_of_two();
            let weight = self.weight.saturating_mul(excess).min(MOST);
            return self.keep(weight);
        }
        // Half of the weight may be twice the load.
        if load_ppm > self.budget_ppm / 3 || self.weight == 1 {
            self.calm = 0;
            return Step::Nothing;
        }
        self.calm += 1;
        if self.calm < CALM {
            return Step::Nothing;
        }
        self.calm = 0;
        self.keep(self.weight / 2)
    }

    fn keep(&mut self, weight: u32) -> Step {
        if weight == self.weight {
            return Step::Nothing;
        }
        self.weight = weight;
        Step::Keep(weight)
    }
}

/// The governor of one recording.
pub(crate) struct Governor {
    rule: Rule,
    measured_at: u64,
    spent: u64,
    /// Keeps the kernel counting what programs take.
    _stats: Option<OwnedFd>,
    started: bool,
}

impl Governor {
    pub(crate) fn new(budget_ppm: u32, now: u64) -> Self {
        // SAFETY: no preconditions; a new descriptor or negative.
        let stats = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
        Self {
            rule: Rule { budget_ppm, weight: 1, optional: true, calm: 0 },
            measured_at: now,
            spent: 0,
            _stats: crate::tier2::owned(stats).ok(),
            started: false,
        }
    }
}

impl LiveSource {
    /// Once a period: measures, decides, and says what changed.
    pub(crate) fn govern(&mut self, now: u64, batch: &mut Batch) {
        let Some(mut governor) = self.governor.take() else { return };
        let elapsed = now.saturating_sub(governor.measured_at);
        if elapsed >= PERIOD_NS && !self.stopped {
            let spent = self.time_spent();
            let took = spent.saturating_sub(governor.spent);
            governor.spent = spent;
            governor.measured_at = now;
            let capacity = u128::from(elapsed) * u128::from(self.manifest.host.cpus.max(1));
            let load = u128::from(took) * 1_000_000 / capacity.max(1);
            // The first period has what attaching took.
            if std::mem::replace(&mut governor.started, true) {
                let load = u32::try_from(load).unwrap_or(u32::MAX);
                self.take_step(governor.rule.step(load), load, governor.rule.weight, batch);
            }
        }
        self.governor = Some(governor);
    }

    fn take_step(&mut self, step: Step, load_ppm: u32, weight: u32, batch: &mut Batch) {
        let mut probes_off = Vec::new();
        match step {
            Step::Nothing => return,
            Step::Keep(weight) => {
                if let Err(e) = self.wanted.shed(&self.filter, weight) {
                    batch.facts.push(crate::facts::notice(format!("cannot shed load: {e}"), 1));
                    return;
                }
            }
            Step::Detach => {
                let at = kernel::now();
                for id in self.detach_optional() {
                    let why = "detached to keep within the budget".to_owned();
                    probes_off.push(self.manifest.probe_name(psc_formats::ProbeId(id)).to_owned());
                    let status = ProbeStatus::Failed(why);
                    batch.facts.push(Fact::Probe(ProbeFact { at, id, status }));
                }
                if probes_off.is_empty() {
                    return;
                }
            }
        }
        batch.facts.push(Fact::Sampling(SamplingFact {
            at: kernel::now(),
            weight,
            shed: self.loss().shed,
            load_ppm,
            probes_off,
        }));
    }

    /// Detaches function probes and what only the full profile has; their numbers.
    fn detach_optional(&mut self) -> Vec<u16> {
        let mut off = self.tier2.attached();
        self.tier2.detach();
        self.links.retain(|(number, _)| {
            let optional = attach::is_optional(*number);
            if optional {
                off.push(*number as u16);
            }
            !optional
        });
        off.sort_unstable();
        off
    }

    /// Nanoseconds of CPU time that this process and the programs have taken.
    fn time_spent(&self) -> u64 {
        let programs = self.programs.iter().filter_map(|(_, fd)| attach::run_time(fd.as_fd()));
        process_time().saturating_add(programs.sum())
    }
}

fn process_time() -> u64 {
    // SAFETY: getrusage fills a plain struct.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_probes_go_first_then_flows_and_they_come_back_slowly() {
        let mut rule = Rule { budget_ppm: 20_000, weight: 1, optional: true, calm: 0 };
        #[rustfmt::skip]
        let periods = [
            (10_000,  Step::Nothing),
            (50_000,  Step::Detach),
            (50_000,  Step::Keep(4)),   // 2.5 times too much
            (15_000,  Step::Nothing),
            (21_000,  Step::Keep(8)),
            (900_000, Step::Keep(64)),  // never more than eightfold at once
            (5_000,   Step::Nothing),
            (5_000,   Step::Nothing),
            (5_000,   Step::Nothing),
            (9_000,   Step::Nothing),   // not calm: begin again
            (1_000,   Step::Nothing),
            (1_000,   Step::Nothing),
            (1_000,   Step::Nothing),
            (1_000,   Step::Nothing),
            (1_000,   Step::Keep(32)),
        ];
        for (number, (load, step)) in periods.into_iter().enumerate() {
            assert_eq!(rule.step(load), step, "period {number}");
        }
    }

    #[test]
    fn weights_are_powers_of_two_and_end_somewhere() {
        let mut rule = Rule { budget_ppm: 1, weight: 1, optional: false, calm: 0 };
        for _ in 0..40 {
            rule.step(u32::MAX);
            assert!(rule.weight.is_power_of_two() && rule.weight <= MOST);
        }
        assert_eq!(rule.weight, MOST);
        assert_eq!(rule.step(u32::MAX), Step::Nothing);
        for _ in 0..40 * CALM {
            rule.step(0);
        }
        assert_eq!(rule.weight, 1);
    }
}
