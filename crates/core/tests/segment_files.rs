//! Files of segments: found while a process uses them, removed by the last one, reaped when nobody is left.

mod child;
mod fixture;

use std::sync::Arc;
use std::time::Duration;

use child::{Board, Task, Worker, ANSWER, STOP};
use fixture::{named_segment, until, Directory, Instrument};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::MINIMUM_SIZE;
use otel_perf_core::segment::{find_in, reap_in, Segment};

/// What a started child does; as a test without a task it does nothing.
#[test]
fn child() {
    let Some(task) = Task::given() else { return };
    match task.name.as_str() {
        "create" => {
            // The segment is given by its directory here, because the child makes the file.
            let service = format!("service {}", task.number);
            let (segment, _) = Segment::create_in(&task.segment, MINIMUM_SIZE, &service).unwrap();
            segment.lane();
            task.wait_for_the_end();
            segment.close();
        }
        "use" => {
            let segment = Segment::attach(&task.segment).unwrap();
            task.board.set(ANSWER + task.number, segment.lane() as u64);
            task.wait_for_the_end();
            segment.close();
        }
        "forget" => {
            let segment = std::mem::ManuallyDrop::new(Segment::attach(&task.segment).unwrap());
            task.board.set(ANSWER + task.number, segment.lane() as u64);
            task.wait_for_the_end();
        }
        "observe" => {
            let segment = Segment::attach(&task.segment).unwrap();
            let _ = segment.alive();
            segment.close();
            task.wait_for_the_end();
        }
        unknown => panic!("no task is called {unknown:?}"),
    }
}

#[test]
fn a_segment_file_is_private_to_its_user_and_has_its_full_size_allocated() {
    use std::os::unix::fs::MetadataExt;
    let directory = Directory::new();
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let metadata = std::fs::metadata(segment.path().unwrap()).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), MINIMUM_SIZE);
    assert!(metadata.blocks() * 512 >= MINIMUM_SIZE);
    assert_eq!(directory.files(), [segment.path().unwrap()]);
}

#[test]
fn find_lists_the_segments_of_living_processes_newest_first() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let first = Worker::started("create", directory.path(), &board, 1);
    let second = Worker::started("create", directory.path(), &board, 2);
    let found = find_in(directory.path(), None);
    let services: Vec<_> = found
        .iter()
        .map(|path| Segment::attach(path).unwrap().service())
        .collect();
    assert_eq!(services, ["service 2", "service 1"]);
    assert_eq!(find_in(directory.path(), Some("service 1")), found[1..]);
    assert!(find_in(directory.path(), Some("service")).is_empty());
    second.kill();
    assert_eq!(find_in(directory.path(), None), found[1..]);
    first.kill();
    assert!(find_in(directory.path(), None).is_empty());
}

#[test]
fn find_lists_a_segment_of_its_own_process_too() {
    let directory = Directory::new();
    let segment = named_segment(&directory, MINIMUM_SIZE);
    segment.lane();
    assert_eq!(find_in(directory.path(), Some("shop")), [segment.path().unwrap()]);
}

#[test]
fn find_and_reap_leave_files_alone_that_are_no_segments() {
    let directory = Directory::new();
    // SAFETY: `geteuid` has no preconditions.
    let user = unsafe { libc::geteuid() };
    for name in [
        "notes",
        &format!("otel_perf-{user}-1-00000000"),
        &format!("otel_perf-{}-1-00000000", user + 1),
    ] {
        std::fs::write(directory.path().join(name), "no segment").unwrap();
    }
    assert!(find_in(directory.path(), None).is_empty());
    assert_eq!(reap_in(directory.path(), 0), 0);
    assert_eq!(directory.files().len(), 3);
    let nowhere = directory.path().join("nowhere");
    assert!(find_in(&nowhere, None).is_empty());
    assert_eq!(reap_in(&nowhere, 0), 0);
}

#[test]
fn reaping_removes_what_a_killed_process_left_and_nothing_that_is_used() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let killed = Worker::started("create", directory.path(), &board, 1);
    let _alive = Worker::started("create", directory.path(), &board, 2);
    let own = named_segment(&directory, MINIMUM_SIZE);
    own.lane();
    assert_eq!(reap_in(directory.path(), 0), 0);
    killed.kill();
    assert_eq!(
        reap_in(directory.path(), Duration::from_secs(3600).as_nanos() as u64),
        0,
        "it is younger than that"
    );
    assert_eq!(reap_in(directory.path(), 0), 1);
    let mut services: Vec<_> = find_in(directory.path(), None)
        .iter()
        .map(|path| Segment::attach(path).unwrap().service())
        .collect();
    services.sort();
    assert_eq!(services, ["service 2", "shop"]);
}

#[test]
fn the_last_process_that_closes_removes_the_file() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let path = segment.path().unwrap().to_path_buf();
    segment.lane();
    let worker = Worker::started("use", &path, &board, 1);
    segment.close();
    assert!(path.exists(), "a worker still uses it");
    board.set(STOP, 1);
    worker.join();
    assert!(!path.exists());
}

#[test]
fn a_process_that_closes_after_all_others_died_removes_the_file() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let path = segment.path().unwrap().to_path_buf();
    Worker::started("use", &path, &board, 1).kill();
    segment.close();
    assert!(!path.exists());
}

