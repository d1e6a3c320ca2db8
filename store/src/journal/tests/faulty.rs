//! A disk that fails at any call: no false acknowledgement, no panic, on again when space returns.

use super::*;

fn small_segments(dir: &Path) -> JournalOptions {
    JournalOptions { segment_bytes: 1024, ..JournalOptions::new(dir) }
}

/// Appends and syncs one by one on a disk that fails once, until the writer refuses or `count` are durable.
fn run_with_fault(dir: &Path, disk: &FaultyDisk, count: i64) -> (i64, Option<JournalError>) {
    let (mut writer, _) = match JournalWriter::open_on(Box::new(disk.clone()), small_segments(dir)) {
        Ok(opened) => opened,
        Err(error) => return (0, Some(error)),
    };
    let mut acknowledged = 0;
    while acknowledged < count {
        let result = loop {
            match writer.append(&batch(acknowledged + 1)) {
                Err(error) if error.is_retryable() => {}
                other => break other,
            }
        };
        let result = result.and_then(|position| {
            assert_eq!(position, (acknowledged + 1).cast_unsigned());
            loop {
                match writer.sync() {
                    Err(error) if error.is_retryable() => {}
                    other => return other,
                }
            }
        });
        match result {
            Ok(synced) => {
                assert_eq!(synced, (acknowledged + 1).cast_unsigned());
                acknowledged += 1;
            }
            Err(error) => {
                assert!(
                    matches!(writer.append(&batch(0)), Err(JournalError::Poisoned { .. })),
                    "it refuses from then on"
                );
                assert!(matches!(writer.sync(), Err(JournalError::Poisoned { .. })));
                return (acknowledged, Some(error));
            }
        }
    }
    (acknowledged, None)
}

/// Enough for several segments.
const COUNT: i64 = 40;

/// Runs with the fault at each call until it no longer comes; calls `check` with what was acknowledged and the error.
fn at_every_call(fault: Fault, check: impl Fn(i64, Option<JournalError>, u32)) {
    for nth in 0.. {
        let dir = TempDir::new().unwrap();
        let disk = FaultyDisk::new(fault, nth);
        let (acknowledged, error) = run_with_fault(dir.path(), &disk, COUNT);
        if disk.hits() == 0 {
            assert!(nth > 40, "the run is long enough to mean something");
            return;
        }
        check(acknowledged, error, nth);
        // Everything acknowledged is there, in order, with its value.
        let (_, recovery) = open_unsynced(dir.path());
        assert!(recovery.last >= acknowledged.cast_unsigned(), "{fault:?} at {nth}: an acknowledged record is lost");
        assert!(recovery.last <= acknowledged.cast_unsigned() + 1);
        let found = numbers(dir.path());
        assert_eq!(found, (1..=recovery.last.cast_signed()).collect::<Vec<_>>(), "{fault:?} at {nth}");
    }
}

#[test]
fn rule_11_after_a_failed_sync_at_any_call_nothing_more_is_acknowledged() {
    at_every_call(Fault::Sync, |acknowledged, error, nth| {
        assert!(error.is_some(), "sync {nth}");
        assert!(acknowledged < COUNT);
    });
}

#[test]
fn rule_1_a_short_write_at_any_call_is_completed() {
    at_every_call(Fault::ShortWrite, |acknowledged, error, nth| {
        assert!(error.is_none(), "write {nth}: {error:?}");
        assert_eq!(acknowledged, COUNT);
    });
}

#[test]
fn rule_11_a_failed_write_at_any_call_is_never_acknowledged() {
    at_every_call(Fault::WriteIo, |acknowledged, error, nth| {
        // Only the small file that tells others may fail without a loss.
        assert!(error.is_some() || acknowledged == COUNT, "write {nth}");
    });
}

#[test]
fn rule_1_a_full_disk_at_any_call_delays_and_loses_nothing() {
    for calls in [1, 3] {
        at_every_call(Fault::Full(calls), |acknowledged, error, nth| {
            if let Some(error) = error {
                // At the opening nobody waits yet: the caller tries again.
                assert!(acknowledged == 0 && nth == 0, "write {nth}: {error:?}");
            } else {
                assert_eq!(acknowledged, COUNT);
            }
        });
    }
}

#[tokio::test]
async fn rule_11_after_a_failed_sync_every_waiting_append_is_refused() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(Fault::Sync, 6);
    let (writer, _) = JournalWriter::open_on(Box::new(disk.clone()), options(dir.path())).unwrap();
    let handle =
        JournalHandle::spawn(writer, GroupSync { max_delay: Duration::ZERO, max_bytes: 1, ..GroupSync::default() })
            .unwrap();
    let mut acknowledged = 0;
    for i in 1..=20 {
        match handle.append(Arc::new(batch(i))).await {
            Ok(_) => acknowledged = i,
            Err(error) => assert!(matches!(error, JournalError::Poisoned { .. }), "{error}"),
        }
    }
    assert_eq!(disk.hits(), 1);
    assert!(acknowledged < 20);
    handle.close().await;
    let (_, recovery) = open(dir.path());
    assert!(recovery.last >= acknowledged.cast_unsigned());
}
