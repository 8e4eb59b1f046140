//! How much memory this shard may use, how much it uses, and what to do about it.
//!
//! ```text
//! /proc/self/{cgroup,mountinfo} → Group (found once) → Reading (every 250 ms) → stage → GuardStage
//! ```
//!
//! The figures are those of the shard's own control group, not of the machine: they decide when the kernel kills it. The
//! page cache it can drop at once (`inactive_file`) does not count.
//!
//! - Version 2: `memory.current − inactive_file` against `memory.max`, `oom_kill` of `memory.events`.
//! - Version 1: `memory.usage_in_bytes − total_inactive_file` against `hierarchical_memory_limit`, `oom_kill` of
//!   `memory.oom_control`. It does not charge socket buffers: the caller counts those.
//! - A machine that mounts both has the memory controller on version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mcp_crds::load::GuardStage;

/// From this share of the limit on, per mille, new streams and sessions are refused.
const REFUSE_AT: u64 = 800;
/// From here on, the allocator is purged and idle buffers are dropped.
const PURGE_AT: u64 = 850;
/// From here on, streams are ended.
const SHED_AT: u64 = 900;
/// Until here the room between two readings reaches; and until here for connections inside hyper, so that what they ask for finds
/// some. What stays has room until it is refused altogether.
const FULL_AT: u64 = 970;
const NO_ENTRY_AT: u64 = 920;
/// A stage ends this much below where it begins, so that it does not flap.
const RELEASE: u64 = 50;

/// Version 1 writes "no limit" as the largest number of pages; no machine has half of that.
const NO_LIMIT: u64 = 1 << 62;

/// A control group that accounts for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    version: Version,
    folder: PathBuf,
    /// Where the hierarchy is mounted: as far up as ancestors can be seen.
    mount: PathBuf,
}

/// Which kind of control groups the kernel serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller; socket buffers are not charged.
    V1,
    /// The unified hierarchy; socket buffers are charged.
    V2,
}

/// The memory of a group at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What cannot be reclaimed at once, bytes.
    pub used: u64,
    /// The smallest limit of the group and its visible ancestors, bytes; none when there is none.
    pub limit: Option<u64>,
    /// Processes of the group the kernel has killed for memory, since the group was made.
    pub oom_kills: u64,
}

/// Decides how far the memory guard goes: up as soon as a threshold is reached, down only 5 points below it. Without a limit
/// (0) there is nothing to guard.
pub fn stage(previous: GuardStage, used: u64, limit: u64) -> GuardStage {
    if limit == 0 {
        return GuardStage::Normal;
    }
    let share = u128::from(used) * 1000 / u128::from(limit);
    let entered = |at: u64| share >= u128::from(at);
    [(GuardStage::Shedding, SHED_AT), (GuardStage::Purging, PURGE_AT), (GuardStage::RefusingStreams, REFUSE_AT)]
        .into_iter()
        .find(|(stage, at)| entered(*at) || (*stage <= previous && entered(at - RELEASE)))
        .map_or(GuardStage::Normal, |(stage, _)| stage)
}

/// What a reading leaves, bytes: without a limit (0) there is no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Until nothing more may be taken.
    pub all: u64,
    /// Until no more connections are taken into hyper.
    pub entry: u64,
    /// Until nothing more may be taken that stays.
    pub growth: u64,
}

/// What may be taken until the next reading.
pub fn left(used: u64, limit: u64) -> Left {
    if limit == 0 {
        return Left { all: u64::MAX, entry: u64::MAX, growth: u64::MAX };
    }
    let until = |at: u64| (limit / 1000 * at).saturating_sub(used);
    Left { all: until(FULL_AT), entry: until(NO_ENTRY_AT), growth: until(REFUSE_AT) }
}

// === impl Group ===

impl Group {
    /// The group of this process; none where memory is not accounted for, or not visible.
    ///
    /// # Errors
    /// When `/proc/self` cannot be read.
    pub fn own() -> io::Result<Option<Self>> {
        Self::find(Path::new("/"))
    }

