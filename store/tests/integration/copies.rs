//! Power cuts as a disk sees them: copies of the block device, made in one moment while a process works on it.
//!
//! The lake and its journal lie on ext4 in a loop device whose image is a file on XFS, where a copy shares all blocks and so is of one moment.
//! A copy holds what the file system had written by then, no more: mounted, it is what a start after a power cut finds.
//! `METERLAKE_COPIES=n` makes so many; it takes Linux, root, and `mkfs.xfs` and `mkfs.ext4` (packages xfsprogs and e2fsprogs).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use meterlake_model::ledger::Ledger;

use crate::kills::{Site, check, note};
use crate::simulation::Random;

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An image mounted on a folder beside it.
struct Mount(PathBuf);

impl Mount {
    fn of(image: &Path) -> Self {
        let folder = image.with_extension("mounted");
        std::fs::create_dir_all(&folder).unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), folder.to_str().unwrap()]);
        Self(folder)
    }

    fn made(image: &Path, bytes: u64, make: &str, words: &[&str]) -> Self {
        std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
        run(make, &[words, &[image.to_str().unwrap()]].concat());
        Self::of(image)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_1_a_copy_of_the_device_has_all_that_was_acknowledged_when_it_was_made() {
    let Ok(copies) = std::env::var("METERLAKE_COPIES") else {
        println!("METERLAKE_COPIES is not set: no block device is made and copied");
        return;
    };
    let copies: u32 = copies.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outer = Mount::made(&folder.path().join("disk.xfs"), 2 << 30, "mkfs.xfs", &["-q", "-m", "reflink=1"]);
    let image = outer.0.join("lake.ext4");
    let inner = Mount::made(&image, 256 << 20, "mkfs.ext4", &["-q", "-F"]);
    let place = inner.0.join("site");
    std::fs::create_dir(&place).unwrap();
    let (mut site, mut random) = (Site::new(&place), Random::new(20_261_124));
    let mut made = 0;
    while made < copies {
        let copy = outer.0.join(format!("copy-{made}.ext4"));
        let mut acknowledged = None;
        let after = Duration::from_micros(random.next() % 400_000);
        let was_killed = site.life_with(None, Some(after), |site| {
            acknowledged = Some(site.sent());
            run("cp", &["--reflink=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
        });
        let Some(acknowledged) = acknowledged.filter(|_| was_killed) else { continue };
        // What was sent until its death may be in the copy, what was acknowledged before the copy must be.
        let mut ledger = Ledger::default();
        for number in site.sent().keys() {
            note(&mut ledger, *number, acknowledged.get(number) == Some(&true));
        }
        let mounted = Mount::of(&copy);
        check(&mounted.0.join("site"), &ledger, &format!("copy {made}")).await;
        drop(mounted);
        std::fs::remove_file(&copy).unwrap();
        made += 1;
    }
}
