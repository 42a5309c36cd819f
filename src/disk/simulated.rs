use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Disk, Medium,
    crash::{Crash, Remains},
};

/// A disk in memory, empty but for `/`, and the one who makes it fail.
pub(crate) fn simulated() -> (Disk, Simulator) {
    World::holding(State::default()).into_pair()
}

impl Disk {
    /// A disk of its own with what this one holds now, all of it durable.
    pub(crate) fn copy(&self) -> (Self, Simulator) {
        match &self.0 {
            Medium::Simulated(world) => World::holding(world.lock().now.clone()).into_pair(),
            Medium::Real => panic!("only a simulated disk can be copied"),
        }
    }
}

/// What can go wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails, nothing is done. A sync that fails so is [`SyncFails`](Self::SyncFails).
    Eio,
    /// A call that takes space fails, nothing is done.
    Enospc,
    /// A write takes only half of what it is given.
    ShortWrite,
    /// A read or write is interrupted before it has done anything.
    Eintr,
    /// A sync fails, and what it should have made durable never will be, whatever later syncs say.
    SyncFails,
}

/// Makes a simulated disk fail, and shows what a crash leaves of it.
#[derive(Clone, Debug)]
pub(crate) struct Simulator(World);

impl Simulator {
    /// The n-th call from now (1 is the next) fails so; if it cannot, the first after it that can.
    pub(crate) fn fail(&self, nth: u64, fault: Fault) {
        let mut inner = self.0.lock();
        let at = inner.calls + nth;
        inner.faults.push((at, fault));
    }

    /// Forgets faults that have not come up.
    pub(crate) fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// How many faults are still to come.
    pub(crate) fn faults_left(&self) -> usize {
        self.0.lock().faults.len()
    }

    /// Calls so far, failed ones and reads included.
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// From now on files together take no more than this.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// What all files take together.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.0.lock().now.bytes()
    }

    /// How many operations that change something, or sync, there were.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().log.len()
    }

    /// The operation with this number, from 0, in words.
    pub(crate) fn operation(&self, n: usize) -> String {
        format!("{:?}", self.0.lock().log[n])
    }

    /// The disks that a crash may leave after the first `after` operations: always everything so
    /// far, and nothing that was not synced; then last writes torn, and writes and names lost at
    /// random. The same log and seed give the same disks. Asked in order of `after` it is fast.
    pub(crate) fn crashes(&self, after: usize, seed: u64) -> Vec<Crash> {
        let mut inner = self.0.lock();
        let mut remains = match inner.remains.take() {
            Some(remains) if remains.operations() <= after => remains,
            Some(_) | None => Remains::of(inner.start.clone()),
        };
        for op in &inner.log[remains.operations()..after] {
            remains.take(op);
        }
        let crashes = remains.crashes(seed);
        inner.remains = Some(remains);
        crashes
    }
}

/// A file's identity, whatever its name.
pub(super) type Inode = u64;

/// What bears a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(Inode),
}

/// One operation that changes something, or syncs.
#[derive(Clone)]
pub(super) enum Op {
    Write {
        file: Inode,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    SetLen {
        file: Inode,
        length: u64,
    },
    Sync {
        file: Inode,
    },
    SyncFailed {
        file: Inode,
    },
    Create {
        path: PathBuf,
        file: Inode,
    },
    CreateFolder {
        path: PathBuf,
    },
    /// Of this file or folder: another one that bore the name before is not meant.
    Rename {
        from: PathBuf,
        to: PathBuf,
        node: Node,
    },
    Remove {
        path: PathBuf,
        node: Node,
    },
    SyncFolder {
        path: PathBuf,
    },
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, offset, bytes } => {
                write!(f, "write {} bytes at {offset} of file {file}", bytes.len())
            }
            Self::SetLen { file, length } => write!(f, "set length {length} of file {file}"),
            Self::Sync { file } => write!(f, "sync file {file}"),
            Self::SyncFailed { file } => write!(f, "fail to sync file {file}"),
            Self::Create { path, file } => write!(f, "create {} as file {file}", path.display()),
            Self::CreateFolder { path } => write!(f, "create folder {}", path.display()),
            Self::Rename { from, to, .. } => {
                write!(f, "rename {} to {}", from.display(), to.display())
            }
            Self::Remove { path, .. } => write!(f, "remove {}", path.display()),
            Self::SyncFolder { path } => write!(f, "sync folder {}", path.display()),
        }
    }
}

