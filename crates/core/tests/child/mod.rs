//! Other processes for the tests: the test binary started again, steered through a small shared mapping.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::Arc;
use std::time::{Duration, Instant};

use otel_perf_core::mapping::Mapping;

use crate::fixture::{until, Directory};

/// Names the task of a started child; a test binary without it runs its tests.
const TASK: &str = "OTEL_PERF_TEST_TASK";
const SEGMENT: &str = "OTEL_PERF_TEST_SEGMENT";
const BOARD: &str = "OTEL_PERF_TEST_BOARD";
const NUMBER: &str = "OTEL_PERF_TEST_NUMBER";

/// Words that parent and children share; what a killed child wrote stays.
#[derive(Clone)]
pub struct Board {
    mapping: Arc<Mapping>,
    path: PathBuf,
}

impl Board {
    pub fn create(directory: &Directory) -> Board {
        let path = directory.path().join("board");
        let mapping = Mapping::create(&path, 4096).unwrap().publish(&path).unwrap();
        Board { mapping, path }
    }

    /// The word `number` of 512.
    pub fn word(&self, number: usize) -> &AtomicU64 {
        self.mapping.region().u64(8 * number).unwrap()
    }

    pub fn get(&self, number: usize) -> u64 {
        self.word(number).load(Acquire)
    }

    pub fn set(&self, number: usize, value: u64) {
        self.word(number).store(value, Release);
    }
}

/// Word by which the parent tells all children to end.
pub const STOP: usize = 511;
/// First word of the children's progress.
pub const PROGRESS: usize = 0;
/// First word of the children's answers.
pub const ANSWER: usize = 128;

/// What a started child is told.
pub struct Task {
    pub name: String,
    pub segment: PathBuf,
    pub board: Board,
    pub number: usize,
}

impl Task {
    /// The task of this process, if it was started as a child.
    pub fn given() -> Option<Task> {
        let name = std::env::var(TASK).ok()?;
        let path = PathBuf::from(std::env::var_os(BOARD)?);
        Some(Task {
            name,
            segment: PathBuf::from(std::env::var_os(SEGMENT)?),
            board: Board {
                mapping: Mapping::attach(&path).ok()?,
                path,
            },
            number: std::env::var(NUMBER).ok()?.parse().ok()?,
        })
    }

    /// Calls `step` with 1, 2, ... until the parent says stop, and notes after each call how far it came.
    pub fn work(&self, mut step: impl FnMut(u64)) {
        let deadline = Instant::now() + Duration::from_secs(30);
        for progress in 1.. {
            step(progress);
            self.board.set(PROGRESS + self.number, progress);
            if self.board.get(STOP) != 0 || (progress % 1024 == 0 && Instant::now() > deadline) {
                return;
            }
        }
    }

    /// Says that the child is where its task wants it, and waits for the end, which is usually a violent one.
    pub fn wait_for_the_end(&self) {
        self.board.set(PROGRESS + self.number, 1);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.board.get(STOP) == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A child process; killed when dropped.
pub struct Worker {
    child: Child,
    board: Board,
    number: usize,
}

impl Worker {
    /// Starts this test binary again to run only its test `child`, which does the task `name`.
    pub fn start(name: &str, segment: &Path, board: &Board, number: usize) -> Worker {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(TASK, name)
            .env(SEGMENT, segment)
            .env(BOARD, &board.path)
            .env(NUMBER, number.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Worker {
            child,
            board: board.clone(),
            number,
        }
    }

    /// As [`Worker::start`], and waits until the child noted some progress.
    pub fn started(name: &str, segment: &Path, board: &Board, number: usize) -> Worker {
        let worker = Worker::start(name, segment, board, number);
        until("the child works", || board.get(PROGRESS + number) > 0);
        worker
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn progress(&self) -> u64 {
        self.board.get(PROGRESS + self.number)
    }

    pub fn answer(&self) -> u64 {
        self.board.get(ANSWER + self.number)
    }

    /// Kills the child as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the child has ended by itself, without a failure.
    pub fn join(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
