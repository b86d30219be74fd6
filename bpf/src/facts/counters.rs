//! Counters that `/proc` keeps per namespace, under the names that `nstat` prints.

use std::collections::BTreeMap;
use std::fs;

/// Reads every counter of the namespace that the thread is in; host-wide ones when `host`.
pub(super) fn read(host: bool, into: &mut BTreeMap<String, u64>) {
    let file = |name: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
    };
    paired(&file("snmp"), into);
    paired(&file("netstat"), into);
    named(&file("snmp6"), into);
    conntrack(&file("stat/nf_conntrack"), into);
    if host {
        softnet(&file("softnet_stat"), into);
    }
}

/// `Tcp: ActiveOpens PassiveOpens` then `Tcp: 1 2`.
fn paired(text: &str, into: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((prefix, names)), Some((_, values))) =
            (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            // TcpMaxConn is -1 where there is no limit: no counter.
            if let Ok(value) = value.parse() {
                into.insert(format!("{prefix}{name}"), value);
            }
        }
    }
}

/// `Ip6InReceives 7`.
fn named(text: &str, into: &mut BTreeMap<String, u64>) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            into.insert(name.to_owned(), value);
        }
    }
}

/// A line of names, then one line of hexadecimal values per CPU.
fn conntrack(text: &str, into: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    let Some(names) = lines.next() else { return };
    let names: Vec<_> = names.split_ascii_whitespace().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_ascii_whitespace()) {
            let Ok(value) = u64::from_str_radix(value, 16) else { continue };
            let sum = into.entry(format!("conntrack.{name}")).or_default();
            // `entries` is the namespace's, repeated for each CPU.
            *sum = if *name == "entries" { value } else { sum.wrapping_add(value) };
        }
    }
}

/// One line of hexadecimal values per CPU, without names
/// (`softnet_seq_show` in the kernel's `net/core/net-procfs.c`).
fn softnet(text: &str, into: &mut BTreeMap<String, u64>) {
    const NAMES: &[(usize, &str)] = &[
        (0, "processed"),
        (1, "dropped"),
        (2, "time_squeeze"),
        (9, "received_rps"),
        (10, "flow_limit_count"),
        (11, "backlog_len"),
    ];
    for (line_number, line) in text.lines().enumerate() {
        let values: Vec<_> =
            line.split_ascii_whitespace().map(|word| u64::from_str_radix(word, 16).ok()).collect();
        // Offline CPUs have no line; the number is in the line since 5.10.
        let cpu = values.get(12).copied().flatten().unwrap_or(line_number as u64);
        for &(at, name) in NAMES {
            if let Some(&Some(value)) = values.get(at) {
                into.insert(format!("softnet.{cpu}.{name}"), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nstat() {
        let mut values = BTreeMap::new();
        paired(
            "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 3 5\nTcp: MaxConn InSegs\nTcp: -1 9\n",
            &mut values,
        );
        named("Ip6InReceives   \t7\nIcmp6InMsgs x\n", &mut values);
        assert_eq!(values["TcpExtListenOverflows"], 5);
        assert_eq!(values["TcpInSegs"], 9);
        assert_eq!(values["Ip6InReceives"], 7);
        assert_eq!(values.len(), 4, "{values:?}");
    }

    #[test]
    fn softnet_lines_are_numbered_by_their_cpu() {
        let mut values = BTreeMap::new();
        softnet(
            "0000002a 00000001 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000003 00000000 00000000\n",
            &mut values,
        );
        assert_eq!(values["softnet.3.processed"], 42);
        assert_eq!(values["softnet.3.dropped"], 1);
    }

    #[test]
    fn conntrack_sums_its_cpus() {
        let mut values = BTreeMap::new();
        conntrack("entries drop\n00000010 00000001\n00000010 00000002\n", &mut values);
        assert_eq!((values["conntrack.entries"], values["conntrack.drop"]), (16, 3));
    }
}
