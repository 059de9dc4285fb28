//! Several processes record into one segment, and some of them are killed while they do.

mod child;
mod fixture;

use std::sync::Arc;

use child::{Board, Task, Worker, ANSWER, STOP};
use fixture::{named_segment, until, Directory, Instrument};
use otel_perf_core::clock::monotonic_ns;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::WORKERS;
use otel_perf_core::scan::Scan;
use otel_perf_core::segment::Segment;

/// The instruments that parent and children use.
struct Instruments {
    requests: Instrument,
    seconds: Instrument,
    sizes: Instrument,
    in_flight: Instrument,
    temperature: Instrument,
    cpu: Instrument,
}

impl Instruments {
    fn of(segment: &Arc<Segment>) -> Instruments {
        Instruments {
            requests: Instrument::new(segment, Kind::Counter, "requests", "{request}"),
            seconds: Instrument::new(segment, Kind::Counter, "seconds", "s"),
            sizes: Instrument::new(segment, Kind::Histogram, "sizes", "By"),
            in_flight: Instrument::new(segment, Kind::UpDownCounter, "in_flight", "{request}"),
            temperature: Instrument::new(segment, Kind::Gauge, "temperature", "Cel"),
            cpu: Instrument::new(segment, Kind::ObservableCounter, "cpu", "s"),
        }
    }
}

/// What a started child does; as a test without a task it does nothing.
#[test]
fn child() {
    let Some(task) = Task::given() else { return };
    let segment = Arc::new(Segment::attach(&task.segment).unwrap());
    if task.name.ends_with("serialised") {
        segment.set_serialised();
    }
    let of = Instruments::of(&segment);
    match task.name.split(' ').next().unwrap() {
        "record" => {
            let own = of.requests.series(&format!("worker {}", task.number));
            let (shared, seconds, sizes) = (
                of.requests.series("all"),
                of.seconds.series("all"),
                of.sizes.series("all"),
            );
            task.work(|step| {
                own.add(Number::Int(1));
                shared.add(Number::Int(1));
                seconds.add(Number::Float(0.5));
                sizes.record(Number::Int((step % 1000) as i64));
            });
        }
        "hold" => {
            of.requests.series("all").add(Number::Int(1));
            of.in_flight.series("all").add(Number::Int(5));
            of.temperature.series("all").set(Number::Int(task.number as i64));
            of.cpu.series("all").set(Number::Int(100));
            task.board.set(ANSWER + task.number, segment.lane() as u64);
            task.wait_for_the_end();
        }
        "lead" => {
            segment.lane();
            task.board.set(ANSWER + task.number, u64::from(segment.lead()));
            task.wait_for_the_end();
        }
        "observe" => {
            segment.observe();
            of.requests.series("all").add(Number::Int(1));
            task.board.set(ANSWER + task.number, segment.lane() as u64);
            task.wait_for_the_end();
        }
        "insert" => task.work(|step| {
            let label = format!("{}", step % 3_000);
            let series = of.requests.series_of(&fixture::labelled(&label));
            series
                .unwrap_or_else(|_| Arc::clone(&of.requests.overflow))
                .add(Number::Int(1));
        }),
        unknown => panic!("no task is called {unknown:?}"),
    }
    segment.close();
}

struct Group {
    segment: Arc<Segment>,
    of: Instruments,
    board: Board,
    // Last, because the files must outlive the children.
    _directory: Directory,
}

impl Group {
    fn new() -> Group {
        let directory = Directory::new();
        let segment = named_segment(&directory, 1 << 20);
        Group {
            of: Instruments::of(&segment),
            board: Board::create(&directory),
            segment,
            _directory: directory,
        }
    }

    fn start(&self, task: &str, number: usize) -> Worker {
        Worker::started(task, self.segment.path().unwrap(), &self.board, number)
    }

    fn alive(&self) -> Vec<u32> {
        self.segment.alive().into_iter().map(|worker| worker.pid).collect()
    }
}

fn int(number: Option<Number>) -> u64 {
    match number {
        Some(Number::Int(number)) => number as u64,
        other => panic!("no integer: {other:?}"),
    }
}