    /// The same on a file system that begins at `root`.
    ///
    /// # Errors
    /// When its `proc/self` cannot be read.
    pub fn find(root: &Path) -> io::Result<Option<Self>> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup"))?;
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo"))?;
        let Some((version, path)) = own_path(&groups) else { return Ok(None) };
        let found = mounts.lines().filter_map(Mount::parse).filter(|mount| mount.serves(version)).find_map(|mount| {
            let point = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
            // With a private namespace, or the group itself mounted, the path of the process says nothing about where it is
            // below the mount: then it is the mount.
            let below = Path::new(path).strip_prefix(&mount.root).ok().filter(|below| !below.starts_with(".."));
            let candidates = [point.join(below.unwrap_or(Path::new(""))), point.clone()];
            let folder = candidates.into_iter().find(|folder| folder.join(version.usage_file()).exists())?;
            Some(Self { version, folder, mount: point })
        });
        Ok(found)
    }

    /// Which kind it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether socket buffers are part of what it reads. Where they are not, the caller counts them.
    pub fn charges_sockets(&self) -> bool {
        match self.version {
            Version::V1 => false,
            Version::V2 => true,
        }
    }

    /// Reads it now.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what the kernel documents.
    pub fn read(&self) -> io::Result<Reading> {
        let text = |name: &str| fs::read_to_string(self.folder.join(name));
        let usage = number(&text(self.version.usage_file())?)?;
        let stat = text("memory.stat")?;
        let (inactive, limit, kills) = match self.version {
            Version::V1 => {
                let limit = field(&stat, "hierarchical_memory_limit").filter(|limit| *limit < NO_LIMIT);
                ("total_inactive_file", limit, text("memory.oom_control"))
            }
            Version::V2 => ("inactive_file", self.smallest_max()?, text("memory.events")),
        };
        let inactive = field(&stat, inactive).ok_or_else(|| malformed("memory.stat"))?;
        // Kernels before 4.13 do not count kills, and a group without the file had none.
        let oom_kills = kills.ok().and_then(|text| field(&text, "oom_kill")).unwrap_or(0);
        Ok(Reading { used: usage.saturating_sub(inactive), limit, oom_kills })
    }

    /// Version 2: each ancestor has a limit of its own, and the smallest one binds.
    fn smallest_max(&self) -> io::Result<Option<u64>> {
        let mut smallest: Option<u64> = None;
        for folder in self.folder.ancestors().take_while(|folder| folder.starts_with(&self.mount)) {
            let text = match fs::read_to_string(folder.join("memory.max")) {
                Ok(text) => text,
                // The root of a hierarchy has none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if text.trim() != "max" {
                let limit = number(&text)?;
                smallest = Some(smallest.map_or(limit, |smallest| smallest.min(limit)));
            }
        }
        Ok(smallest)
    }
}

// === impl Version ===

impl Version {
    fn usage_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.usage_in_bytes",
            Self::V2 => "memory.current",
        }
    }
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug)]
struct Mount {
    /// The folder of the hierarchy that is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (place, file_system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, _source, options) = (file_system.next()?, file_system.next()?, file_system.next()?);
        Some(Self { root: unescape(root), point: unescape(point), kind: kind.to_owned(), options: options.to_owned() })
    }

    fn serves(&self, version: Version) -> bool {
        match version {
            Version::V1 => self.kind == "cgroup" && self.options.split(',').any(|option| option == "memory"),
            Version::V2 => self.kind == "cgroup2",
        }
    }
}

/// From `/proc/self/cgroup` (cgroups(7)): who has the memory controller, and the path of this process in it.
fn own_path(groups: &str) -> Option<(Version, &str)> {
    let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    lines()
        .find(|(controllers, _)| controllers.split(',').any(|controller| controller == "memory"))
        .map(|(_, path)| (Version::V1, path))
        .or_else(|| lines().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| (Version::V2, path)))
}

/// Spaces and the like are written in octal.
fn unescape(path: &str) -> PathBuf {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
        .into()
}

