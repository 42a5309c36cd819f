//! `kista backup`: a store in one file.
//!
//! - `list.rs`: `backup ls`

mod list;

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use kista::{
    backup::{self, Proven, SealCopy, Summary},
    barrier::{self, Finding},
    clock::{Clock, SystemClock},
    disk::Disk,
};
use serde::Serialize;

use super::key::KeyArguments;
use crate::{
    context::{Context, LOCAL},
    failure::{Exit, Failure},
    files,
    folders::Folders,
    output::{self, Cell, Output},
    progress::Progress,
};
use list::List;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    Create(Create),
    #[command(name = "ls")]
    List(List),
    Verify(Verify),
    Restore(Restore),
}

impl BackupCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run(),
            Self::List(list) => list.run(),
            Self::Verify(verify) => verify.run().await,
            Self::Restore(restore) => restore.run().await,
        }
    }
}

/// Copy a store into one file, while its server runs or not.
///
/// Run it on the server's machine, as the user of the server: it reads the data folder and asks the
/// server nothing. What is in the file is sealed as in the folder: it opens with a slot's secret of
/// its time (shares, keyfile, passphrase), which the file does not hold.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista backup create -o nightly.kistabak\n  \
    kista backup create --data /var/lib/kista -o - | ssh backup 'cat > kista.kistabak'")]
