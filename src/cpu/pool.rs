//! The threads: a small pool that spins for a moment before it parks.
//!
//! A token of a small model has hundreds of joins a few tens of microseconds apart, which is less than a sleeping thread
//! needs to wake up. So workers spin for [`SPIN`] after each job and only then park. Each thread gets a stretch of consecutive tasks, so
//! that it reads memory from end to end and what is fetched ahead is its own; who has finished takes from the far end of
//! another's stretch, which evens out cores of unequal speed (Blumofe & Leiserson 1999). Tasks are taken a quarter of what is left at a time,
//! one by one only at the end (guided self-scheduling, Polychronopoulos & Kuck 1987): between two calls a processor runs out of what it has
//! fetched ahead, which costs some hundred nanoseconds.
//!
//! The trap is a worker that wakes late: the caller must neither wait for it, nor return while it still holds the job. Workers
//! therefore enter a job by a compare-and-swap on one word that says whether the job is open; the caller closes the word when
//! the tasks have run out, and waits only for the workers that are inside.

use super::parts::Parts;
use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// The usual time that a worker looks for the next job.
const SPIN: Duration = Duration::from_micros(200);
/// Turns of the caller's wait for its workers before it offers its time slice to others.
const PATIENCE: u32 = 2000;

/// In [`PoolShared::state`]: the job may be entered.
const OPEN: u64 = 1 << 31;
/// Numbers below which a pass over them is not worth waking threads for.
pub const SERIAL: usize = 8192;
/// The most threads of a pool.
pub const MOST_THREADS: usize = 1024;
/// In [`PoolShared::state`]: one job further. The bits below [`OPEN`] count the workers inside.
const EPOCH: u64 = 1 << 32;

/// A fixed number of threads, the calling one included, that work through numbered tasks together.
///
/// [`Pool::run`] may be called from several threads, and from within a task: whoever finds the pool busy does its tasks alone,
/// so callers never wait for each other.
pub struct Pool {
    shared: Arc<PoolShared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

struct PoolShared {
    /// Epoch of the job in the high half, then [`OPEN`], then the number of workers inside.
    state: AtomicU64,
    job: UnsafeCell<Job>,
    /// The tasks left to each thread, the caller's first.
    stretches: Vec<Stretch>,
    stop: AtomicBool,
    sleeping: Vec<AtomicBool>,
    /// How long a worker looks for the next job before it parks.
    spin: Duration,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(Range<usize>) + Sync),
}

/// Consecutive tasks: the first in the low half, the one behind the last in the high half. On a cache line of its own.
#[repr(align(64))]
struct Stretch(AtomicU64);

impl Stretch {
    /// Replaces the tasks.
    fn fill(&self, tasks: Range<usize>) {
        self.0.store(tasks.start as u64 | (tasks.end as u64) << 32, Relaxed);
    }

    /// Takes a quarter of the tasks, at least one: the first ones, or the last.
    fn take(&self, last: bool) -> Option<Range<usize>> {
        let mut tasks = self.0.load(Relaxed);
        loop {
            let (start, end) = (tasks & u64::from(u32::MAX), tasks >> 32);
            if start >= end {
                return None;
            }
            let count = ((end - start) / 4).max(1);
            let (taken, rest) =
                if last { (end - count..end, tasks - (count << 32)) } else { (start..start + count, tasks + count) };
            match self.0.compare_exchange_weak(tasks, rest, Relaxed, Relaxed) {
                Ok(_) => return Some(taken.start as usize..taken.end as usize),
                Err(now) => tasks = now,
            }
        }
    }
}

