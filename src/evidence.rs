//! The verbs that make recordings evidence: verify, keygen, sign.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum as _;
use psc_formats::archive::{self, Expected, Input, SignedBy, State, VerifyReport};
use psc_formats::custody::{ParentFile, PublicKey, SecretKey, Statement, Step, hex};
use psc_reports::units::{bytes, counted};

use crate::Verdict;
use crate::cli::evidence::{KeygenArgs, SignArgs, VerifyArgs};
use crate::cli::{ExportArgs, TextFormat};
use crate::inspect::{archived, content_hash, document, is_archive, list, texts};
use crate::output::{Console, create, is_dash, printable, write_result, write_stdout};
use crate::source::name;

/// Statements and keys are small: more is something else.
const MOST_TEXT: u64 = 16 << 20;

/// `psc verify`.
pub(crate) fn verify(args: &VerifyArgs) -> anyhow::Result<Verdict> {
    let expected = Expected {
        keys: args.key.iter().map(|key| public_key(key)).collect::<anyhow::Result<_>>()?,
        statements: statements(&args.checkpoint)?,
    };
    let report = archive::verify_against(archived(&args.input)?, &expected)?;
    let custody = archive::info(archived(&args.input)?)?
        .manifest
        .map(|manifest| manifest.custody)
        .unwrap_or_default();
    let foreign = strangers(&args.parent, &custody)?;
    let good = report.state == State::Closed && foreign.is_empty();
    let page = match args.format {
        TextFormat::Text => text(&args.input, &report, &custody, &foreign),
        TextFormat::Json => document(&serde_json::json!({
            "schema": 1,
            "kind": "verify",
            "source": name(&args.input),
            "state": report.state.name(),
            "frames": report.frames,
            "events": report.events,
            "packets": report.packets,
            "facts": report.facts,
            "index": report.index,
            "unfinished_bytes": report.unfinished,
            "problems": texts(&report.problems),
            "problem_count": report.problem_count,
            "last_hash": hex(&report.last_hash),
            "signed": report.signed.iter().map(|row| serde_json::json!({
                "key": row.key.to_string(),
                "signatures": row.signatures,
                "last_frame": row.frame,
                "sealed": row.sealed,
                "expected": row.expected,
            })).collect::<Vec<_>>(),
            "custody": custody,
            "not_parents": foreign,
        })),
    };
    write_stdout(page.as_bytes())?;
    Ok(if good { Verdict::Clean } else { Verdict::Findings })
}

fn text(input: &Path, report: &VerifyReport, custody: &[Step], foreign: &[String]) -> String {
    let mut page = format!(
        "{}: {}\n",
        printable(&name(input)),
        match report.state {
            State::Closed => "closed: every frame is there and as it was written",
            State::Unclosed => {
                "not closed: every frame that is there is as it was written, and there is no end (a \
                 killed recorder, a full disk, or still recording)"
            }
            State::Damaged => "damaged: not everything is as it was written",
            State::Contradicting => {
                "contradicting: this is not what was signed, or not all of it"
            }
        }
    );
    let _ = writeln!(
        page,
        "{}, {}, {}, {}",
        counted(report.frames, "frame", "frames"),
        counted(report.events, "event", "events"),
        counted(report.packets, "packet", "packets"),
        counted(report.facts, "fact", "facts"),
    );
    if report.unfinished > 0 {
        let _ = writeln!(page, "unfinished last frame: {}", bytes(report.unfinished));
    }
    list(&report.problems, report.problem_count, &mut page);
    for row in &report.signed {
        signed(row, report, &mut page);
    }
    for step in custody {
        let _ = writeln!(page, "{}", printable(&custody_line(step)));
    }
    for parent in foreign {
        let _ = writeln!(page, "not made from {}", printable(parent));
    }
    let _ = writeln!(
        page,
        "last hash {} (keep it elsewhere to tell this recording again)",
        hex(&report.last_hash)
    );
    if report.state == State::Damaged {
        page.push_str("`psc recover` writes what can be read into a new recording\n");
    }
    page
}

fn signed(row: &SignedBy, report: &VerifyReport, page: &mut String) {
    let what = if row.sealed {
        "all of it, the end too".to_owned()
    } else {
        let after = report.last_frame.saturating_sub(row.frame);
        format!(
            "frames 0 to {}; the {} after are not signed",
            row.frame,
            counted(after, "frame", "frames")
        )
    };
    let whose = if row.expected { "" } else { " (a key that nobody vouched for: give --key)" };
    let signatures = counted(row.signatures, "signature", "signatures");
    let _ = writeln!(page, "signed by {}{whose}: {what}; {signatures}", row.key);
}

/// One line of the custody log.
pub(crate) fn custody_line(step: &Step) -> String {
    let parents = step.parents.iter().map(|parent| {
        let what = if parent.recording.is_empty() {
            "a capture with BLAKE3".to_owned()
        } else {
            format!("recording {} with last hash", parent.recording)
        };
        format!("{what} {}", parent.hash)
    });
    let parents: Vec<String> = parents.collect();
    let options =
        if step.options.is_empty() { String::new() } else { format!(" {}", step.options) };
    format!(
        "made by psc {} {}{options} from {}",
        step.psc_version,
        step.verb,
        parents.join(" and ")
    )
}