pub(crate) struct Create {
    /// File to make, or - for stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Folder of the store [default: the one that `kista up` serves in this context]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Context whose store it is [default: local]
    #[arg(long, value_name = "NAME", env = "KISTA_CONTEXT")]
    context: Option<String>,
    /// Leave the seal file out; it must then be kept elsewhere
    #[arg(long)]
    no_seal_file: bool,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Create {
    fn run(self) -> Result<Exit, Failure> {
        let data = match self.data {
            Some(data) => data,
            None => data_of(self.context.as_deref().unwrap_or(LOCAL))?,
        };
        let seal = if self.no_seal_file { SealCopy::LeftOut } else { SealCopy::Included };
        if self.output == Path::new("-") {
            if Output::new(false).is_to_terminal() {
                return Err(Failure::usage("a backup is no text for a terminal")
                    .hint("name a file with -o, or pipe it"));
            }
            let summary = copy(&data, seal, io::stdout().lock())?;
            output::note(&format!(
                "copied up to commit {}; the copy counts once this has ended with 0",
                summary.seq
            ));
            return Ok(Exit::Done);
        }
        if self.output.exists() && !self.force {
            return Err(Failure::new(format!("{} is there already", self.output.display()))
                .hint("give another name, or --force"));
        }
        let (disk, now, file) = (Disk::real(), SystemClock.now(), &self.output);
        let progress = Progress::bytes("copying");
        let summary = backup::create_file(&disk, &data, seal, now, file, &mut |done, total| {
            progress.show(done, total);
        });
        drop(progress);
        let summary = summary.map_err(|error| Failure::of(&error))?;
        let bytes = fs::metadata(&self.output).map(|metadata| metadata.len()).unwrap_or_default();
        print(Output::new(self.json), &summary, Some(bytes), None)?;
        output::note(&format!("next:  kista backup verify {}", self.output.display()));
        Ok(Exit::Done)
    }
}

/// Check a backup: its checksum, and with a secret of a slot every record in it.
///
/// Without a secret only accidents are found. With one the backup is restored into a temporary
/// folder, opened as a server would, and every record is opened and held against the newest commit;
/// needs free space for it, and no server. Ends with 10 when a record is damaged.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista backup verify nightly.kistabak --keyfile ~/.config/kista/seal.key\n  \
    kista backup verify nightly.kistabak --shares"
)]
pub(crate) struct Verify {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder for the temporary copy [default: beside the backup]
    #[arg(long, value_name = "DIR")]
    temporary: Option<PathBuf>,
    /// Seal file for a backup that was made without
    #[arg(long, value_name = "FILE")]
    seal_file: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArguments,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Verify {
    async fn run(self) -> Result<Exit, Failure> {
        let output = Output::new(self.json);
        let Some(key) = self.key.read()? else {
            let progress = Progress::bytes("checking");
            let (file, bytes) = open(&self.file)?;
            let mut done = 0;
            let summary = backup::check(file, &mut |more| {
                done += more;
                progress.show(done, bytes);
            });
            drop(progress);
            let summary = summary.map_err(|error| self.placed(&error, bytes))?;
            // A pipe has no length.
            print(output, &summary, (bytes > 0).then_some(bytes), None)?;
            output::note(
                "its checksum holds; that it opens was not tried\n\
                 next:  the same with --keyfile, --passphrase or --shares",
            );
            return Ok(Exit::Done);
        };
        let folder = Temporary::make(self.place())?;
        let summary = restore(&self.file, &folder.0, self.seal_file.as_deref())?;
        let proven = prove(&folder.0, key).await?;
        drop(folder);
        finish(output, &summary, &proven)
    }

    fn place(&self) -> &Path {
        let beside = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.temporary.as_deref().or(beside).unwrap_or(Path::new("."))
    }

    /// What is wrong with a backup. When only its checksum says so, the copies in it are asked
    /// where, if there is room for them.
    fn placed(&self, error: &backup::BundleError, bytes: u64) -> Failure {
        let plain = about(&self.file, error);
        if !matches!(error, backup::BundleError::Checksum) || bytes == 0 {
            return plain;
        }
        let Ok(folder) = Temporary::make(self.place()) else { return plain };
        match restore(&self.file, &folder.0, None) {
            Err(failure) if failure.message.contains("at byte") => failure,
            Err(_) | Ok(_) => plain,
        }
    }
}

/// Make a data folder of a backup. Never over one that is there.
///
/// With a secret of a slot the restored store is opened and every record checked; without one the
/// first unseal does that. The store goes on in its next generation, so that an anchor of the old
/// one does not take it for a rollback. Tokens and leases are as they were at the time of the
/// backup.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  \
    kista backup restore nightly.kistabak --data /var/lib/kista-new --keyfile /etc/kista/seal.key")]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Seal file for a backup that was made without
    #[arg(long, value_name = "FILE")]
    seal_file: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArguments,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Restore {
    async fn run(self) -> Result<Exit, Failure> {
        let output = Output::new(self.json);
        let key = self.key.read()?;
        let summary = restore(&self.file, &self.data, self.seal_file.as_deref())?;
        let next = format!("next:  kista server --data {}", self.data.display());
        let Some(key) = key else {
            print(output, &summary, None, None)?;
            output::note(&format!("restored; it is checked when it is unsealed first\n{next}"));
            return Ok(Exit::Done);
        };
        let proven = prove(&self.data, key).await.map_err(|failure| {
            failure.hint(format!(
                "what was restored stays in {}; try again with the right secret: kista server --data {0}",
                self.data.display()
            ))
        })?;
        let exit = finish(output, &summary, &proven)?;
        if exit == Exit::Done {
            output::note(&next);
        }
        Ok(exit)
    }
}

fn copy(data: &Path, seal: SealCopy, out: impl Write) -> Result<Summary, Failure> {
    let progress = Progress::bytes("copying");
    let out = BufWriter::with_capacity(BUFFER, out);
    backup::create(&Disk::real(), data, seal, SystemClock.now(), out, &mut |done, total| {
        progress.show(done, total);
    })
    .map_err(|error| Failure::of(&error))
}

fn restore(file: &Path, folder: &Path, seal_file: Option<&Path>) -> Result<Summary, Failure> {
    let seal_file = seal_file
        .map(fs::read)
        .transpose()
        .map_err(|error| Failure::io("read the seal file", &error))?;
    let progress = Progress::bytes("restoring");
    let (from, bytes) = open(file)?;
    let mut done = 0;
    backup::restore(&Disk::real(), from, folder, seal_file.as_deref(), &mut |more| {
        done += more;
        progress.show(done, bytes);
    })
    .map_err(|error| {
        let failure = about(file, &error);
        let (is_over, lacks_seal) = (
            matches!(error, backup::RestoreError::NotEmpty { .. }),
            matches!(error, backup::RestoreError::NoSealFile),
        );
        if is_over {
            failure.hint("a backup never goes over a store: name a folder that is not there")
        } else if lacks_seal {
            failure.hint("--seal-file FILE gives the one that was kept elsewhere")
        } else {
            failure
        }
    })
}

async fn prove(folder: &Path, key: backup::Key) -> Result<Proven, Failure> {
    let counts = Arc::new(barrier::Progress::default());
    let progress = Progress::records("opening");
    let watched = Arc::clone(&counts);
    let shown = tokio::spawn(async move {
        loop {
            let (done, total) = watched.counts();
            progress.show(done, total);
            tokio::time::sleep(PAUSE).await;
        }
    });
    let proven = backup::prove(folder, key, Arc::new(SystemClock), &counts).await;
    shown.abort();
    proven.map_err(|error| Failure::of(&error))
}

/// Prints what was proven, and says how to end.
fn finish(output: Output, summary: &Summary, proven: &Proven) -> Result<Exit, Failure> {
    print(output, summary, None, Some(proven))?;
    if proven.findings.is_empty() {
        output::note(&format!("{} records opened: all is well", proven.records));
        return Ok(Exit::Done);
    }
    for finding in &proven.findings {
        output::warn(&worded(finding));
    }
    Ok(Exit::Found)
}

fn print(
    output: Output,
    summary: &Summary,
    bytes: Option<u64>,
    proven: Option<&Proven>,
) -> Result<(), Failure> {
    let told = Told {
        bytes,
        records: proven.map(|proven| proven.records),
        findings: proven.map(|proven| proven.findings.iter().map(worded).collect()),
        ..Told::of(summary)
    };
    if output.wants_json() {
        return output.serialized(&told);
    }
    let terms: Vec<_> = summary.terms.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        row("store", told.store_id),
        row("generation", told.generation.to_string()),
        row("newest commit", told.sequence.to_string()),
        row("made", told.created),
        row("seal file", if told.has_seal_file { "inside" } else { "left out" }.to_owned()),
        row("terms", terms.join(", ")),
    ];
    rows.extend(bytes.map(|bytes| row("bytes", bytes.to_string())));
    rows.extend(told.records.map(|records| row("records", records.to_string())));
    output.table(["WHAT", "VALUE"], &rows)
}

