//! The packet filter's rules as facts: so that a drop at a hook can be laid to a rule.

use serde::{Deserialize, Serialize};

/// Chains and rules of nf_tables in one namespace, as the kernel has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirewallFact {
    /// When this was read.
    pub at: u64,
    /// Network namespace inode.
    pub netns: u32,
    /// Chains, base chains and others.
    pub chains: Vec<FilterChain>,
    /// Rules in the order in which they are walked.
    pub rules: Vec<FilterRule>,
    /// Rules that were too many to be told.
    pub left_out: u64,
}

/// One chain of nf_tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterChain {
    /// `inet`, `ip`, `ip6`, `arp`, `bridge` or `netdev`.
    pub family: String,
    /// Table.
    pub table: String,
    /// Chain.
    pub name: String,
    /// `input` and so on for a base chain, else empty.
    pub hook: String,
    /// Priority at the hook.
    pub priority: i32,
    /// `accept` or `drop` for a base chain, else empty.
    pub policy: String,
    /// Device of a chain of one device, else empty.
    pub device: String,
}

/// One rule of nf_tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterRule {
    /// As [`FilterChain::family`].
    pub family: String,
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Handle, as `nft -a` shows it.
    pub handle: u64,
    /// What has to hold, in the words of `nft` (`tcp dport 80`); an expression without words is its name.
    pub conditions: Vec<String>,
    /// `drop`, `reject`, `accept`, `jump CHAIN` and so on; empty when it decides nothing.
    pub verdict: String,
}

impl FilterRule {
    /// Name of its counter in [`crate::fact::CountersFact`], which is there when the rule counts.
    pub fn counter(&self) -> String {
        format!("nft.{}.{}.{}.{}.packets", self.family, self.table, self.chain, self.handle)
    }
}