/// The value of a line `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn number(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(|_| malformed(text.trim()))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what:?} is not what the kernel documents"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: u64 = 1 << 20;

    fn fixture(name: &str) -> Option<Group> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cgroup").join(name);
        Group::find(&root).unwrap()
    }

    fn read(name: &str) -> Reading {
        fixture(name).unwrap().read().unwrap()
    }

    #[test]
    fn a_container_with_a_private_namespace_reads_its_own_limit() {
        let reading = Reading { used: 120 * MI, limit: Some(512 * MI), oom_kills: 2 };
        assert_eq!(read("v2-container"), reading);
        assert_eq!(fixture("v2-container").map(|group| group.version()), Some(Version::V2));
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_binds() {
        // The group has 1 GiB, the slice above it 256 MiB, the one above that none.
        assert_eq!(read("v2-nested"), Reading { used: 90 * MI, limit: Some(256 * MI), oom_kills: 0 });
    }

    #[test]
    fn version_1_reads_the_limit_of_its_hierarchy() {
        // Where the group itself is mounted, as container runtimes do without a namespace.
        let group = fixture("v1-container").unwrap();
        assert_eq!(group.read().unwrap(), Reading { used: 100 * MI, limit: Some(512 * MI), oom_kills: 1 });
        assert!(!group.charges_sockets());
        // Where the whole hierarchy is mounted: the group's own limit is larger than that of an ancestor.
        assert_eq!(read("v1-nested"), Reading { used: 10 * MI, limit: Some(64 * MI), oom_kills: 0 });
    }

    #[test]
    fn a_machine_with_both_versions_accounts_on_version_1() {
        let group = fixture("hybrid").unwrap();
        assert_eq!(group.version(), Version::V1);
        assert_eq!(group.read().unwrap(), Reading { used: 7 * MI, limit: None, oom_kills: 0 });
    }

    #[test]
    fn a_process_outside_of_its_namespace_reads_what_is_mounted() {
        assert_eq!(read("v2-outside").limit, Some(300 * MI));
    }

    #[test]
    fn no_limit_and_no_group_are_told_apart() {
        assert_eq!(read("v2-unlimited"), Reading { used: 5 * MI, limit: None, oom_kills: 0 });
        assert_eq!(fixture("none"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        if let Some(group) = Group::own().unwrap() {
            assert!(group.read().unwrap().used > 0, "{group:?}");
        }
    }

    #[test]
    fn what_a_reading_leaves_ends_below_the_limit_and_sooner_for_what_stays() {
        assert_eq!(left(700, 1000), Left { all: 270, entry: 220, growth: 100 });
        assert_eq!(left(900, 1000), Left { all: 70, entry: 20, growth: 0 });
        assert_eq!(left(2000, 1000), Left { all: 0, entry: 0, growth: 0 });
        assert_eq!(
            left(u64::MAX, 0),
            Left { all: u64::MAX, entry: u64::MAX, growth: u64::MAX },
            "without a limit there is nothing to guard"
        );
        assert_eq!(left(0, u64::MAX).all, u64::MAX / 1000 * 970);
    }

    #[test]
    fn stages_begin_at_their_thresholds_and_end_five_points_below() {
        use GuardStage::{Normal, Purging, RefusingStreams, Shedding};
        for (previous, used, next) in [
            (Normal, 799, Normal),
            (Normal, 800, RefusingStreams),
            (Normal, 850, Purging),
            (Normal, 900, Shedding),
            (Normal, 2000, Shedding),
            (Shedding, 850, Shedding),
            (Shedding, 849, Purging),
            (Shedding, 799, RefusingStreams),
            (Shedding, 749, Normal),
            (Purging, 899, Purging),
            (Purging, 800, Purging),
            (Purging, 799, RefusingStreams),
            (RefusingStreams, 750, RefusingStreams),
            (RefusingStreams, 749, Normal),
            (RefusingStreams, 849, RefusingStreams),
        ] {
            assert_eq!(stage(previous, used, 1000), next, "{previous:?} at {used}");
        }
        assert_eq!(stage(Shedding, u64::MAX, 0), Normal, "without a limit there is nothing to guard");
        assert_eq!(stage(Normal, u64::MAX, u64::MAX), Shedding);
    }
}
