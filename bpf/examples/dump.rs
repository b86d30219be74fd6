//! Prints what the kernel does to packets, one line per event: `dump [SECONDS]`.

#[cfg(target_os = "linux")]
fn main() {
    if let Err(message) = linux::run() {
        eprintln!("dump: {message}");
        std::process::exit(2);
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("dump: live capture needs Linux");
    std::process::exit(2);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::time::{Duration, Instant};

    use psc_bpf::{BytesMode, LiveSource, Options, Profile, StackPolicy};
    use psc_formats::event::StackEvidence;
    use psc_formats::{Batch, EventKind, EventSource as _, Progress, Tables};

    #[expect(clippy::disallowed_methods, reason = "a live recording ends by the wall")]
    pub(super) fn run() -> Result<(), Box<dyn std::error::Error>> {
        let mut seconds = 5;
        let mut quiet = false;
        let mut options = Options::default();
        for word in std::env::args().skip(1) {
            match word.as_str() {
                "-q" => quiet = true,
                "full" => options.profile = Profile::Full,
                "empty" => options.empty = true,
                "stacks=learn" => {}
                "stacks=off" => options.stacks = StackPolicy::Off,
                "stacks=all" => options.stacks = StackPolicy::All,
                "bytes=every" => options.bytes = BytesMode::Every,
                "snaplen=0" => options.snaplen = Some(0),
                word => match word.strip_prefix("if=") {
                    Some(name) => options.interfaces.push(name.to_owned()),
                    None => match word.strip_prefix("netns=") {
                        Some(name) => options.namespaces.push(name.to_owned()),
                        None => seconds = word.parse()?,
                    },
                },
            }
        }
        let mut source = LiveSource::start(options)?;
        for probe in &source.manifest().probes {
            if !quiet {
                println!("probe {} {:?}", probe.name, probe.status);
            }
        }
        let mut tables = Tables::default();
        for fact in source.snapshot_facts() {
            tables.apply(&fact);
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut batch = Batch::default();
        let mut stopped = false;
        let mut evidence = [0_u64; 5];
        let mut events = 0_u64;
        let mut by_probe = std::collections::BTreeMap::<String, (u64, u64)>::new();
        loop {
            if !stopped && Instant::now() >= end {
                source.stop();
                stopped = true;
            }
            batch.clear();
            let progress = source.fill(&mut batch)?;
            for fact in &batch.facts {
                tables.apply(fact);
            }
            for event in &batch.events {
                events += 1;
                evidence[event.stack.evidence as usize] += 1;
                if event.stack.evidence == StackEvidence::Contradicted {
                    let name = source.manifest().probe_name(event.probe).to_owned();
                    by_probe.entry(name).or_default().0 += 1;
                }
                if quiet {
                    continue;
                }
                let name = source.manifest().probe_name(event.probe);
                print!(
                    "{:>16} {} {:>6} {name:<28} skb {:<4} sock {:<3} {:<8} len {:<6}",
                    event.at.0,
                    event.cpu,
                    event.seq,
                    event.skb.0,
                    event.sock.0,
                    tables.device_name(event.device),
                    event.len,
                );
                print!(" {:?} {:08x} {:?}", event.context, event.content, event.kind);
                if let EventKind::Free { reason, location } = event.kind {
                    print!(
                        " {} {}",
                        source.manifest().drop_reason(reason),
                        tables.location(location)
                    );
                }
                if let Some(packet) = event.packet {
                    print!(" bytes {}/{}", packet.caplen, packet.len);
                }
                print!(" {:?} {}", event.stack.evidence, event.stack.id.0);
                if let (StackEvidence::Observed | StackEvidence::Contradicted, Some(stack)) =
                    (event.stack.evidence, tables.stacks.get(&event.stack.id))
                {
                    for &frame in &stack.frames {
                        print!(" {}", tables.function(psc_formats::event::SymbolId(frame)));
                    }
                }
                println!();
            }
            match progress {
                Progress::More => {}
                Progress::Idle => std::thread::sleep(source.pause()),
                Progress::End => break,
            }
        }
        for task in tables.tasks.values() {
            println!("task {} {} {} {}", task.tid, task.pid, task.comm, task.cgroup);
        }
        println!(
            "events {events} stacks none/observed/confirmed/contradicted/inferred {evidence:?}"
        );
        println!("contradicted {by_probe:?}");
        println!("{:?}", source.loss());
        Ok(())
    }
}