/// Lets four children record, kills two of them in the middle of it, and compares what the segment holds with how far each came.
fn kill_two_of_four(task: &str) {
    let group = Group::new();
    let mut workers: Vec<_> = (0..4).map(|number| group.start(task, number)).collect();
    until("all come to work", || {
        workers.iter().all(|worker| worker.progress() > 20_000)
    });
    for (number, worker) in workers.drain(..2).enumerate() {
        worker.kill();
        let (reported, counted) = (
            group.board.get(number),
            int(group.of.requests.number(&format!("worker {number}"))),
        );
        // It may have been killed between its recording and its report.
        assert!(
            counted == reported || counted == reported + 1,
            "{counted} instead of {reported}"
        );
    }
    group.board.set(STOP, 1);
    workers.into_iter().for_each(Worker::join);
    for number in 2..4 {
        let (reported, counted) = (
            group.board.get(number),
            int(group.of.requests.number(&format!("worker {number}"))),
        );
        assert_eq!(counted, reported);
    }
    let reported: u64 = (0..4).map(|number| group.board.get(number)).sum();
    let bounds = reported..=reported + 2;
    let requests = int(group.of.requests.number("all"));
    assert!(bounds.contains(&requests), "{requests} not in {bounds:?}");
    let Some(Number::Float(seconds)) = group.of.seconds.number("all") else {
        panic!("the seconds are no float");
    };
    assert!(
        bounds.contains(&((2.0 * seconds) as u64)),
        "{seconds} not half of {bounds:?}"
    );
    let sizes = group.of.sizes.distribution("all");
    assert!(bounds.contains(&sizes.count()), "{} not in {bounds:?}", sizes.count());
    assert_eq!((sizes.min(), sizes.max()), (0.0, 999.0));
}

#[test]
fn killed_workers_lose_nothing_that_they_had_recorded() {
    kill_two_of_four("record");
}

#[test]
fn killed_workers_that_record_without_locked_instructions_lose_nothing_either() {
    kill_two_of_four("record serialised");
}

#[test]
fn processes_that_insert_the_same_series_at_once_count_together() {
    let group = Group::new();
    let workers: Vec<_> = (0..3).map(|number| group.start("insert", number)).collect();
    until("all come to work", || {
        workers.iter().all(|worker| worker.progress() > 10_000)
    });
    group.board.set(STOP, 1);
    workers.into_iter().for_each(Worker::join);
    let reported: u64 = (0..3).map(|number| group.board.get(number)).sum();
    let numbers = group.of.requests.numbers();
    assert_eq!(numbers.values().map(|number| int(Some(*number))).sum::<u64>(), reported);
    let labels = numbers
        .keys()
        .filter_map(|bytes| fixture::label_of(bytes)?.parse::<u64>().ok());
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable();
    labels.dedup();
    // Every attribute set has one series, and the overflow series is the only one besides.
    assert_eq!(labels.len() + 1, numbers.len());
}

#[test]
fn what_a_killed_worker_counted_stays_and_what_it_held_goes() {
    let group = Group::new();
    let worker = group.start("hold", 7);
    assert_eq!(group.of.in_flight.number("all"), Some(Number::Int(5)));
    assert_eq!(group.of.temperature.number("all"), Some(Number::Int(7)));
    worker.kill();
    assert_eq!(group.of.requests.number("all"), Some(Number::Int(1)));
    assert_eq!(group.of.cpu.number("all"), Some(Number::Int(100)));
    assert_eq!(group.of.in_flight.number("all"), Some(Number::Int(0)));
    assert_eq!(group.of.temperature.number("all"), None);
}

#[test]
fn the_next_owner_of_a_slot_goes_on_counting_and_starts_with_nothing_held() {
    let group = Group::new();
    let first = group.start("hold", 1);
    let lane = first.answer();
    first.kill();
    let second = group.start("hold", 2);
    assert_eq!(second.answer(), lane);
    assert_eq!(group.of.requests.number("all"), Some(Number::Int(2)));
    assert_eq!(group.of.in_flight.number("all"), Some(Number::Int(5)));
    assert_eq!(group.of.temperature.number("all"), Some(Number::Int(2)));
}

#[test]
fn totals_that_callbacks_of_a_dead_worker_reported_stay_when_its_slot_is_taken_again() {
    let group = Group::new();
    let first = group.start("hold", 1);
    first.kill();
    assert_eq!(group.of.cpu.number("all"), Some(Number::Int(100)));
    let _second = group.start("hold", 2);
    // A monotonic sum of the group: it must not fall because a worker was replaced.
    assert_eq!(group.of.cpu.number("all"), Some(Number::Int(200)));
}

#[test]
fn recordings_after_close_take_nothing_from_the_next_owner_of_the_slot() {
    let group = Group::new();
    group.segment.set_serialised();
    let requests = group.of.requests.series("all");
    requests.add(Number::Int(1));
    // It keeps the file when this process closes.
    let other = group.start("hold", 2);
    group.segment.close();
    let worker = group.start("record serialised", 1);
    let mut own = 1;
    while worker.progress() < fixture::scaled(1_000_000) as u64 {
        requests.add(Number::Int(1));
        own += 1;
    }
    group.board.set(STOP, 1);
    worker.join();
    other.join();
    assert_eq!(int(group.of.requests.number("all")), own + 1 + group.board.get(1));
}

#[test]
fn workers_are_listed_while_they_live() {
    let group = Group::new();
    group.of.requests.series("all").add(Number::Int(1));
    assert_eq!(group.alive(), [std::process::id()]);
    let workers = [1, 2].map(|number| group.start("hold", number));
    let mut expected = vec![std::process::id()];
    expected.extend(workers.iter().map(Worker::pid));
    let mut alive = group.alive();
    alive.sort_unstable();
    expected.sort_unstable();
    assert_eq!(alive, expected);
    let [first, second] = workers;
    let survivor = second.pid();
    first.kill();
    let mut alive = group.alive();
    alive.retain(|pid| *pid != std::process::id());
    assert_eq!(alive, [survivor]);
}