// SAFETY: `job` is written only by the thread that holds `Pool::busy`, while the state is closed and nobody is inside; it is read
// only by threads inside. The body is `Sync`.
unsafe impl Sync for PoolShared {}
// SAFETY: `job` is shared as said of `Sync`; the pointer in it is followed only while the caller of `run` keeps the body alive.
unsafe impl Send for PoolShared {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads, at least one; the calling thread is one of them, so that 1 spawns nothing.
    ///
    /// If the system refuses a thread, the pool is smaller.
    pub fn new(threads: usize) -> Pool {
        let helpers = threads.clamp(1, MOST_THREADS) - 1;
        let shared = Arc::new(PoolShared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { body: &|_: Range<usize>| () }),
            stretches: (0..=helpers).map(|_| Stretch(AtomicU64::new(0))).collect(),
            stop: AtomicBool::new(false),
            sleeping: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            // Threads that have no processor of their own take it from those that work.
            spin: if std::thread::available_parallelism().is_ok_and(|all| helpers < all.get()) { SPIN } else { Duration::ZERO },
            panic: Mutex::new(None),
        });
        let spawn = |index: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("tallow-{}", index + 1)).spawn(move || shared.worker(index)).ok()
        };
        let workers = (0..helpers).map_while(spawn).collect();
        Pool { shared, workers, busy: AtomicBool::new(false) }
    }

    /// How many threads work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body(row, values)` for each row of `width` values of `data`, each exactly once, on all threads.
    pub fn each_row<T: Send>(&self, data: &mut [T], width: usize, body: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let rows = data.len() / width.max(1);
        let parts = rows.min(4 * self.threads());
        let data = Parts::new(data);
        self.run(parts, &|part| {
            let (from, to) = (rows * part / parts, rows * (part + 1) / parts);
            // SAFETY: the parts of the rows do not overlap, and each is handed out once.
            let rows = unsafe { data.part(from * width..to * width) };
            rows.chunks_exact_mut(width).enumerate().for_each(|(i, row)| body(from + i, row));
        });
    }

    /// Calls `body` once with every number below `tasks`, on all threads, in no particular order; returns when all are done.
    ///
    /// # Panics
    /// When a task panics, the remaining ones may be left out, and the panic goes on in the caller.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        self.run_together(tasks, &|tasks| tasks.for_each(body));
    }

    /// Calls `body` with ranges that together are `0..tasks`: as [`Pool::run`], for tasks that are cheaper when one does several.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_together(&self, tasks: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 || tasks >= u32::MAX as usize || self.busy.swap(true, Acquire) {
            return body(0..tasks);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The pointer is followed by threads inside the job alone, and `close` below returns
        // when nobody is inside any more, before `body` can end.
        let body: &'static (dyn Fn(Range<usize>) + Sync) = unsafe { std::mem::transmute(body) };
        // SAFETY: the last job is closed and empty, and `busy` keeps other callers out.
        unsafe { *shared.job.get() = Job { body } };
        let threads = self.threads();
        let starts = |thread: usize| tasks * thread / threads;
        shared
            .stretches
            .iter()
            .enumerate()
            .for_each(|(i, stretch)| stretch.fill(starts(i).min(tasks)..starts(i + 1).min(tasks)));
        let epoch = (shared.state.load(Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        shared.state.store(epoch | OPEN, SeqCst);
        self.wake();

        shared.work(Job { body }, 0);

        shared.close();
        let panic = shared.panic.lock().map_or(None, |mut slot| slot.take());
        self.busy.store(false, Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    fn wake(&self) {
        for (worker, sleeping) in self.workers.iter().zip(&self.shared.sleeping) {
            if sleeping.load(SeqCst) && sleeping.swap(false, SeqCst) {
                Thread::unpark(worker.thread());
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its tasks' panics, so there is nothing to learn from the result.
            let _ = worker.join();
        }
    }
}

impl PoolShared {
    fn worker(&self, index: usize) {
        let mut done = 0;
        while let Some(epoch) = self.enter(index, done) {
            done = epoch;
            // SAFETY: we are inside, so the caller that wrote the job waits for us.
            let job = unsafe { *self.job.get() };
            self.work(job, index + 1);
            self.state.fetch_sub(1, Release);
        }
    }

    /// Waits for an open job other than `done`, enters it and returns its epoch; `None` when the pool ends.
    fn enter(&self, index: usize, done: u64) -> Option<u64> {
        let mut since = Instant::now();
        for turn in 1u32.. {
            if self.stop.load(Relaxed) {
                return None;
            }
            let state = self.state.load(Acquire);
            let epoch = state & !(EPOCH - 1);
            if state & OPEN != 0 && epoch != done {
                if self.state.compare_exchange(state, state + 1, Acquire, Relaxed).is_ok() {
                    return Some(epoch);
                }
                continue;
            }
            std::hint::spin_loop();
            if turn % 64 == 0 && since.elapsed() > self.spin {
                self.park(index, done);
                since = Instant::now();
            }
        }
        None
    }

    /// Sleeps until somebody wakes this worker. The flag is set before the state is read again, and a caller publishes the state
    /// before it reads the flag, so that one of the two sees the other.
    fn park(&self, index: usize, done: u64) {
        self.sleeping[index].store(true, SeqCst);
        let state = self.state.load(SeqCst);
        let waiting = state & OPEN == 0 || state & !(EPOCH - 1) == done;
        if waiting && !self.stop.load(SeqCst) {
            std::thread::park();
        }
        self.sleeping[index].store(false, SeqCst);
    }

    /// Does the tasks of `thread`, then those that others have not come to.
    fn work(&self, job: Job, thread: usize) {
        // SAFETY: the caller of `run` keeps the body alive until nobody is inside.
        let body = unsafe { &*job.body };
        let others = (1..self.stretches.len()).map(|i| (thread + i) % self.stretches.len());
        for (victim, last) in std::iter::once((thread, false)).chain(others.map(|other| (other, true))) {
            while let Some(tasks) = self.stretches[victim].take(last) {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(tasks))) {
                    self.stretches.iter().for_each(|stretch| stretch.fill(0..0));
                    // The first is thrown on. To drop another one here could panic once more, outside of any catch.
                    match self.panic.lock() {
                        Ok(mut slot) if slot.is_none() => *slot = Some(payload),
                        Ok(_) | Err(_) => std::mem::forget(payload),
                    }
                }
            }
        }
    }

    /// Lets nobody in any more, and returns when all have left.
    fn close(&self) {
        self.state.fetch_and(!OPEN, AcqRel);
        let mut turn = 0;
        while self.state.load(Acquire) & (OPEN - 1) != 0 {
            turn += 1;
            if turn < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn count(pool: &Pool, tasks: usize) -> usize {
        let sum = AtomicUsize::new(0);
        pool.run(tasks, &|task| {
            sum.fetch_add(task + 1, Relaxed);
        });
        sum.into_inner()
    }

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [0, 1, 2, 3, 8] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 7, 1000] {
                for _ in 0..20 {
                    assert_eq!(count(&pool, tasks), tasks * (tasks + 1) / 2);
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for bad in [0, 5, 63] {
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(64, &|task| assert!(task != bad, "task {bad} fails"))));
            let message = *result.expect_err("the panic must come through").downcast::<String>().unwrap();
            assert_eq!(message, format!("task {bad} fails"));
            assert_eq!(count(&pool, 100), 5050);
        }
    }

    #[test]
    fn callers_from_many_threads_and_from_within_tasks_do_not_block_each_other() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| assert_eq!(count(&pool, 10), 55)));
            }
        });
        let sum = AtomicUsize::new(0);
        pool.run(8, &|_| {
            sum.fetch_add(count(&pool, 10), Relaxed);
        });
        assert_eq!(sum.into_inner(), 8 * 55);
    }

    #[test]
    fn parked_workers_wake_up_for_the_next_job() {
        let pool = Pool::new(2);
        while !pool.shared.sleeping[0].load(SeqCst) {
            std::thread::yield_now();
        }
        let seen = Mutex::new(std::collections::HashSet::new());
        // Each task waits until both threads have one, so this ends only if the worker wakes.
        pool.run(2, &|_| {
            seen.lock().unwrap().insert(std::thread::current().id());
            while seen.lock().unwrap().len() < 2 {
                std::thread::yield_now();
            }
        });
    }
}
