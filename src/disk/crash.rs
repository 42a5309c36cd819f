use std::path::PathBuf;

use super::{
    Disk, Simulator,
    simulated::{Op, State, World},
};

/// What a disk writes whole or not at all, if anything.
const SECTOR: usize = 512;
/// Most sector boundaries at which one write is torn.
const TORN_AT: usize = 12;
/// States in which each operation is lost, kept or torn at random.
const RANDOM: usize = 6;

/// A disk as a crash has left it.
#[derive(Debug)]
pub(crate) struct Crash {
    /// What became of the operations in doubt.
    pub(crate) what: String,
    /// The disk, on which everything is durable now.
    pub(crate) disk: Disk,
    pub(crate) simulator: Simulator,
}

/// What is durable for certain, and what is in doubt, after a number of operations.
#[derive(Debug)]
pub(super) struct Remains {
    durable: State,
    doubtful: Vec<Doubt>,
    operations: usize,
}

#[derive(Debug)]
struct Doubt {
    op: Op,
    state: Durability,
}

#[derive(Debug)]
enum Durability {
    /// Until its file is synced.
    FileSync,
    /// Until each of these folders is synced.
    FolderSync(Vec<PathBuf>),
    /// For ever: a sync has failed.
    Never,
    /// It is durable, and waits for one before it that is in doubt.
    Certain,
}

/// What becomes of one operation in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Of a write: these byte ranges arrive.
    Torn(Vec<(usize, usize)>),
}

impl Remains {
    pub(super) fn of(durable: State) -> Self {
        Self { durable, doubtful: Vec::new(), operations: 0 }
    }

    pub(super) fn operations(&self) -> usize {
        self.operations
    }

    /// Takes the next operation in.
    pub(super) fn take(&mut self, op: &Op) {
        self.operations += 1;
        match op {
            Op::Write { .. } | Op::SetLen { .. } => self.doubt(op, Durability::FileSync),
            Op::Create { path, .. } | Op::CreateFolder { path } | Op::Remove { path, .. } => {
                self.doubt(op, Durability::FolderSync(vec![path.parent().unwrap().into()]));
            }
            Op::Rename { from, to, .. } => {
                let mut folders: Vec<PathBuf> =
                    [from, to].map(|path| path.parent().unwrap().into()).into();
                folders.dedup();
                self.doubt(op, Durability::FolderSync(folders));
            }
            Op::Sync { file } => self.file_synced(*file, || Durability::Certain),
            Op::SyncFailed { file } => self.file_synced(*file, || Durability::Never),
            Op::SyncFolder { path } => self.folder_synced(path),
        }
        self.settle();
    }

    fn doubt(&mut self, op: &Op, state: Durability) {
        self.doubtful.push(Doubt { op: op.clone(), state });
    }

    fn file_synced(&mut self, synced: u64, becomes: impl Fn() -> Durability) {
        for doubt in &mut self.doubtful {
            if matches!(doubt.state, Durability::FileSync) && file_of(&doubt.op) == Some(synced) {
                doubt.state = becomes();
            }
        }
    }

    fn folder_synced(&mut self, synced: &PathBuf) {
        for doubt in &mut self.doubtful {
            if let Durability::FolderSync(folders) = &mut doubt.state {
                folders.retain(|folder| folder != synced);
                if folders.is_empty() {
                    doubt.state = Durability::Certain;
                }
            }
        }
    }

    /// Brings what has become certain into the durable state, each behind those it follows: a
    /// write those of its file, a name all other names.
    fn settle(&mut self) {
        let mut held: Vec<Option<u64>> = Vec::new();
        let mut left = Vec::with_capacity(self.doubtful.len());
        for doubt in self.doubtful.drain(..) {
            let file = file_of(&doubt.op);
            if matches!(doubt.state, Durability::Certain) && !held.contains(&file) {
                // One that does not fit depends on what was lost with a former crash.
                drop(self.durable.apply(&doubt.op));
            } else {
                held.push(file);
                left.push(doubt);
            }
        }
        self.doubtful = left;
    }