/// All names and all content. Files are shared between states until one of them changes.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    names: BTreeMap<PathBuf, Node>,
    files: BTreeMap<Inode, Arc<Vec<u8>>>,
}

impl State {
    /// Does what an operation does, or nothing when it does not fit.
    pub(super) fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Op::SetLen { file, length } => {
                let content = self.files.entry(*file).or_default();
                Arc::make_mut(content).resize(usize::try_from(*length).unwrap(), 0);
            }
            Op::Sync { .. } | Op::SyncFailed { .. } => {}
            Op::Create { path, file } => {
                self.claim(path, Node::File(*file))?;
                self.files.entry(*file).or_default();
            }
            Op::CreateFolder { path } => self.claim(path, Node::Folder)?,
            Op::Rename { from, to, node } => {
                self.node(to.parent().unwrap())?;
                // Its creation under the old name may be lost, which the new one outlasts.
                if self.node(from).ok() == Some(*node) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *node);
                let inside = self.names.keys().filter(|path| path.starts_with(from));
                let inside: Vec<PathBuf> = match node {
                    Node::Folder => inside.cloned().collect(),
                    Node::File(_) => Vec::new(),
                };
                for path in inside {
                    let node = self.names.remove(&path).unwrap();
                    self.names.insert(to.join(path.strip_prefix(from).unwrap()), node);
                }
            }
            Op::Remove { path, node } => {
                if self.node(path)? != *node {
                    return Err(io::ErrorKind::NotFound.into());
                }
                if self.names.keys().any(|inside| inside != path && inside.starts_with(path)) {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                self.names.remove(path);
            }
            Op::SyncFolder { path } => drop(self.node(path)?),
        }
        Ok(())
    }

    pub(super) fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) {
        let content = Arc::make_mut(self.files.entry(file).or_default());
        let offset = usize::try_from(offset).unwrap();
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
    }

    fn claim(&mut self, path: &Path, node: Node) -> io::Result<()> {
        self.node(path.parent().unwrap())?;
        if self.node(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.names.insert(path.to_owned(), node);
        Ok(())
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        if path == Path::new("/") {
            return Ok(Node::Folder);
        }
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn length(&self, file: Inode) -> u64 {
        self.files.get(&file).map_or(0, |content| content.len() as u64)
    }

    fn bytes(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(file) => Some(*file),
            Node::Folder => None,
        });
        named.collect::<BTreeSet<_>>().into_iter().map(|file| self.length(file)).sum()
    }
}

/// A disk in memory. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct World(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    start: State,
    now: State,
    log: Vec<Op>,
    inodes: Inode,
    calls: u64,
    faults: Vec<(u64, Fault)>,
    capacity: u64,
    /// Kept between two questions about crashes.
    remains: Option<Remains>,
}

/// What a call can suffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Look,
    Read,
    Write,
    Names,
    Sync,
}

impl World {
    pub(super) fn holding(state: State) -> Self {
        let inodes = state.files.keys().next_back().map_or(0, |last| last + 1);
        Self(Arc::new(Mutex::new(Inner {
            start: state.clone(),
            now: state,
            log: Vec::new(),
            inodes,
            calls: 0,
            faults: Vec::new(),
            capacity: u64::MAX,
            remains: None,
        })))
    }

