//! How much memory the process takes, and how much it can still take.

use std::fs;
use std::path::Path;

/// The most memory that the process has had so far, in bytes. None where the system does not say: outside Linux.
pub fn peak_bytes() -> Option<u64> {
    kibibytes(&read(Path::new("/proc/self/status"))?, "VmHWM:")
}

/// The memory that the process can still take, in bytes: the least of what the machine has free without swapping, what
/// its control groups leave, and what is left of a limited address space (`ulimit -v`). None where the system does not
/// say: outside Linux.
pub fn free_bytes() -> Option<u64> {
    free_below(Path::new("/"))
}

fn free_below(root: &Path) -> Option<u64> {
    let machine = kibibytes(&read(&root.join("proc/meminfo"))?, "MemAvailable:");
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| group(root, line));
    groups.chain(machine).chain(address_space(root)).min()
}

/// What the control group on this line of `/proc/self/cgroup` and those around it leave: `0::/a/b` in version 2, and
/// `4:memory:/a/b` in version 1. What they hold of files that nobody has read lately goes when memory is needed.
fn group(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, limits, used, files) = match controllers {
        "" => (
            "sys/fs/cgroup",
            ["memory.max", "memory.high"].as_slice(),
            "memory.current",
            "inactive_file",
        ),
        list if list.split(',').any(|name| name == "memory") => (
            "sys/fs/cgroup/memory",
            ["memory.limit_in_bytes"].as_slice(),
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
        _ => return None,
    };
    let mount = root.join(mount);
    let group = mount.join(path.trim_start_matches('/'));
    // In a container the path may be the host's, of which only the mount itself is there.
    let around = group
        .ancestors()
        .take_while(|group| group.starts_with(&mount));
    around
        .filter_map(|group| {
            let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
            let limit = limits.iter().filter_map(|name| number(name)).min()?;
            let stat = read(&group.join("memory.stat")).unwrap_or_default();
            let files = value(&stat, files).unwrap_or(0);
            Some(limit.saturating_sub(number(used)?.saturating_sub(files)))
        })
        .min()
}

/// What is left of the address space, if it is limited.
fn address_space(root: &Path) -> Option<u64> {
    let limits = read(&root.join("proc/self/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let taken = kibibytes(&read(&root.join("proc/self/status"))?, "VmSize:")?;
    Some(limit.saturating_sub(taken))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The number on the line that begins with `name`.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

/// As [`value`], of a line in KiB, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A system of these files: of 8 MB free memory, and a process of 3 MB without a limit.
    fn system(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let usual = [
            (
                "proc/meminfo",
                "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
            ),
            ("proc/self/cgroup", "1:cpu,cpuacct:/\n0::/\n"),
            ("proc/self/status", "VmPeak:  4000 kB\nVmSize:  3000 kB\n"),
            (
                "proc/self/limits",
                "Limit    Soft Limit  Hard Limit  Units\nMax address space  unlimited  unlimited  bytes\n",
            ),
        ];
        for (name, text) in usual.iter().chain(files) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn free(files: &[(&str, &str)]) -> Option<u64> {
        free_below(system(files).path())
    }

    #[test]
    fn without_limits_it_is_what_the_machine_has() {
        assert_eq!(free(&[]), Some(8_000 * 1024));
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(free_below(nowhere.path()), None);
        assert_eq!(free_bytes().is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn the_address_space_ends_at_its_limit() {
        let limits = "Max address space         5000000              unlimited            bytes\n";
        let left = free(&[("proc/self/limits", limits)]);
        assert_eq!(left, Some(5_000_000 - 3_000 * 1024));
        let limits = "Max address space         1000 2000 bytes\n";
        assert_eq!(free(&[("proc/self/limits", limits)]), Some(0));
    }

    #[test]
    fn the_least_of_a_group_and_those_around_it_counts() {
        let group = ("proc/self/cgroup", "0::/slice/session\n");
        let inner = [
            ("sys/fs/cgroup/slice/session/memory.max", "max\n"),
            ("sys/fs/cgroup/slice/session/memory.high", "5000000\n"),
            ("sys/fs/cgroup/slice/session/memory.current", "1500000\n"),
            (
                "sys/fs/cgroup/slice/session/memory.stat",
                "anon 1000000\nfile 500000\ninactive_file 400000\n",
            ),
        ];
        let files = [&[group][..], &inner].concat();
        assert_eq!(free(&files), Some(5_000_000 - 1_100_000));
        let outer = [
            ("sys/fs/cgroup/slice/memory.max", "4000000\n"),
            ("sys/fs/cgroup/slice/memory.current", "3000000\n"),
        ];
        let files = [&files[..], &outer].concat();
        assert_eq!(free(&files), Some(1_000_000));
    }

    #[test]
    fn groups_of_version_one_count_too_also_under_a_path_of_the_host() {
        for place in ["sys/fs/cgroup/memory/docker/1", "sys/fs/cgroup/memory"] {
            let name = |file: &str| format!("{place}/{file}");
            let (limit, used, stat) = (
                name("memory.limit_in_bytes"),
                name("memory.usage_in_bytes"),
                name("memory.stat"),
            );
            let files = [
                ("proc/self/cgroup", "5:hugetlb,memory:/docker/1\n0::/\n"),
                (&limit, "3000000\n"),
                (&used, "2500000\n"),
                (&stat, "inactive_file 1\ntotal_inactive_file 200000\n"),
            ];
            assert_eq!(free(&files), Some(700_000), "{place}");
        }
    }
}
