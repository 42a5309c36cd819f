use std::{
    fs,
    path::{Path, PathBuf},
};

const MIB: u64 = 1024 * 1024;
/// What the records kept in memory may take whatever the memory is…
const LEAST: u64 = 64 * MIB;
/// … and what they may take at most unless somebody asks for more: those of a million secrets.
const MOST: u64 = 1024 * MIB;
/// The part of the memory that they may take between these. While a compaction makes another index
/// they may take it twice.
const PART: u64 = 16;

/// Memory for the records that an index keeps at hand, in bytes, by what this process may use at
/// all.
pub(super) fn fitting_bytes() -> u64 {
    let allowed = limit(Path::new("/sys/fs/cgroup"), &groups());
    let memory = allowed.into_iter().chain(installed()).min();
    (memory.unwrap_or_default() / PART).clamp(LEAST, MOST)
}

/// The control groups that this process is in, as cgroups(7) writes them.
fn groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The lowest limit that a control group, or one around it, sets on memory.
fn limit(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| limits_of(root, line)).flatten();
    limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

/// The files with the limits of one line of the kernel's list, `ID:CONTROLLERS:PATH`.
fn limits_of(root: &Path, line: &str) -> Option<Vec<PathBuf>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        "memory" => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    let group = root.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|folder| folder.starts_with(&root));
    Some(around.map(|folder| folder.join(file)).collect())
}

#[cfg(target_os = "linux")]
fn installed() -> Option<u64> {
    let system = rustix::system::sysinfo();
    system.totalram.checked_mul(system.mem_unit.into())
}

#[cfg(not(target_os = "linux"))]
fn installed() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(files: &[(&str, &str)], groups: &str) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        limit(root.path(), groups)
    }

    #[test]
    fn the_lowest_limit_around_counts() {
        let files = [
            ("memory.max", "max\n"),
            ("services/memory.max", "4096\n"),
            ("services/kista/memory.max", "8192\n"),
            ("other/memory.max", "1\n"),
        ];
        assert_eq!(limited(&files, "0::/services/kista\n"), Some(4096));
        assert_eq!(limited(&files, "0::/\n"), None);
        let older = [("memory/docker/memory.limit_in_bytes", "512\n"), ("cpu/docker/x", "1")];
        assert_eq!(limited(&older, "4:cpu:/docker\n7:memory:/docker\n"), Some(512));
    }

    #[test]
    fn what_is_no_limit_is_none() {
        for groups in ["", "0", "0::", "x:y", "0::/../../etc\n", "1:name=systemd:/\n"] {
            assert_eq!(limited(&[("memory.max", "much")], groups), None, "{groups}");
        }
    }

    #[test]
    fn the_cache_keeps_its_bounds() {
        assert!((LEAST..=MOST).contains(&fitting_bytes()));
    }
}