    pub(super) fn into_pair(self) -> (Disk, Simulator) {
        (Disk(Medium::Simulated(self.clone())), Simulator(self))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<OpenFile> {
        let mut inner = self.lock();
        inner.begin(Call::Look)?;
        match inner.now.node(path)? {
            Node::File(file) => Ok(OpenFile { world: self.clone(), file }),
            Node::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<OpenFile> {
        let mut inner = self.lock();
        inner.begin(Call::Names)?;
        let file = inner.inodes;
        inner.perform(Op::Create { path: path.to_owned(), file })?;
        inner.inodes += 1;
        Ok(OpenFile { world: self.clone(), file })
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Call::Names)?;
        let node = inner.now.node(from)?;
        inner.perform(Op::Rename { from: from.to_owned(), to: to.to_owned(), node })
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Call::Names)?;
        match inner.now.node(path)? {
            Node::Folder => Err(io::ErrorKind::IsADirectory.into()),
            node => inner.perform(Op::Remove { path: path.to_owned(), node }),
        }
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.now.node(path)?;
        // The deepest first; a crash may come between any two.
        let inside = inner.now.names.keys().filter(|inside| inside.starts_with(path));
        let inside: Vec<PathBuf> = inside.rev().cloned().collect();
        for path in inside {
            inner.begin(Call::Names)?;
            let node = inner.now.node(&path)?;
            inner.perform(Op::Remove { path, node })?;
        }
        Ok(())
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for path in above {
            if inner.now.node(path).is_err() {
                inner.begin(Call::Names)?;
                inner.perform(Op::CreateFolder { path: path.to_owned() })?;
            }
        }
        Ok(())
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        // What a folder's failed sync should have kept stays in doubt by itself.
        inner.begin(Call::Sync)?;
        inner.perform(Op::SyncFolder { path: path.to_owned() })
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut inner = self.lock();
        inner.begin(Call::Look)?;
        inner.now.node(path)?;
        let inside = inner.now.names.keys().filter(|inside| inside.parent() == Some(path));
        Ok(inside.map(|inside| inside.file_name().unwrap().to_owned()).collect())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.lock().now.node(path).is_ok()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let inner = self.lock();
        inner.capacity.saturating_sub(inner.now.bytes())
    }
}

impl Inner {
    /// Counts a call, and fails it if it is its turn.
    fn begin(&mut self, call: Call) -> io::Result<()> {
        self.calls += 1;
        let suits = |fault: Fault| match fault {
            Fault::Eio => true,
            Fault::Enospc => matches!(call, Call::Write | Call::Names),
            Fault::SyncFails => call == Call::Sync,
            // Only of reads and writes; the other calls are repeated by the standard library.
            Fault::Eintr | Fault::ShortWrite => false,
        };
        match self.due(suits) {
            None => Ok(()),
            Some(Fault::Enospc) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Eio | Fault::SyncFails | Fault::ShortWrite | Fault::Eintr) => {
                Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
            }
        }
    }

    fn be_interrupted(&mut self) -> io::Result<()> {
        match self.due(|fault| fault == Fault::Eintr) {
            Some(_) => Err(io::ErrorKind::Interrupted.into()),
            None => Ok(()),
        }
    }

    fn due(&mut self, suits: impl Fn(Fault) -> bool) -> Option<Fault> {
        let calls = self.calls;
        let due = self.faults.iter().position(|&(at, fault)| at <= calls && suits(fault))?;
        Some(self.faults.remove(due).1)
    }

    fn perform(&mut self, op: Op) -> io::Result<()> {
        self.now.apply(&op)?;
        self.log.push(op);
        Ok(())
    }

    fn check_capacity(&self, file: Inode, length: u64) -> io::Result<()> {
        let more = length.saturating_sub(self.now.length(file));
        if more > 0 && self.now.bytes() + more > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// An open file of a simulated disk. It stays open when its name goes.
#[derive(Debug)]
pub(super) struct OpenFile {
    world: World,
    file: Inode,
}

impl OpenFile {
    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.world.lock();
        inner.begin(Call::Read)?;
        inner.be_interrupted()?;
        let content = &inner.now.files[&self.file];
        let from = usize::try_from(offset).unwrap().min(content.len());
        let read = into.len().min(content.len() - from);
        into[..read].copy_from_slice(&content[from..from + read]);
        Ok(read)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.world.lock();
        inner.begin(Call::Write)?;
        inner.be_interrupted()?;
        let is_short = inner.due(|fault| fault == Fault::ShortWrite).is_some();
        let bytes = if is_short { &bytes[..bytes.len().div_ceil(2)] } else { bytes };
        inner.check_capacity(self.file, offset + bytes.len() as u64)?;
        inner.perform(Op::Write { file: self.file, offset, bytes: bytes.into() })?;
        Ok(bytes.len())
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.world.lock();
        inner.begin(Call::Write)?;
        inner.check_capacity(self.file, length)?;
        inner.perform(Op::SetLen { file: self.file, length })
    }

    pub(super) fn len(&self) -> u64 {
        self.world.lock().now.length(self.file)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut inner = self.world.lock();
        let begun = inner.begin(Call::Sync);
        let file = self.file;
        let op = if begun.is_ok() { Op::Sync { file } } else { Op::SyncFailed { file } };
        inner.perform(op)?;
        begun
    }
}
