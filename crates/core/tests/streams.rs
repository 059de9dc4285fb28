//! The streams of an instrument: found again by all that they are, in every process, and each with series and points of its own.

mod child;
mod fixture;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use child::{Board, Task, Worker, ANSWER, STOP};
use fixture::{cumulative_points, descriptor, labelled, named_segment, private_segment, viewed, Directory, Instrument};
use otel_perf_core::attributes::{encode, Value as Attribute};
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::lane::Number;
use otel_perf_core::layout::MINIMUM_SIZE;
use otel_perf_core::local::LocalSeries;
use otel_perf_core::reader::{Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::Segment;
use otel_perf_core::stream::{Aggregation, Storage, Stream};
use otel_perf_core::tables::StreamId;

fn explicit(boundaries: &[f64]) -> Aggregation {
    Aggregation::Explicit {
        boundaries: Some(boundaries.to_vec()),
        record_min_max: true,
    }
}

/// Streams that differ from the first one in one thing each, by the name of that thing.
fn variations() -> Vec<(&'static str, Descriptor)> {
    let first = viewed(Kind::Histogram, "size", "By", 1, explicit(&[1.0, 2.0]));
    let text = |text: &str| Attribute::Text(text.into());
    let attributes = encode(&mut vec![(b"k".to_vec(), text("v"))]);
    let of = |change: &dyn Fn(&mut Descriptor)| {
        let mut changed = first.clone();
        change(&mut changed);
        changed
    };
    vec![
        ("nothing", first.clone()),
        ("kind", of(&|it| it.kind = Kind::Gauge)),
        ("name", of(&|it| it.name = "sizes".into())),
        ("unit", of(&|it| it.unit = "KiBy".into())),
        ("description", of(&|it| it.description = "of all".into())),
        ("scope", of(&|it| it.scope_name = "another".into())),
        ("scope version", of(&|it| it.scope_version = Some(String::new()))),
        ("scope URL", of(&|it| it.scope_schema_url = Some(String::new()))),
        (
            "scope attributes",
            of(&|it| it.scope_attributes.clone_from(&attributes)),
        ),
        ("view", of(&|it| it.stream.view = 2)),
        ("variant", of(&|it| it.stream.variant = 7)),
        ("storage", of(&|it| it.stream.storage = Storage::Sum)),
        ("boundaries", of(&|it| it.stream.aggregation = explicit(&[1.0, 2.5]))),
        ("aggregation", of(&|it| it.stream.aggregation = Aggregation::Default)),
        ("name of the view", of(&|it| it.stream.name = "other".into())),
        (
            "description of the view",
            of(&|it| it.stream.description = "other".into()),
        ),
    ]
}

/// What a started child does; as a test without a task it does nothing.
#[test]
fn child() {
    let Some(task) = Task::given() else { return };
    let segment = Arc::new(Segment::attach(&task.segment).unwrap());
    let reversed = variations().into_iter().enumerate().rev();
    for (number, (_, descriptor)) in reversed {
        let instrument = Instrument::of_stream(&segment, &descriptor, 100, None);
        task.board.set(ANSWER + number, u64::from(instrument.id.0));
        instrument.series("one").write(Number::Int(1));
    }
    task.wait_for_the_end();
    segment.close();
}

/// A second process that attaches finds the same streams and counts into the same series, in whatever order it asks for them.
#[test]
fn processes_find_each_others_streams() {
    let directory = Directory::new();
    let segment = named_segment(&directory, 1 << 20);
    let board = Board::create(&directory);
    let own: Vec<_> = variations()
        .iter()
        .map(|(_, descriptor)| Instrument::of_stream(&segment, descriptor, 100, None))
        .collect();
    let worker = Worker::started("find", segment.path().unwrap(), &board, 1);
    for (number, instrument) in own.iter().enumerate() {
        assert_eq!(board.get(ANSWER + number), u64::from(instrument.id.0));
        instrument.series("one").write(Number::Int(1));
    }
    assert_eq!(segment.tables().stream_count() as usize, own.len());
    for (instrument, (what, _)) in own.iter().zip(variations()) {
        let points = cumulative_points(&segment);
        let of_mine: Vec<_> = points.iter().filter(|point| point.stream == instrument.id).collect();
        match of_mine[..] {
            // No reader takes a storage that is not that of the aggregation, or another reader's cardinality limit.
            [] => assert!(["storage", "variant"].contains(&what), "{what}"),
            [point] => match &point.value {
                Value::Number(number) => assert_eq!(*number, Number::Int(2), "{what}"),
                Value::Distribution(found) => assert_eq!(found.count(), 2, "{what}"),
            },
            _ => panic!("{what} has {} points", of_mine.len()),
        }
    }
    board.set(STOP, 1);
    worker.join();
}

/// An equal stream is the same stream, and one that differs in anything but the advice is another.
#[test]
fn a_stream_is_identified_by_all_but_the_advice() {
    let segment = private_segment(1 << 20);
    let ids: Vec<StreamId> = variations()
        .iter()
        .map(|(_, descriptor)| segment.stream(descriptor, 100).unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    for (id, (what, descriptor)) in ids.iter().zip(variations()) {
        let advised = Descriptor {
            boundaries: Some(vec![5.0]),
            ..descriptor.clone()
        };
        assert_eq!(segment.stream(&advised, 5), Some(*id), "{what}");
        let found = segment.tables().descriptor(*id).unwrap();
        assert_eq!(found, descriptor, "{what}: the first one's advice stays");
        assert_eq!(
            segment.tables().kind(*id),
            Some((descriptor.kind, descriptor.stream.storage)),
            "{what}"
        );
    }
}

/// A stream leaves under the name and the description of its view, or else of its instrument.
#[test]
fn names_and_descriptions_are_those_of_the_view_or_of_the_instrument() {
    let segment = private_segment(MINIMUM_SIZE);
    for (name, description, expected) in [
        ("", "", ("size", "of requests")),
        ("bytes", "", ("bytes", "of requests")),
        ("", "all of them", ("size", "all of them")),
        ("größe", "alle", ("größe", "alle")),
    ] {
        let mut asked = viewed(Kind::Histogram, "size", "By", 1, Aggregation::Default);
        asked.description = "of requests".into();
        asked.stream.name = name.into();
        asked.stream.description = description.into();
        let id = segment.stream(&asked, 100).unwrap();
        let found = segment.tables().descriptor(id).unwrap();
        assert_eq!((found.exported_name(), found.exported_description()), expected);
    }
}

/// A counter with three views, and what each makes of the same recordings.
fn counter_with_views(segment: &Arc<Segment>) -> (Vec<Instrument>, Arc<LocalSeries>) {
    let views = [
        viewed(Kind::Counter, "sent", "By", 1, Aggregation::Sum),
        viewed(Kind::Counter, "sent", "By", 2, explicit(&[10.0, 100.0])),
        viewed(Kind::Counter, "sent", "By", 3, Aggregation::LastValue),
    ];
    let streams: Vec<_> = views
        .iter()
        .map(|view| Instrument::of_stream(segment, view, 100, None))
        .collect();
    let also = streams[1..].iter().map(|stream| stream.series("one")).collect();
    let first = &streams[0];
    let id = segment.tables().series(first.id, &labelled("one"), 1).unwrap();
    let overflow = Some(Arc::clone(&first.overflow));
    let series = LocalSeries::new(segment, &first.stream, id, overflow, also).unwrap();
    (streams, series)
}

/// Every recording of an instrument with several streams is to be followed up, and each stream makes its own point of it.
#[test]
fn one_recording_reaches_all_streams_of_its_instrument() {
    for serialised in [false, true] {
        let segment = private_segment(1 << 20);
        if serialised {
            segment.set_serialised();
        }
        let (streams, series) = counter_with_views(&segment);
        for value in [5, 50, 500] {
            assert!(series.add(Number::Int(value)));
            series
                .also()
                .iter()
                .for_each(|other| _ = other.write(Number::Int(value)));
        }
        let points = cumulative_points(&segment);
        let ids: Vec<_> = points.iter().map(|point| point.stream).collect();
        assert_eq!(ids, streams.iter().map(|stream| stream.id).collect::<Vec<_>>());
        assert!(points
            .iter()
            .all(|point| segment.attribute_bytes(point.series) == Some(labelled("one"))));
        let [Value::Number(sum), Value::Distribution(sizes), Value::Number(last)] =
            [0, 1, 2].map(|at| &points[at].value)
        else {
            panic!("{points:?}");
        };
        assert_eq!((*sum, *last), (Number::Int(555), Number::Int(500)));
        assert_eq!(sizes.explicit(&[10.0, 100.0]), [1, 1, 1]);
    }
}

/// A stream without others whose storage is the instrument's own asks for no follow-up, and one that the caller follows always does.
#[test]
fn only_what_is_not_plain_is_followed_up() {
    let segment = private_segment(1 << 20);
    segment.set_serialised();
    let plain = Instrument::new(&segment, Kind::Counter, "plain", "By").series("one");
    assert!((0..3).all(|_| !plain.add(Number::Int(1))));
    let followed = descriptor(Kind::Counter, "followed", "By");
    let id = segment.stream(&followed, 100).unwrap();
    let stream = otel_perf_core::local::LocalStream::new(id, &followed, None, true);
    let series = segment.tables().series(id, &labelled("one"), 1).unwrap();
    let series = LocalSeries::new(&segment, &stream, series, None, Vec::new()).unwrap();
    assert!((0..3).all(|_| series.add(Number::Int(1))));
    let numbers: Vec<_> = cumulative_points(&segment)
        .into_iter()
        .map(|point| point.value)
        .collect();
    assert!(matches!(
        numbers[..],
        [Value::Number(Number::Int(3)), Value::Number(Number::Int(3))]
    ));
}

/// Streams that leave under one name are all kept and all leave, each with its own numbers, in the order of their creation.
#[test]
fn streams_of_conflicting_names_leave_side_by_side() {
    let segment = private_segment(1 << 20);
    let conflicting = |kind, name: &str, unit: &str, view| {
        let mut asked = viewed(kind, name, unit, view, Aggregation::Sum);
        asked.stream.name = "same".into();
        Instrument::of_stream(&segment, &asked, 100, None)
    };
    let streams = [
        conflicting(Kind::Counter, "a", "By", 1),
        conflicting(Kind::Counter, "b", "By", 1),
        conflicting(Kind::UpDownCounter, "a", "By", 1),
        conflicting(Kind::Counter, "a", "{item}", 1),
        conflicting(Kind::Counter, "a", "By", 2),
    ];
    for (number, stream) in streams.iter().enumerate().rev() {
        stream.series("one").write(Number::Int(1 << number));
    }
    let points = cumulative_points(&segment);
    let numbers: Vec<_> = points
        .iter()
        .map(|point| match point.value {
            Value::Number(Number::Int(number)) => (point.stream, number),
            _ => panic!("{point:?}"),
        })
        .collect();
    let expected = streams
        .iter()
        .enumerate()
        .map(|(number, stream)| (stream.id, 1 << number));
    assert_eq!(numbers, expected.collect::<Vec<_>>());
    let names = points
        .iter()
        .map(|point| segment.tables().descriptor(point.stream).unwrap());
    assert!(names.into_iter().all(|found| found.exported_name() == "same"));
}

/// Of the streams of one view with different storages every reader gets the one that holds what it wants.
#[test]
fn readers_take_the_stream_whose_storage_is_theirs() {
    let segment = private_segment(1 << 20);
    let stored = |storage| Descriptor {
        stream: Stream {
            view: 1,
            storage,
            ..Stream::unviewed(Kind::Counter)
        },
        ..descriptor(Kind::Counter, "sent", "By")
    };
    let streams: HashMap<Storage, Instrument> = [Storage::Sum, Storage::Distribution, Storage::Last]
        .into_iter()
        .map(|storage| (storage, Instrument::of_stream(&segment, &stored(storage), 100, None)))
        .collect();
    for stream in streams.values() {
        stream.series("one").write(Number::Int(30));
    }
    let mut readers = Readers::default();
    for (preferred, storage) in [
        (Aggregation::Default, Some(Storage::Sum)),
        (explicit(&[1.0]), Some(Storage::Distribution)),
        (Aggregation::LastValue, Some(Storage::Last)),
        (Aggregation::Ewma { tau: 1.0 }, Some(Storage::Sum)),
        (Aggregation::Drop, None),
    ] {
        let mut wants = Preferences::of(Temporality::Cumulative);
        wants.aggregation[Kind::Counter as usize - 1] = preferred.clone();
        readers.add(1, Arc::new(wants));
        let found: Vec<_> = readers
            .collect(&segment, 1, 0)
            .iter()
            .map(|point| point.stream)
            .collect();
        let expected: Vec<_> = storage.map(|storage| streams[&storage].id).into_iter().collect();
        assert_eq!(found, expected, "{preferred:?}");
    }
}

/// A descriptor too long for its record is refused and takes no memory.
#[test]
fn a_descriptor_that_is_too_long_is_refused() {
    let segment = private_segment(1 << 20);
    let mut asked = descriptor(Kind::Counter, "long", "By");
    asked.stream.description = "x".repeat(usize::from(u16::MAX));
    let used = segment.used_lines();
    assert_eq!(segment.stream(&asked, 100), None);
    assert_eq!((segment.used_lines(), segment.tables().stream_count()), (used, 0));
    asked.stream.description = "x".repeat(60_000);
    let id = segment.stream(&asked, 100).unwrap();
    assert_eq!(segment.tables().descriptor(id), Some(asked));
}

/// Threads that ask for the same streams at once get the same ones.
#[test]
fn threads_that_insert_the_same_streams_at_once_get_the_same_ones() {
    let segment = private_segment(1 << 20);
    let all = variations();
    let ids: Vec<Vec<StreamId>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| all.iter().map(|(_, it)| segment.stream(it, 100).unwrap()).collect()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|of_thread| *of_thread == ids[0]));
}
