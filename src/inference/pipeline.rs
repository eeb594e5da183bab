//! Reading, computing and writing at the same time.

use std::sync::mpsc::sync_channel;
use std::thread;

/// Passes each job through `read`, `compute` and `write`, in their order, each on a thread of its own: while one job is
/// computed, on the caller's thread, the next is read and the one before is written.
///
/// A stage waits until the one after it takes what it has, so that beside the three jobs in the stages there is none in
/// memory. A failed job is a value like any other, such as a `Result`, so that `write` hears of it in its place.
///
/// # Panics
/// If a stage panics, the others end and the panic goes on.
pub fn pipeline<Job, Read, Computed>(
    jobs: impl IntoIterator<Item = Job, IntoIter: Send>,
    read: impl FnMut(Job) -> Read + Send,
    mut compute: impl FnMut(Read) -> Computed,
    write: impl FnMut(Computed) + Send,
) where
    Read: Send,
    Computed: Send,
{
    let jobs = jobs.into_iter().map(read);
    thread::scope(|scope| {
        // Channels without room: what is sent is handed over.
        let (to_compute, read) = sync_channel(0);
        let (to_write, computed) = sync_channel(0);
        scope.spawn(move || {
            for job in jobs {
                if to_compute.send(job).is_err() {
                    break;
                }
            }
        });
        scope.spawn(move || computed.into_iter().for_each(write));
        for job in read {
            if to_write.send(compute(job)).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_job_passes_all_stages_in_order() {
        let mut written = Vec::new();
        pipeline(
            0..100,
            |job| job + 1,
            |read| read * 10,
            |done| written.push(done),
        );
        assert_eq!(written, (1..=100).map(|n| n * 10).collect::<Vec<_>>());
        pipeline(0..0, |job| job, |read| read, |_: i32| panic!("no job"));
    }

    /// Each stage waits for both others to be at work on their neighbours: only what overlaps can end.
    #[test]
    fn the_three_stages_work_at_the_same_time() {
        const JOBS: usize = 6;
        let meeting = Barrier::new(3);
        // Reading meets from job 2 on, computing from 1 to JOBS − 2, writing until JOBS − 3.
        pipeline(
            0..JOBS,
            |job| {
                if job >= 2 {
                    meeting.wait();
                }
                job
            },
            |job| {
                if (1..JOBS - 1).contains(&job) {
                    meeting.wait();
                }
                job
            },
            |job| {
                if job < JOBS - 2 {
                    meeting.wait();
                }
            },
        );
    }

    #[test]
    fn no_more_than_three_jobs_are_in_memory() {
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        pipeline(
            0..50,
            |job| {
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                job
            },
            |job| job,
            |job| {
                if job % 7 == 0 {
                    thread::sleep(std::time::Duration::from_millis(5));
                }
                inside.fetch_sub(1, Ordering::SeqCst);
            },
        );
        let most = most.into_inner();
        assert!(most <= 3, "{most} jobs at once");
    }

    #[test]
    fn a_panic_in_any_stage_ends_all_of_them() {
        for bad in 0..3 {
            let fail = |stage: usize, job: usize| {
                if stage == bad && job == 3 {
                    panic!("stage {stage}");
                }
                job
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pipeline(
                    0..10,
                    |job| fail(0, job),
                    |job| fail(1, job),
                    |job| {
                        fail(2, job);
                    },
                );
            }));
            assert!(outcome.is_err(), "stage {bad}");
        }
    }
}