    /// The disks that a crash here may leave.
    pub(super) fn crashes(&self, seed: u64) -> Vec<Crash> {
        let open: Vec<usize> = (0..self.doubtful.len())
            .filter(|&n| !matches!(self.doubtful[n].state, Durability::Certain))
            .collect();
        if open.is_empty() {
            return vec![self.crash("nothing was in doubt".into(), &[])];
        }
        let all = |fate: &dyn Fn(&Op) -> Fate| {
            open.iter().map(|&n| (n, fate(&self.doubtful[n].op))).collect::<Vec<_>>()
        };
        let is_name = |op: &Op| file_of(op).is_none();
        let keep_if = |kept| if kept { Fate::Kept } else { Fate::Lost };
        let mut crashes = vec![
            self.crash("everything was kept".into(), &all(&|_| Fate::Kept)),
            self.crash("nothing in doubt was kept".into(), &all(&|_| Fate::Lost)),
        ];
        if open.iter().any(|&n| is_name(&self.doubtful[n].op))
            && open.iter().any(|&n| !is_name(&self.doubtful[n].op))
        {
            let names = all(&|op| keep_if(is_name(op)));
            crashes.push(self.crash("only names were kept".into(), &names));
            let content = all(&|op| keep_if(!is_name(op)));
            crashes.push(self.crash("only content was kept".into(), &content));
        }
        let last_write = open.iter().rev().find(|&&n| written(&self.doubtful[n].op) > 0);
        if let Some(&last) = last_write {
            for ranges in tears(written(&self.doubtful[last].op)) {
                let mut fates = all(&|_| Fate::Kept);
                for (n, fate) in &mut fates {
                    if *n == last {
                        *fate = Fate::Torn(ranges.clone());
                    }
                }
                crashes.push(self.crash(format!("of the last write came {ranges:?}"), &fates));
            }
        }
        let mut random = Random(seed ^ (self.operations as u64).wrapping_mul(0x9e37_79b9));
        let several = if open.len() > 1 { RANDOM } else { 0 };
        for _ in 0..several {
            let fates: Vec<_> =
                open.iter().map(|&n| (n, random.fate(written(&self.doubtful[n].op)))).collect();
            let words: Vec<String> = fates
                .iter()
                .map(|(n, fate)| format!("{:?}: {fate:?}", self.doubtful[*n].op))
                .collect();
            crashes.push(self.crash(words.join("; "), &fates));
        }
        crashes
    }

    fn crash(&self, what: String, fates: &[(usize, Fate)]) -> Crash {
        let mut state = self.durable.clone();
        for (n, doubt) in self.doubtful.iter().enumerate() {
            let fate = fates.iter().find(|(of, _)| *of == n).map_or(&Fate::Kept, |(_, fate)| fate);
            match (fate, &doubt.op) {
                (Fate::Lost, _) => {}
                (Fate::Torn(ranges), Op::Write { file, offset, bytes }) => {
                    for &(from, to) in ranges {
                        state.write(*file, offset + from as u64, &bytes[from..to]);
                    }
                }
                // One that does not fit depends on a lost one, and is lost with it.
                (Fate::Kept | Fate::Torn(_), op) => drop(state.apply(op)),
            }
        }
        let (disk, simulator) = World::holding(state).into_pair();
        Crash { what, disk, simulator }
    }
}

/// The file whose content an operation changes; none when it changes names.
fn file_of(op: &Op) -> Option<u64> {
    if let Op::Write { file, .. } | Op::SetLen { file, .. } = op { Some(*file) } else { None }
}

/// Length of a write.
fn written(op: &Op) -> usize {
    if let Op::Write { bytes, .. } = op { bytes.len() } else { 0 }
}

/// How a write of this length may arrive: up to each sector, up to somewhere in a sector, without
/// its first sector, every other sector.
fn tears(length: usize) -> Vec<Vec<(usize, usize)>> {
    let sectors = length.div_ceil(SECTOR);
    let step = sectors.div_ceil(TORN_AT).max(1);
    let mut tears: Vec<Vec<(usize, usize)>> =
        (1..sectors).step_by(step).map(|sector| vec![(0, sector * SECTOR)]).collect();
    for cut in [1, 4, 12, 100, length / 2 + 1, length.saturating_sub(1)] {
        if cut < length && cut % SECTOR != 0 {
            tears.push(vec![(0, cut)]);
        }
    }
    if sectors > 1 {
        tears.push(vec![(SECTOR, length)]);
        let others = (1..sectors).step_by(2);
        tears.push(others.map(|n| (n * SECTOR, length.min((n + 1) * SECTOR))).collect());
    }
    tears
}

/// Numbers that come again with the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fate(&mut self, written: usize) -> Fate {
        match self.next() % 5 {
            0 | 1 => Fate::Kept,
            4 if written > SECTOR => {
                let sectors = (0..written).step_by(SECTOR);
                let ranges = sectors.filter(|_| self.next().is_multiple_of(2));
                Fate::Torn(ranges.map(|from| (from, written.min(from + SECTOR))).collect())
            }
            _ => Fate::Lost,
        }
    }
}