#[test]
fn every_slot_can_be_taken_again_after_its_workers_were_killed() {
    let group = Group::new();
    let mut lanes = Vec::new();
    for round in 0..5 {
        let workers: Vec<_> = (0..3).map(|number| group.start("hold", 10 * round + number)).collect();
        let mut of_round: Vec<_> = workers.iter().map(Worker::answer).collect();
        of_round.sort_unstable();
        lanes.push(of_round);
        workers.into_iter().for_each(Worker::kill);
    }
    assert!(lanes.iter().all(|of_round| *of_round == lanes[0]), "{lanes:?}");
    assert!(lanes[0].iter().all(|lane| (1..WORKERS as u64).contains(lane)));
    assert_eq!(group.of.requests.number("all"), Some(Number::Int(15)));
}

#[test]
fn leadership_passes_on_when_the_leader_is_killed() {
    let group = Group::new();
    let first = group.start("lead", 1);
    assert_eq!(first.answer(), 1);
    let second = group.start("lead", 2);
    assert_eq!(second.answer(), 0);
    assert!(!group.segment.lead());
    first.kill();
    assert!(group.segment.lead() && group.segment.lead());
    let third = group.start("lead", 3);
    assert_eq!(third.answer(), 0);
    group.segment.close();
    let fourth = group.start("lead", 4);
    assert_eq!(fourth.answer(), 1);
}

#[test]
fn an_observer_records_and_is_no_worker() {
    let group = Group::new();
    assert!(!group.segment.workers().is_observed(group.segment.lane()));
    let worker = group.start("hold", 1);
    let observer = group.start("observe", 2);
    // Far from the lanes of workers, which it must not clear.
    assert_eq!(observer.answer(), WORKERS as u64 - 2);
    assert_eq!(group.alive(), [std::process::id(), worker.pid()]);
    assert_eq!(group.segment.others(), [worker.answer() as usize]);
    assert_eq!(group.of.requests.number("all"), Some(Number::Int(2)));
    assert!(group.segment.workers().is_observed(group.segment.lane()));
    observer.kill();
    assert!(!group.segment.workers().is_observed(group.segment.lane()));
    assert_eq!(group.of.requests.number("all"), Some(Number::Int(2)));
}

#[test]
fn what_a_killed_worker_held_counts_for_who_mourns_it() {
    let group = Group::new();
    let [first, second] = [7, 8].map(|number| group.start("hold", number));
    let lane = second.answer() as usize;
    first.kill();
    second.kill();
    group.segment.mourn(&[lane, WORKERS, usize::MAX]);
    assert_eq!(group.of.in_flight.number("all"), Some(Number::Int(5)));
    assert_eq!(group.of.temperature.number("all"), Some(Number::Int(8)));
    group.segment.mourn(&[]);
    assert_eq!(group.of.temperature.number("all"), None);
}

#[test]
fn the_segment_tells_who_left_from_who_was_killed() {
    let group = Group::new();
    let [killed, left] = [1, 2].map(|number| group.start("hold", number));
    let lanes = [killed.answer() as usize, left.answer() as usize];
    let has_left = || lanes.map(|lane| group.segment.workers().has_left(lane));
    assert_eq!(has_left(), [false, false]);
    killed.kill();
    group.board.set(STOP, 1);
    left.join();
    assert_eq!(has_left(), [false, true]);
}

#[test]
fn what_a_worker_has_not_reported_again_no_longer_counts() {
    let group = Group::new();
    let worker = group.start("hold", 1);
    let lane = worker.answer() as usize;
    let now = monotonic_ns();
    let read = |since_ns| {
        let mut scan = Scan::new(&group.segment);
        let cpu = scan.series().find(|series| {
            let descriptor = group.segment.tables().descriptor(series.stream);
            descriptor.is_some_and(|found| found.name == "cpu")
        });
        cpu.and_then(|series| scan.read(&series, since_ns)).is_some()
    };
    assert!(read(now));
    group.segment.workers().report(lane, now);
    assert!(!read(now));
    // Who asks for whatever was reported ever gets it.
    assert!(read(0));
    // What it reports while somebody collects counts.
    assert!(read(1));
}

#[test]
fn a_file_that_is_kept_outlives_its_last_worker() {
    let group = Group::new();
    let path = group.segment.path().unwrap().to_path_buf();
    group.segment.lane();
    group.segment.keep_file(true);
    group.segment.close();
    assert!(path.exists());
    let observer = Segment::attach(&path).unwrap();
    observer.keep_file(false);
    observer.observe();
    observer.close();
    assert!(!path.exists());
}