/// What is wrong with a record, and which it is as far as its names open.
fn worded(finding: &Finding) -> String {
    let fault = finding.fault.word();
    match (&finding.space, &finding.path) {
        (_, Some(path)) => format!("{fault}: the record at {path}"),
        (Some(space), None) => format!("{fault}: a record in the space {space:?}"),
        (None, None) => format!("{fault}: the records as a whole"),
    }
}

fn row(name: &str, value: String) -> [Cell; 2] {
    [Cell::Plain(name.to_owned()), Cell::Plain(value)]
}

/// What is told of a backup, as --json prints it.
#[derive(Serialize)]
struct Told<'a> {
    store_id: String,
    generation: u64,
    sequence: u64,
    created: String,
    has_seal_file: bool,
    terms: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<String>>,
}

impl<'a> Told<'a> {
    fn of(summary: &'a Summary) -> Self {
        Self {
            store_id: summary.store_id.to_string(),
            generation: summary.generation,
            sequence: summary.seq,
            created: summary.created.rfc3339(),
            has_seal_file: summary.root_id.is_some(),
            terms: &summary.terms,
            bytes: None,
            records: None,
            findings: None,
        }
    }
}

/// The folder of the store that `kista up` serves in a context.
fn data_of(context: &str) -> Result<PathBuf, Failure> {
    let folders = Folders::of_user()?;
    let known = Context::load(&folders, context)?;
    match known.and_then(|known| known.data) {
        Some(data) => Ok(data),
        None if context == LOCAL => Ok(folders.data),
        None => Err(Failure::new(format!("the context {context:?} knows no data folder"))
            .hint("--data names it")),
    }
}

fn open(file: &Path) -> Result<(BufReader<File>, u64), Failure> {
    let opened = File::open(file).and_then(|file| {
        let bytes = file.metadata()?.len();
        Ok((BufReader::with_capacity(BUFFER, file), bytes))
    });
    opened.map_err(|error| files::unreadable(file, &error))
}

fn about(file: &Path, error: &dyn std::error::Error) -> Failure {
    let failure = Failure::of(error);
    Failure { message: format!("{}: {}", file.display(), failure.message), ..failure }
}

/// A folder that goes away with this.
struct Temporary(PathBuf);

impl Temporary {
    /// Names one that is not there; restoring makes it.
    fn make(place: &Path) -> Result<Self, Failure> {
        let name = format!(".kista-verify-{}", std::process::id());
        let folder = place.join(name);
        if folder.exists() {
            return Err(Failure::new(format!("{} is in the way", folder.display()))
                .hint("remove it: it is left of a verification that was killed"));
        }
        Ok(Self(folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            output::warn(&format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

/// How much is read or written at once, in bytes.
const BUFFER: usize = 256 * 1024;
/// Time between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(200);
