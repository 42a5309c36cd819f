use std::path::{Path, PathBuf};

use crate::disk::Disk;

use super::{
    copies::{Damage, Loaded, ReadError, load, paths},
    file::SealFile,
};

/// Both copies of a seal file as they are. Nothing is written.
#[derive(Debug)]
pub struct Inspected {
    disk: Disk,
    dir: PathBuf,
    copies: [(PathBuf, Result<SealFile, Damage>); 2],
}

/// Reads both copies of the seal file in a folder, and mends nothing.
pub fn inspect(disk: &Disk, dir: &Path) -> Inspected {
    let copies = paths(dir).map(|path| {
        let read = load(disk, &path);
        (path, read)
    });
    Inspected { disk: disk.clone(), dir: dir.to_owned(), copies }
}

impl Inspected {
    /// What is wrong with each copy.
    pub fn faults(&self) -> Vec<(PathBuf, String)> {
        let [(first_path, first), (second_path, second)] = &self.copies;
        let damaged = self
            .copies
            .iter()
            .filter_map(|(path, read)| Some((path.clone(), read.as_ref().err()?.to_string())));
        let mut faults: Vec<_> = damaged.collect();
        if let (Ok(first), Ok(second)) = (first, second)
            && first.bytes() != second.bytes()
        {
            let (older, other) = match first.epoch() < second.epoch() {
                true => (first_path, second_path),
                false => (second_path, first_path),
            };
            let text = format!("it is not equal to {}", other.display());
            faults.push((older.clone(), text));
        }
        faults
    }

    /// Threshold and number of shares, if a whole copy has a slot of them.
    pub fn shares(&self) -> Option<(u8, u8)> {
        self.copies.iter().find_map(|(_, read)| read.as_ref().ok()?.shares())
    }

    /// The whole copy with the higher epoch.
    pub fn newest(self) -> Option<Loaded> {
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let file = self.into_file().ok()?;
        Some(Loaded { file, repaired: None, disk, dir })
    }

    /// The same, as it is written.
    ///
    /// # Errors
    /// [`ReadError`], when neither copy is whole.
    pub fn into_file(self) -> Result<SealFile, ReadError> {
        let [(first_path, first), (second_path, second)] = self.copies;
        match (first, second) {
            (Ok(first), Ok(second)) if first.epoch() < second.epoch() => Ok(second),
            (Ok(file), _) | (Err(_), Ok(file)) => Ok(file),
            (Err(Damage::Missing), Err(Damage::Missing)) => {
                Err(ReadError::Absent { dir: self.dir })
            }
            (Err(first), Err(second)) => {
                Err(ReadError::Damaged { first_path, first, second_path, second })
            }
        }
    }
}