#[test]
fn an_observer_that_closes_leaves_the_file_to_the_workers() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let path = segment.path().unwrap().to_path_buf();
    segment.lane();
    let _observer = Worker::started("observe", &path, &board, 1);
    assert!(path.exists());
}

#[test]
fn closing_one_of_two_handles_of_a_process_leaves_file_slot_and_leadership_to_the_other() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let first = named_segment(&directory, MINIMUM_SIZE);
    let path = first.path().unwrap().to_path_buf();
    let in_flight = Instrument::new(&first, Kind::UpDownCounter, "in_flight", "{request}");
    in_flight.series("one").add(Number::Int(3));
    let second = Segment::attach(&path).unwrap();
    assert_eq!(second.lane(), first.lane());
    second.close();
    drop(second);
    assert!(path.exists(), "the first handle still uses the file");
    // Another process may not get the slot that this one records into.
    let worker = Worker::started("use", &path, &board, 1);
    assert_ne!(worker.answer(), first.lane() as u64);
    assert_eq!(in_flight.number("one"), Some(Number::Int(3)));
}

#[test]
fn opening_a_segment_again_in_the_same_process_does_not_clear_what_is_held() {
    let directory = Directory::new();
    let first = named_segment(&directory, MINIMUM_SIZE);
    let in_flight = Instrument::new(&first, Kind::UpDownCounter, "in_flight", "{request}");
    in_flight.series("one").add(Number::Int(3));
    let again = Arc::new(Segment::attach(first.path().unwrap()).unwrap());
    Instrument::new(&again, Kind::UpDownCounter, "in_flight", "{request}")
        .series("one")
        .add(Number::Int(4));
    assert_eq!(in_flight.number("one"), Some(Number::Int(7)));
}

#[test]
fn closing_one_segment_leaves_alone_what_is_held_in_another() {
    let kept = Arc::new(Segment::private(MINIMUM_SIZE, "kept").unwrap());
    let in_flight = Instrument::new(&kept, Kind::UpDownCounter, "in_flight", "{request}");
    let series = in_flight.series("one");
    series.add(Number::Int(3));
    let lane = kept.lane();
    let closed = Segment::private(MINIMUM_SIZE, "closed").unwrap();
    closed.lane();
    closed.close();
    series.add(Number::Int(4));
    assert_eq!(kept.lane(), lane);
    assert_eq!(in_flight.number("one"), Some(Number::Int(7)));
}

#[test]
fn a_worker_that_is_dropped_removes_the_file_and_an_onlooker_does_not() {
    let directory = Directory::new();
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let path = segment.path().unwrap().to_path_buf();
    drop(segment);
    drop(Segment::attach(&path).unwrap());
    assert!(path.exists(), "nobody has joined");
    let worker = Segment::attach(&path).unwrap();
    worker.lane();
    drop(Segment::attach(&path).unwrap());
    assert!(path.exists(), "the worker still has it");
    drop(worker);
    assert!(!path.exists());
}

#[test]
fn a_process_that_ends_without_closing_removes_the_file() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let path = segment.path().unwrap().to_path_buf();
    let worker = Worker::started("forget", &path, &board, 1);
    drop(segment);
    board.set(STOP, 1);
    worker.join();
    assert!(!path.exists());
}

#[test]
fn a_process_that_closed_may_join_again() {
    let directory = Directory::new();
    let segment = Segment::private(MINIMUM_SIZE, "shop").unwrap();
    let first = segment.lane();
    segment.close();
    assert!(segment.alive().is_empty());
    assert_eq!(segment.lane(), first);
    assert_eq!(segment.alive().len(), 1);
    drop(directory);
}

/// Whether any process holds the lock of this byte, this process included. The descriptor must stay open: closing it would drop
/// the locks that this process has on the file.
fn is_locked(file: &std::fs::File, byte: i64) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: `flock` is a plain C struct for which all-zero bytes are a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the descriptor is open, and the kernel writes its answer into the struct.
    let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(code, 0);
    lock.l_type != libc::F_UNLCK as libc::c_short
}

#[test]
fn a_handle_that_is_dropped_while_another_is_opened_takes_no_lock_with_it() {
    let directory = Directory::new();
    let board = Board::create(&directory);
    let path = named_segment(&directory, MINIMUM_SIZE).path().unwrap().to_path_buf();
    // Without another worker the file would be removed when this process's handle is dropped.
    let _worker = Worker::started("use", &path, &board, 1);
    let probe = std::mem::ManuallyDrop::new(std::fs::File::open(&path).unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // What `find` does now and then.
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(Segment::attach(&path));
                }
            });
        }
        let mut lost = 0;
        for _ in 0..fixture::scaled(5_000) {
            let Ok(segment) = Segment::attach(&path) else {
                lost += 1;
                break;
            };
            let lane = segment.lane() as i64;
            std::thread::yield_now();
            lost += usize::from(!is_locked(&probe, lane));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            lost, 0,
            "times that a process recorded into a slot which it no longer held"
        );
    });
}

#[test]
fn a_segment_goes_on_working_when_its_file_is_removed() {
    let directory = Directory::new();
    let segment = named_segment(&directory, MINIMUM_SIZE);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    std::fs::remove_file(segment.path().unwrap()).unwrap();
    counter.series("one").add(Number::Int(1));
    assert_eq!(counter.number("one"), Some(Number::Int(1)));
    until("the process is listed", || segment.alive().len() == 1);
    segment.close();
}
