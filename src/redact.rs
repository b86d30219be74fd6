//! `psc redact`: a recording that can be given away.

use std::fmt::Write as _;
use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::Context;
use psc_formats::archive::{self, Input, Parent, RecordingId, Writer};
use psc_formats::custody::{ParentFile, Step, hex, unhex};
use psc_formats::fact::EndFact;
use psc_formats::open::open;
use psc_formats::redact::{Changes, Options, Payloads, Redactor};
use psc_formats::{Batch, Fact, Progress};
use psc_reports::units::{bytes, count};
use tempfile::NamedTempFile;

use crate::Verdict;
use crate::cli::TextFormat;
use crate::cli::evidence::RedactArgs;
use crate::evidence::text_of;
use crate::inspect::{content_hash, document, is_archive};
use crate::output::{Console, NewFile, is_dash, printable, write_result, write_stdout};
use crate::source::{hold, name};

/// What stays and may still tell somebody something.
const STAYS: &str = "times, sizes, ports, protocols, TCP sequence numbers and time stamps, IP ids, TTLs, interface names, \
     process and namespace numbers, kernel and function names, which special-purpose range an address is in, and how \
     many leading bits two addresses share";

/// Protocols whose detectors read payload: transport, port, name, bytes of payload that tell what is asked for.
const READ: [(&str, u16, &str, u32); 6] = [
    ("tcp", 102, "S7comm", 32),
    ("tcp", 502, "Modbus", 12),
    ("tcp", 2404, "IEC 60870-5-104", 16),
    ("tcp", 20000, "DNP3", 16),
    ("tcp", 44818, "EtherNet/IP", 64),
    ("udp", 47808, "BACnet", 16),
];

/// What findings the emptied payload takes away, and how to keep them.
fn unread(changes: &Changes) -> Vec<String> {
    let emptied = |protocol, port| changes.by_protocol.contains_key(&(protocol, port));
    let lost = READ.iter().filter(|(protocol, port, ..)| emptied(*protocol, *port));
    lost.map(|(protocol, port, name, bytes)| {
        format!("{name}: who asked for what cannot be read any more; keep it with --keep-payload {protocol}/{port}={bytes}")
    })
    .collect()
}

/// `psc redact`.
pub(crate) fn run(args: &RedactArgs, console: Console) -> anyhow::Result<Verdict> {
    let key = key(&args.key)?;
    let held = hold(&args.input)?;
    let path = held.as_ref().map_or(args.input.as_path(), NamedTempFile::path);
    let options =
        Options { keep_vendor: args.keep_vendor, payloads: Payloads(args.keep_payload.clone()) };
    let mut redactor = Redactor::new(&key, options);
    let mut source = open(path)?;
    let mut manifest = redactor.manifest(source.manifest());

    let (parents, file) = parent(path)?;
    // What was asked for, never the key: who has it can undo the mapping.
    let mut asked = Vec::new();
    if args.keep_vendor {
        asked.push("--keep-vendor".to_owned());
    }
    asked.extend(args.keep_payload.iter().map(|kept| {
        let protocol = if kept.protocol == 6 { "tcp" } else { "udp" };
        let bytes = kept.bytes.map_or(String::new(), |bytes| format!("={bytes}"));
        format!("--keep-payload {protocol}/{}{bytes}", kept.port)
    }));
    manifest.custody.push(Step::new("redact", asked.join(" "), vec![file.clone()]));
    // The key decides the content, so it must decide the id; what it is cannot be told from that.
    let keyed = blake3::keyed_hash(&key, file.hash.as_bytes());
    let recording =
        RecordingId::derived(&[b"redact", keyed.as_bytes(), asked.join(" ").as_bytes()]);

    let output = NewFile::create(&args.output, args.force)?;
    let failed = || format!("cannot write {}; is there space?", args.output.display());
    let mut writer = Writer::derived(BufWriter::new(output), &manifest, recording, &parents)
        .with_context(failed)?;
    let bar = console.bar("redacting", source.position().map(|(_, total)| total));
    let mut batch = Batch::default();
    let mut end =
        EndFact { reason: "redaction of an unclosed recording".to_owned(), ..EndFact::default() };
    loop {
        batch.clear();
        let progress = source
            .fill(&mut batch)
            .with_context(|| format!("cannot read {}", name(&args.input)))?;
        redactor.batch(&mut batch);
        batch.facts.retain(|fact| match fact {
            Fact::End(fact) => {
                end = fact.clone();
                false
            }
            _ => true,
        });
        writer.append(&batch).with_context(failed)?;
        if let Some((done, _)) = source.position() {
            bar.set_position(done);
        }
        if progress == Progress::End {
            break;
        }
    }
    bar.finish_and_clear();
    let output = writer.finish(end).with_context(failed)?;
    output.into_inner().map_err(io::IntoInnerError::into_error).with_context(failed)?.keep()?;

    let page = match args.format {
        TextFormat::Text => text(args, &redactor.changes),
        TextFormat::Json => json(args, &redactor.changes),
    };
    match &args.report {
        Some(path) => write_result(Some(path), page.as_bytes())?,
        // The recording itself may be what goes to standard output.
        None if is_dash(&args.output) => {}
        None => write_stdout(page.as_bytes())?,
    }
    Ok(Verdict::Clean)
}

