use std::path::PathBuf;

use clap::Args;
use kista::{
    backup::{self, Remedy, RepairError, Repaired},
    disk::Disk,
};
use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    output::{self, Cell, Output},
};

/// Mend a stopped store from what is kept twice. Nothing is ever dropped.
///
/// A damaged copy of the seal file is written again from the other one; a damaged snapshot gives
/// way to the one before and the journal since then; what is kept nowhere else comes from a backup,
/// if one is given that holds it. When that does not come to every commit that is whole now, the
/// files stay as they are. Damaged files are kept beside the new ones as NAME.damaged; remove them
/// when all is well.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator repair --data /var/lib/kista\n  \
    kista operator repair --data /var/lib/kista --from nightly.kistabak")]
pub(crate) struct Repair {
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Backup to take from what is kept nowhere else
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        if !self.data.is_dir() {
            let text = format!("there is no folder {}", self.data.display());
            return Err(Failure::new(text).exit(Exit::NotFound));
        }
        let repaired = backup::repair(&Disk::real(), &self.data, self.from.as_deref());
        let repaired = repaired.map_err(|error| self.refused(&error))?;
        print(Output::new(self.json), &repaired)?;
        let data = self.data.display();
        output::note(&if repaired.mended.is_empty() {
            format!("nothing is damaged, up to commit {}", repaired.seq)
        } else {
            format!(
                "mended, up to commit {}\nnext:  kista operator verify --data {data} --keyfile FILE",
                repaired.seq
            )
        });
        Ok(Exit::Done)
    }

    fn refused(&self, error: &RepairError) -> Failure {
        let failure = Failure::of(error);
        if matches!(error, RepairError::Lock(_)) {
            return failure.hint("stop the server first");
        }
        let RepairError::NoRedundancy { damages, had_backup, .. } = error else {
            return failure;
        };
        for damage in damages {
            let (file, offset) = (damage.file.display(), damage.offset);
            output::warn(&format!("{file} at byte {offset}: {}", damage.what));
        }
        failure.hint(if *had_backup {
            "another backup may hold it; or restore the newest whole one: kista backup restore \
             FILE --data NEW"
        } else {
            "kista operator repair --from BACKUP takes it from a backup that holds it"
        })
    }
}

#[derive(Serialize)]
struct Told<'a> {
    newest_commit: u64,
    damages: Vec<ToldDamage<'a>>,
    mended: Vec<ToldMended>,
}

#[derive(Serialize)]
struct ToldDamage<'a> {
    file: String,
    offset: u64,
    what: &'a str,
}

#[derive(Serialize)]
struct ToldMended {
    file: String,
    remedy: &'static str,
}

fn print(output: Output, repaired: &Repaired) -> Result<(), Failure> {
    let mended = repaired.mended.iter().map(|mended| ToldMended {
        file: mended.file.display().to_string(),
        remedy: match mended.remedy {
            Remedy::OtherCopy => "written again from the other copy",
            Remedy::SetAside => "put aside; older files hold the same",
            Remedy::FromBackup => "taken from the backup",
        },
    });
    let damages = repaired.damages.iter().map(|damage| ToldDamage {
        file: damage.file.display().to_string(),
        offset: damage.offset,
        what: &damage.what,
    });
    let told =
        Told { newest_commit: repaired.seq, damages: damages.collect(), mended: mended.collect() };
    if output.wants_json() {
        return output.serialized(&told);
    }
    for damage in &told.damages {
        output::note(&format!("{} at byte {}: {}", damage.file, damage.offset, damage.what));
    }
    let rows: Vec<_> = told
        .mended
        .into_iter()
        .map(|mended| [Cell::Plain(mended.file), Cell::Plain(mended.remedy.to_owned())])
        .collect();
    if rows.is_empty() { Ok(()) } else { output.table(["FILE", "REMEDY"], &rows) }
}
