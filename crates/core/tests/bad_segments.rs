//! A file that is no usable segment is refused with an error that names the file and the problem.

mod fixture;

use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use fixture::{named_segment, write_segment, Directory, Random};
use otel_perf_core::error::SegmentError;
use otel_perf_core::layout::{header, LAYOUT_VERSION_OFFSET, MAXIMUM_SIZE, MINIMUM_SIZE};
use otel_perf_core::segment::Segment;

/// A file of mode 0600 with these bytes.
fn file(directory: &Directory, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join("segment");
    write_segment(&path, bytes);
    path
}

/// The bytes of a fresh segment.
fn valid_bytes(directory: &Directory) -> Vec<u8> {
    let segment = named_segment(directory, MINIMUM_SIZE);
    let path = segment.path().unwrap().to_path_buf();
    let bytes = std::fs::read(&path).unwrap();
    segment.close();
    bytes
}

/// Checks that attaching fails with a text that names the file and each of the words.
fn assert_refused(path: &Path, words: &[&str]) {
    let Err(error) = Segment::attach(path) else {
        panic!("{} was accepted", path.display());
    };
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "no path in: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn an_untouched_copy_of_a_segment_is_accepted() {
    let directory = Directory::new();
    let path = file(&directory, &valid_bytes(&directory));
    assert_eq!(Segment::attach(&path).unwrap().service(), "shop");
}

#[test]
fn a_missing_file_is_refused() {
    let directory = Directory::new();
    assert_refused(&directory.path().join("nothing"), &["opening", "No such file"]);
}

#[test]
fn a_truncated_file_is_refused() {
    let directory = Directory::new();
    let bytes = valid_bytes(&directory);
    for len in [0, 7, 8, 15, 16, 1023] {
        assert_refused(
            &file(&directory, &bytes[..len]),
            &["truncated", &format!("{len} bytes")],
        );
    }
    for len in [1024, 4096, bytes.len() - 1] {
        assert_refused(
            &file(&directory, &bytes[..len]),
            &["truncated or grown", &bytes.len().to_string()],
        );
    }
}

#[test]
fn a_grown_file_is_refused() {
    let directory = Directory::new();
    let mut bytes = valid_bytes(&directory);
    bytes.extend([0; 4096]);
    assert_refused(
        &file(&directory, &bytes),
        &["truncated or grown", &bytes.len().to_string()],
    );
}

#[test]
fn random_bytes_are_refused() {
    let directory = Directory::new();
    let mut random = Random(1);
    for len in [1024, 100_000, MINIMUM_SIZE as usize] {
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        assert_refused(&file(&directory, &bytes), &["magic number"]);
    }
}

#[test]
fn a_wrong_magic_number_is_refused() {
    let directory = Directory::new();
    let mut bytes = valid_bytes(&directory);
    bytes[header::MAGIC] ^= 1;
    assert_refused(&file(&directory, &bytes), &["magic number"]);
}

#[test]
fn another_layout_version_is_refused_and_both_versions_are_named() {
    let directory = Directory::new();
    let mut bytes = valid_bytes(&directory);
    bytes[LAYOUT_VERSION_OFFSET] = 77;
    assert_refused(&file(&directory, &bytes), &["layout version 77", "uses version"]);
}

#[test]
fn a_header_that_states_another_size_is_refused() {
    let directory = Directory::new();
    let mut bytes = valid_bytes(&directory);
    bytes[header::SIZE..header::SIZE + 8].copy_from_slice(&(MINIMUM_SIZE + 64).to_le_bytes());
    assert_refused(
        &file(&directory, &bytes),
        &[&format!("states {} bytes", MINIMUM_SIZE + 64)],
    );
}

#[test]
fn a_size_outside_the_range_is_refused_although_header_and_file_agree() {
    let directory = Directory::new();
    let mut bytes = valid_bytes(&directory);
    bytes.truncate(4096);
    bytes[header::SIZE..header::SIZE + 8].copy_from_slice(&4096_u64.to_le_bytes());
    assert_refused(
        &file(&directory, &bytes),
        &["4096 bytes", &MINIMUM_SIZE.to_string(), &MAXIMUM_SIZE.to_string()],
    );
}

#[test]
fn a_segment_whose_creator_never_finished_is_refused() {
    let directory = Directory::new();
    let mut bytes = valid_bytes(&directory);
    bytes[header::READY] = 0;
    assert_refused(&file(&directory, &bytes), &["never finished"]);
}

#[test]
fn a_segment_that_other_users_may_open_is_refused() {
    let directory = Directory::new();
    let path = file(&directory, &valid_bytes(&directory));
    for mode in [0o644, 0o660, 0o601] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_refused(&path, &[&format!("mode {mode:o}"), "expected 600"]);
    }
}

#[test]
fn a_segment_of_another_user_is_refused() {
    let directory = Directory::new();
    let path = file(&directory, &valid_bytes(&directory));
    if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
        // Only root can give files away.
        return;
    }
    assert_refused(&path, &["belongs to user 65534"]);
}

#[test]
fn links_directories_and_pipes_are_refused() {
    let directory = Directory::new();
    let target = file(&directory, &valid_bytes(&directory));
    let link = directory.path().join("link");
    symlink(&target, &link).unwrap();
    assert_refused(&link, &["not a regular file"]);
    assert_refused(directory.path(), &["not a regular file"]);
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo")
        .arg("-m600")
        .arg(&pipe)
        .status()
        .unwrap()
        .success());
    assert_refused(&pipe, &["not a regular file"]);
}

#[test]
fn errors_of_a_bad_file_tell_the_remedy() {
    let directory = Directory::new();
    let text = Segment::attach(&file(&directory, &[0; 4096])).unwrap_err().to_string();
    assert!(text.contains("remove the file or unset OTEL_PERF_SEGMENT"), "{text}");
}

#[test]
fn a_size_that_no_segment_can_have_names_the_setting_and_the_range() {
    let directory = Directory::new();
    for size in [0, MINIMUM_SIZE - 1, MAXIMUM_SIZE + 1, u64::MAX] {
        let error = Segment::create_in(directory.path(), size, "shop").unwrap_err();
        let text = error.to_string();
        for word in [size, MINIMUM_SIZE, MAXIMUM_SIZE].map(|bytes| bytes.to_string()) {
            assert!(text.contains(&word), "{text}");
        }
        assert!(text.contains("OTEL_PERF_MEMORY_LIMIT"), "{text}");
    }
    assert!(directory.files().is_empty());
}

#[test]
fn a_directory_that_cannot_be_written_gives_a_private_segment_and_the_reason() {
    let directory = Directory::new();
    let nowhere = directory.path().join("nowhere");
    let (segment, reason) = Segment::create_in(&nowhere, MINIMUM_SIZE, "shop").unwrap();
    assert_eq!((segment.path(), segment.service().as_str()), (None, "shop"));
    let Some(SegmentError::System { path: Some(path), .. }) = reason else {
        panic!("{reason:?}");
    };
    assert!(path.starts_with(&nowhere));
    assert_eq!(segment.region().u32(header::READY).unwrap().load(Relaxed), 1);
}

#[test]
fn a_long_service_name_is_cut_at_a_character_boundary() {
    for name in [
        "x".repeat(255),
        "x".repeat(256),
        format!("{}é", "x".repeat(254)),
        "é".repeat(1000),
    ] {
        let segment = Segment::private(MINIMUM_SIZE, &name).unwrap();
        let kept = segment.service();
        assert!(
            name.starts_with(&kept) && kept.len() <= 255 && kept.len() >= 253.min(name.len()),
            "{kept}"
        );
    }
}
