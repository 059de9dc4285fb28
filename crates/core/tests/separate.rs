//! Forked workers that record into segments of their own, and workers whose descriptors somebody closes.

mod fixture;
mod forked;

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use fixture::{labelled, named_segment, private_segment, until, Directory, Instrument};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::segment::Segment;

const SIZE: u64 = 1 << 20;

/// The segments of a directory that are not the parent's, when there are so many.
fn others(directory: &Directory, parent: &Segment, number: usize) -> Vec<Arc<Segment>> {
    let mut found: Vec<PathBuf> = Vec::new();
    until("the children have segments of their own", || {
        found = directory.files();
        found.retain(|path| Some(path.as_path()) != parent.path());
        let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
        found.len() == number && !found.iter().any(hidden)
    });
    let attached = found.iter().map(|path| Arc::new(Segment::attach(path).unwrap()));
    attached.collect()
}

#[test]
fn a_separate_child_counts_into_a_segment_of_its_own_which_begins_at_nothing() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, SIZE);
    segment.set_separate(true);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    // Recorded into before there is the next histogram, so that the header of that one lies elsewhere in a segment where nothing was recorded yet.
    let before = Instrument::new(&segment, Kind::Histogram, "duration", "s").series("all");
    (0..1000).for_each(|number| _ = before.record(Number::Int(number)));
    let (requests, sizes) = (counter.series("all"), histogram.series("all"));
    let only_of_the_parent = counter.series("parent");
    for _ in 0..10 {
        requests.add(Number::Int(1));
        only_of_the_parent.add(Number::Int(1));
        sizes.record(Number::Int(1000));
    }
    let children = [1_i64, 2].map(|number| {
        Forked::start(|| {
            for _ in 0..number {
                requests.add(Number::Int(1));
                sizes.record(Number::Int(7));
            }
            counter.series(&format!("child {number}")).add(Number::Int(number));
            wait_for_the_end();
        })
    });
    let mut seen = BTreeMap::new();
    for other in others(&directory, &segment, 2) {
        let requests = Instrument::new(&other, Kind::Counter, "requests", "{request}");
        let sizes = Instrument::new(&other, Kind::Histogram, "size", "By");
        until("the child has recorded", || requests.numbers().len() == 2);
        let number = requests.number("all").unwrap();
        assert_eq!(sizes.distribution("all").count() as f64, number.as_f64());
        assert_eq!(sizes.distribution("all").max(), 7.0);
        assert_eq!(requests.number("parent"), None);
        assert_eq!(other.service(), "shop");
        let own = format!("child {}", number.as_f64());
        assert_eq!(requests.number(&own), Some(number));
        seen.insert(own, number.as_f64());
    }
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [1.0, 2.0]);
    requests.add(Number::Int(1));
    assert_eq!(counter.number("all"), Some(Number::Int(11)));
    assert_eq!(counter.numbers().len(), 2);
    assert_eq!(histogram.distribution("all").count(), 10);
    drop(children);
}

#[test]
fn a_separate_child_leads_its_own_segment_and_its_parent_leads_on() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, SIZE);
    segment.set_separate(true);
    assert!(segment.lead());
    let leads = Instrument::new(&segment, Kind::Counter, "leads", "1");
    let series = leads.series("all");
    let child = Forked::start(|| {
        series.add(Number::Int(i64::from(segment.lead())));
        wait_for_the_end();
    });
    let other = &others(&directory, &segment, 1)[0];
    let of_child = Instrument::new(other, Kind::Counter, "leads", "1");
    until("the child leads", || of_child.number("all") == Some(Number::Int(1)));
    assert!(segment.lead() && !other.lead());
    assert_eq!(
        other.alive().iter().map(|worker| worker.pid).collect::<Vec<_>>(),
        [child.pid()]
    );
    assert!(segment.alive().iter().all(|worker| worker.pid != child.pid()));
}

#[test]
fn a_separate_child_takes_its_file_along_and_leaves_that_of_its_parent() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, SIZE);
    segment.set_separate(true);
    segment.lane();
    Forked::start(|| {
        segment.lane();
        assert_eq!(directory.files().len(), 2);
        segment.close();
    })
    .join();
    assert_eq!(directory.files(), [segment.path().unwrap()]);
}