/// The recording that this one is made from, as its frame and as its custody log have it.
fn parent(path: &Path) -> anyhow::Result<(Vec<Parent>, ParentFile)> {
    if !is_archive(path)? {
        let hash = hex(&content_hash(path)?);
        return Ok((Vec::new(), ParentFile { recording: String::new(), hash }));
    }
    let info = archive::info(Input::open(path)?)?;
    let parent = Parent { recording: info.recording, hash: info.last_hash };
    let mut parents = info.parents;
    parents.push(parent);
    Ok((parents, parent.file()))
}

fn key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let text = text_of(path, "key")?;
    let key = unhex(text.trim()).with_context(|| {
        format!(
            "{} is no key for redaction: it has 64 hex digits; make one with `psc keygen \
             --redaction -o {0}`",
            path.display()
        )
    })?;
    anyhow::ensure!(
        key != [0; 32],
        "{}: a key of zeros hides nothing; make one with `psc keygen --redaction`",
        path.display()
    );
    Ok(key)
}

fn text(args: &RedactArgs, changes: &Changes) -> String {
    let mut page = format!(
        "{}: redacted into {}\n",
        printable(&name(&args.input)),
        printable(&name(&args.output))
    );
    let macs = if args.keep_vendor { "vendor kept" } else { "vendor replaced" };
    let rows = [
        ("addresses replaced", count(changes.addresses)),
        ("link-layer addresses", format!("{} ({macs})", count(changes.macs))),
        ("DNS labels and texts", count(changes.dns_labels)),
        ("names", format!("{} of hosts, processes, groups, users", count(changes.names))),
        (
            "payload emptied",
            format!("{} in {} packets", bytes(changes.payload_bytes), count(changes.packets)),
        ),
        ("payloads kept", count(changes.payloads_kept)),
        ("checksums corrected", count(changes.checksums)),
        ("signatures left out", count(changes.signatures)),
    ];
    for (name, value) in rows {
        let _ = writeln!(page, "  {name:<22} {value}");
    }
    let mut ports: Vec<_> = changes.by_protocol.iter().collect();
    ports.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    for ((protocol, port), emptied) in ports.iter().take(10) {
        let _ = writeln!(page, "    {protocol}/{port:<18} {}", bytes(**emptied));
    }
    if ports.len() > 10 {
        let _ = writeln!(page, "    and {} more ports", ports.len() - 10);
    }
    for line in unread(changes) {
        let _ = writeln!(page, "  {line}");
    }
    let _ = writeln!(page, "  not changed: {STAYS}");
    page
}

fn json(args: &RedactArgs, changes: &Changes) -> String {
    let by_protocol: Vec<_> = changes
        .by_protocol
        .iter()
        .map(|((protocol, port), emptied)| {
            serde_json::json!({"protocol": protocol, "port": port, "bytes": emptied})
        })
        .collect();
    document(&serde_json::json!({
        "schema": 1,
        "kind": "redact",
        "source": name(&args.input),
        "output": name(&args.output),
        "keep_vendor": args.keep_vendor,
        "packets": changes.packets,
        "addresses": changes.addresses,
        "macs": changes.macs,
        "dns_labels": changes.dns_labels,
        "names": changes.names,
        "payload_bytes": changes.payload_bytes,
        "payload_by_port": by_protocol,
        "payloads_kept": changes.payloads_kept,
        "checksums": changes.checksums,
        "signatures_left_out": changes.signatures,
        "not_readable": unread(changes),
        "not_changed": STAYS,
    }))
}