/// The files that the custody log does not name as the latest parents.
fn strangers(parents: &[PathBuf], custody: &[Step]) -> anyhow::Result<Vec<String>> {
    let mut foreign = Vec::new();
    for path in parents {
        let (recording, hash) = if is_archive(path)? {
            let report = archive::verify(Input::open(path)?)?;
            anyhow::ensure!(
                report.state != State::Damaged,
                "{} is damaged: what was made from it cannot be told; see `psc verify {0}`",
                path.display()
            );
            let id = report.recording.map(|id| id.to_string()).unwrap_or_default();
            (id, hex(&report.last_hash))
        } else {
            (String::new(), hex(&content_hash(path)?))
        };
        let named = custody.iter().flat_map(|step| &step.parents);
        if !named.clone().any(|parent| parent.recording == recording && parent.hash == hash) {
            foreign.push(name(path));
        }
    }
    Ok(foreign)
}

/// What a file is, as a parent in the custody log.
fn parent(path: &Path) -> anyhow::Result<ParentFile> {
    if is_archive(path)? {
        let info = archive::info(Input::open(path)?)?;
        return Ok(ParentFile {
            recording: info.recording.to_string(),
            hash: hex(&info.last_hash),
        });
    }
    Ok(ParentFile { recording: String::new(), hash: hex(&content_hash(path)?) })
}

/// Writes the custody log of an exported file, which has no room for it inside.
pub(crate) fn export_custody(args: &ExportArgs, to: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !is_dash(&args.output) && !is_dash(&args.input),
        "--custody needs files: what goes through a pipe cannot be hashed afterwards"
    );
    let mut custody = Vec::new();
    if is_archive(&args.input)? {
        custody = archive::info(Input::open(&args.input)?)?.manifest.unwrap_or_default().custody;
    }
    let time =
        args.select.time.as_ref().map(|time| format!(" -t {}", time.text)).unwrap_or_default();
    let filter = args.select.filter.as_ref().map(|expr| format!(" -f {expr}")).unwrap_or_default();
    let format = args.to.to_possible_value().map(|value| value.get_name().to_owned());
    let options = format!("--to {}{time}{filter}", format.unwrap_or_default());
    custody.push(Step::new("export", options, vec![parent(&args.input)?]));
    let page = document(&serde_json::json!({
        "schema": 1,
        "kind": "custody",
        "file": name(&args.output),
        "blake3": hex(&content_hash(&args.output)?),
        "custody": custody,
    }));
    write_result(Some(to), page.as_bytes())
}

/// `psc keygen`.
pub(crate) fn keygen(args: &KeygenArgs, console: Console) -> anyhow::Result<Verdict> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| anyhow::anyhow!("this system gives no random numbers: {error}"))?;
    let secret_path = &args.output;
    if args.redaction {
        write_new(secret_path, &format!("{}\n", hex(&seed)))?;
        console.note(&format!(
            "{}: the key for `psc redact`; who has it can undo the mapping of addresses",
            secret_path.display()
        ));
        return Ok(Verdict::Clean);
    }
    let secret = SecretKey::from_seed(seed);
    let mut public_path = secret_path.clone().into_os_string();
    public_path.push(".pub");
    let public_path = PathBuf::from(public_path);
    write_new(secret_path, &secret.to_pem())?;
    write_new(&public_path, &secret.public().to_pem())?;
    console.note(&format!(
        "{}: the secret key, for `psc record --sign`; {}: the public key {}, for `psc verify --key`",
        secret_path.display(),
        public_path.display(),
        secret.public()
    ));
    Ok(Verdict::Clean)
}

/// Keys replace nothing: an overwritten key is lost for ever.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        path.symlink_metadata().is_err(),
        "{} is already there, and a key is never replaced; choose another name",
        path.display()
    );
    let mut file = create(path, false)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// `psc sign`.
pub(crate) fn sign(args: &SignArgs) -> anyhow::Result<Verdict> {
    let keys = args.key.iter().map(|path| secret_key(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut statements = if is_archive(&args.input)? {
        let report = archive::verify(archived(&args.input)?)?;
        anyhow::ensure!(
            matches!(report.state, State::Closed | State::Unclosed),
            "{} is {}; a statement about it would be worth nothing. `psc verify` says what is wrong",
            args.input.display(),
            report.state.name()
        );
        report.statement().into_iter().collect()
    } else {
        let text = text_of(&args.input, "statements")?;
        Statement::parse_all(&text).map_err(|error| {
            anyhow::anyhow!(
                "{} is neither a recording nor statements about one: {error}",
                args.input.display()
            )
        })?
    };
    for statement in &mut statements {
        for key in &keys {
            statement.sign(key);
        }
    }
    let texts: Vec<String> = statements.iter().map(ToString::to_string).collect();
    write_result(args.output.as_deref(), texts.join("\n").as_bytes())?;
    Ok(Verdict::Clean)
}

/// Reads a secret key.
pub(crate) fn secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let text = text_of(path, "key")?;
    SecretKey::from_pem(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// A key by its digits or its file.
fn public_key(given: &str) -> anyhow::Result<PublicKey> {
    if let Some(key) = PublicKey::from_hex(given) {
        return Ok(key);
    }
    let path = Path::new(given);
    let text = text_of(path, "key")?;
    PublicKey::from_text(&text).map_err(|error| anyhow::anyhow!("{given}: {error}"))
}

fn statements(paths: &[PathBuf]) -> anyhow::Result<Vec<Statement>> {
    let mut all = Vec::new();
    for path in paths {
        let text = text_of(path, "statements")?;
        let read = Statement::parse_all(&text);
        all.extend(read.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?);
    }
    Ok(all)
}

/// A small text file.
pub(crate) fn text_of(path: &Path, what: &str) -> anyhow::Result<String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        fs::File::open(path)?.take(MOST_TEXT).read_to_string(&mut text)?;
        Ok(text)
    };
    read().with_context(|| format!("cannot read {what} from {}", path.display()))
}
