//! Errors of creating and attaching a segment: configuration time only, recording has none.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a segment could not be created or attached.
#[derive(Debug)]
pub enum SegmentError {
    /// The requested size is outside the accepted range.
    Size {
        /// Bytes asked for.
        requested: u64,
        /// Smallest accepted size in bytes.
        minimum: u64,
        /// Largest accepted size in bytes.
        maximum: u64,
    },
    /// A system call failed.
    System {
        /// What was being done.
        action: &'static str,
        /// The file, if a named one was involved.
        path: Option<PathBuf>,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The file is not a segment that this build can use.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentError::Size {
                requested,
                minimum,
                maximum,
            } => write!(
                f,
                "a segment of {requested} bytes is not possible: accepted are {minimum} to {maximum} bytes \
                 (OTEL_PERF_MEMORY_LIMIT)"
            ),
            SegmentError::System { action, path, source } => match path {
                Some(path) => write!(f, "{action} {} failed: {source}", path.display()),
                None => write!(f, "{action} failed: {source}"),
            },
            SegmentError::Invalid { path, problem } => write!(
                f,
                "{} is not a usable otel_perf segment: {problem}; remove the file or unset OTEL_PERF_SEGMENT",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SegmentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SegmentError::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
