use std::path::Path;

use crate::clock::Timestamp;

use super::json::Object;

/// What the server itself has to tell, on a line of type `notice`. Nothing in it is a caller's.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Tries to unseal since the last seal. Sealed there is no audit key, so they are told here.
    Unsealed {
        /// Secrets and sets of shares tried.
        attempts: u64,
        /// How many of them did not open.
        failures: u64,
    },
    /// The last commit was torn by a crash before it was answered, and was cut.
    UnfinishedCommitCut {
        /// Its sequence.
        seq: u64,
    },
    /// The index was missing, behind or unreadable, and was built again from the journal.
    IndexRebuilt,
    /// A snapshot could not be used, and the one before it was taken with the journal since then.
    SnapshotDamaged {
        /// What is wrong, and in which file.
        reason: &'a str,
    },
    /// A verification found the index wrong; it was built again and is right now.
    IndexRepaired {
        /// How much was found.
        findings: u64,
    },
    /// The stored records are not those of the newest commit, and the vault was sealed.
    Tampered {
        /// How much was found.
        findings: u64,
    },
    /// One copy of the seal file was missing, damaged or old, and was written again.
    SealFileRepaired {
        /// The copy.
        file: &'a Path,
    },
    /// A rotation was due and has begun.
    TermDue {
        /// The term that seals from now on.
        term: u32,
        /// Why: `age` or `count`.
        by: &'a str,
    },
    /// No file of the data folder holds this term, or anything that it sealed, any more.
    TermDestroyed {
        /// The term.
        term: u32,
    },
    /// No file of the data folder holds this secret of names, or a name under it, any more.
    NamesDestroyed {
        /// Its generation.
        generation: u32,
    },
    /// An anchor says nothing of this store.
    AnchorUnusable {
        /// What is wrong with it.
        reason: &'a str,
    },
    /// The audit checkpoint beside an anchor says nothing of this store.
    AnchorCheckpointUnusable {
        /// What is wrong with it.
        reason: &'a str,
    },
    /// An anchor is older than what the store can tell.
    AnchorStale,
    /// A person has accepted that the store is an older one than an anchor says.
    RollbackAccepted {
        /// The generation that the store goes on in.
        generation: u64,
    },
    /// The audit file ends before a checkpoint that the store's head names, or that an anchor has.
    AuditTruncated {
        /// The last line that the file proves.
        found: u64,
        /// The line that it has to reach.
        expected: u64,
    },
    /// A line of the audit file does not hold.
    AuditDamaged {
        /// Its number, counted from where the check began.
        line: u64,
        /// Where it begins, in bytes.
        offset: u64,
        /// What does not hold.
        fault: &'a str,
    },
    /// The audit file was of no use for going on and was moved away.
    AuditSetAside {
        /// Where it is now.
        file: &'a Path,
    },
}

impl Notice<'_> {
    /// Appends the body of a line, without its closing brace.
    pub(super) fn body(&self, time: Timestamp, out: &mut Vec<u8>) {
        let mut line = Object::open(out);
        line.text("time", &time.rfc3339());
        line.text("type", "notice");
        let mut notice = line.object("notice");
        match self {
            Self::Unsealed { attempts, failures } => {
                notice.text("event", "unsealed");
                notice.number("attempts", *attempts);
                notice.number("failures", *failures);
            }
            Self::UnfinishedCommitCut { seq } => {
                notice.text("event", "unfinished_commit_cut");
                notice.number("seq", *seq);
            }
            Self::IndexRebuilt => notice.text("event", "index_rebuilt"),
            Self::SnapshotDamaged { reason } => {
                notice.text("event", "snapshot_damaged");
                notice.text("reason", reason);
            }
            Self::IndexRepaired { findings } => {
                notice.text("event", "index_repaired");
                notice.number("findings", *findings);
            }
            Self::Tampered { findings } => {
                notice.text("event", "tampered");
                notice.number("findings", *findings);
            }
            Self::SealFileRepaired { file } => {
                notice.text("event", "seal_file_repaired");
                notice.text("file", &file.to_string_lossy());
            }
            Self::TermDue { term, by } => {
                notice.text("event", "term_due");
                notice.number("term", u64::from(*term));
                notice.text("by", by);
            }
            Self::TermDestroyed { term } => {
                notice.text("event", "term_destroyed");
                notice.number("term", u64::from(*term));
            }
            Self::NamesDestroyed { generation } => {
                notice.text("event", "names_destroyed");
                notice.number("generation", u64::from(*generation));
            }
            Self::AnchorUnusable { reason } => {
                notice.text("event", "anchor_unusable");
                notice.text("reason", reason);
            }
            Self::AnchorCheckpointUnusable { reason } => {
                notice.text("event", "anchor_checkpoint_unusable");
                notice.text("reason", reason);
            }
            Self::AnchorStale => notice.text("event", "anchor_stale"),
            Self::RollbackAccepted { generation } => {
                notice.text("event", "rollback_accepted");
                notice.number("generation", *generation);
            }
            Self::AuditTruncated { found, expected } => {
                notice.text("event", "audit_truncated");
                notice.number("found", *found);
                notice.number("expected", *expected);
            }
            Self::AuditDamaged { line, offset, fault } => {
                notice.text("event", "audit_damaged");
                notice.number("line", *line);
                notice.number("offset", *offset);
                notice.text("fault", fault);
            }
            Self::AuditSetAside { file } => {
                notice.text("event", "audit_set_aside");
                notice.text("file", &file.to_string_lossy());
            }
        }
        notice.close();
    }
}