#[test]
fn a_grandchild_is_separate_from_child_and_parent() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, SIZE);
    segment.set_separate(true);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let requests = counter.series("all");
    requests.add(Number::Int(1));
    let _child = Forked::start(|| {
        requests.add(Number::Int(2));
        let _grandchild = Forked::start(|| {
            requests.add(Number::Int(3));
            wait_for_the_end();
        });
        wait_for_the_end();
    });
    let mut found = Vec::new();
    for other in others(&directory, &segment, 2) {
        let counter = Instrument::new(&other, Kind::Counter, "requests", "{request}");
        until("it has counted", || counter.number("all").is_some());
        found.push(counter.number("all").unwrap().as_f64());
    }
    found.sort_by(f64::total_cmp);
    assert_eq!(found, [2.0, 3.0]);
    assert_eq!(counter.number("all"), Some(Number::Int(1)));
}

#[test]
fn a_separate_child_of_private_memory_has_private_memory_of_its_own() {
    let _alone = alone();
    let segment = private_segment(SIZE);
    segment.set_separate(true);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let requests = counter.series("all");
    requests.add(Number::Int(5));
    Forked::start(|| {
        requests.add(Number::Int(1));
        assert_eq!(counter.number("all"), Some(Number::Int(1)));
        assert!(segment.lead());
    })
    .join();
    assert_eq!(counter.number("all"), Some(Number::Int(5)));
}

#[test]
fn all_series_of_a_full_segment_have_their_numbers_in_that_of_a_separate_child() {
    let _alone = alone();
    let segment = private_segment(128 << 10);
    segment.set_separate(true);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let sizes = Instrument::new(&segment, Kind::Histogram, "sizes", "By");
    let mut all = Vec::new();
    for number in 0..1000 {
        let Ok(series) = counter.series_of(&labelled(&number.to_string())) else {
            break;
        };
        series.add(Number::Int(1));
        all.push(series);
        if let Ok(series) = sizes.series_of(&labelled(&number.to_string())) {
            series.record(Number::Int(number));
        }
    }
    assert!(all.len() > 100, "{}", all.len());
    Forked::start(|| {
        for (number, series) in all.iter().enumerate() {
            series.add(Number::Int(number as i64));
        }
        for number in 0..all.len() {
            assert_eq!(counter.number(&number.to_string()), Some(Number::Int(number as i64)));
        }
    })
    .join();
}

/// Closes the descriptors of this process that are open on a file, as a program does that goes into the background.
fn close_all(path: &std::path::Path) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if std::fs::read_link(entry.path()).is_ok_and(|target| target == path) {
            let number: i32 = entry.file_name().to_string_lossy().parse().unwrap();
            // SAFETY: the test wants what nobody should do: another's descriptor is closed.
            unsafe { libc::close(number) };
        }
    }
}

#[test]
fn a_worker_whose_descriptors_were_closed_takes_its_lane_and_leadership_again() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, SIZE);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let gauge = Instrument::new(&segment, Kind::Gauge, "temperature", "Cel");
    let (requests, temperature) = (counter.series("all"), gauge.series("all"));
    let child = Forked::start(|| {
        temperature.set(Number::Int(21));
        assert!(segment.lead());
        close_all(segment.path().unwrap());
        // Whatever is opened next gets the number of the descriptor.
        let other = std::fs::File::open("/dev/null").unwrap();
        assert!(segment.lead());
        assert!(other.metadata().is_ok(), "{}", other.as_raw_fd());
        requests.add(Number::Int(1));
        wait_for_the_end();
    });
    until("the child leads again", || {
        counter.number("all") == Some(Number::Int(1))
    });
    assert!(!segment.lead());
    assert_eq!(
        segment.alive().iter().map(|worker| worker.pid).collect::<Vec<_>>(),
        [child.pid()]
    );
    assert_eq!(gauge.number("all"), Some(Number::Int(21)));
}

#[test]
fn a_worker_whose_file_is_gone_as_well_leads_alone() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, SIZE);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let requests = counter.series("all");
    Forked::start(|| {
        requests.add(Number::Int(1));
        let path = segment.path().unwrap();
        close_all(path);
        std::fs::remove_file(path).unwrap();
        assert!(segment.lead());
        requests.add(Number::Int(1));
        assert_eq!(counter.number("all"), Some(Number::Int(2)));
    })
    .join();
}
