//! The boot counter: which start of a node this is, so that its peers tell the living process from the dead one.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use syncline_actors::time::Timestamp;

use super::Error;

/// Raises the counter in the file at `path`, durably, and returns it. Call it once per start, before anything is sent.
///
/// It is one more than at the last start, or the seconds since 1970 if that is more: so a node that lost its disk still comes
/// after all of its former lives, and a clock that was set back does no harm.
///
/// # Errors
/// [`Error::Boot`] when the file cannot be read or written, [`Error::BootText`] when it holds something else. Nothing is started
/// then: a node with an old counter would be taken for its own ghost.
pub fn next_boot(path: &Path, now: Timestamp) -> Result<u64, Error> {
    let failed = |source| Error::Boot { path: path.to_owned(), source };
    let last = match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_its_text_says_it| Error::BootText {
            path: path.to_owned(),
            text: text.chars().take(40).collect(),
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    let seconds = u64::try_from(now.0 / 1_000).unwrap_or(0);
    let next = seconds.max(u64::saturating_add(last, 1));
    write(path, next).map_err(failed)?;
    Ok(next)
}

/// Replaces the file whole: after a power failure there is the old counter or the new one.
fn write(path: &Path, counter: u64) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{counter}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_larger_counter_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot");
        assert_eq!(next_boot(&path, Timestamp(1_000_000)).unwrap(), 1_000);
        assert_eq!(next_boot(&path, Timestamp(1_000_000)).unwrap(), 1_001);
        assert_eq!(next_boot(&path, Timestamp(0)).unwrap(), 1_002, "the clock was set back");
        assert_eq!(next_boot(&path, Timestamp(-5)).unwrap(), 1_003);
        assert_eq!(next_boot(&path, Timestamp(9_000_000)).unwrap(), 9_000);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "9000\n");
    }

    #[test]
    fn a_node_that_lost_its_disk_comes_after_its_former_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot");
        let before = next_boot(&path, Timestamp(1_000_000)).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(next_boot(&path, Timestamp(1_060_000)).unwrap() > before);
    }

    #[test]
    fn a_counter_that_cannot_be_read_or_kept_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot");
        std::fs::write(&path, "seven").unwrap();
        let error = next_boot(&path, Timestamp(0)).unwrap_err().to_string();
        assert!(error.contains("seven") && error.contains("remove"), "{error}");
        let error = next_boot(&dir.path().join("no/boot"), Timestamp(0)).unwrap_err();
        assert!(matches!(error, Error::Boot { .. }));
    }
}
