//! `config/syncline.toml`, broken key by key, as the settings file of a node.

use std::path::{Path, PathBuf};

use syncline::config::{DEFAULT, Error, Mistake, Place, Settings};

/// What is told of settings in a file with `text`; none when they are accepted.
fn told(directory: &Path, text: &str) -> Vec<Mistake> {
    let file = directory.join("syncline.toml");
    std::fs::write(&file, text).expect("it can be written");
    match Settings::load(Some(&file), [], &[]) {
        Ok(_) => Vec::new(),
        Err(Error::Mistakes(mistakes)) => {
            let lines = text.lines().count() + 1;
            for mistake in &mistakes {
                let Place::File { path, line, .. } = &mistake.place else { panic!("{mistake}") };
                assert!(*path == file && (1..=lines).contains(line), "{mistake}");
            }
            mistakes
        }
        Err(error) => panic!("{error}"),
    }
}

fn lines(mistakes: &[Mistake]) -> Vec<usize> {
    let line = |mistake: &Mistake| if let Place::File { line, .. } = mistake.place { line } else { 0 };
    mistakes.iter().map(line).collect()
}

/// Every `key = value` of the file: its line from 1, the key, the value.
fn keys() -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let lines = DEFAULT.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines.filter_map(|(index, line)| line.split_once(" = ").map(|(key, value)| (index + 1, key, value)))
}

fn with_line(line: usize, with: &str) -> String {
    let lines = DEFAULT.lines().enumerate().map(|(index, old)| if index + 1 == line { with } else { old });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_settings_are_right() {
    let directory = tempfile::tempdir().expect("there is room");
    assert_eq!(told(directory.path(), DEFAULT), Vec::new());
    assert_eq!(told(directory.path(), ""), Vec::new(), "every key has a default");
    assert!(keys().count() >= 20);
}

#[test]
fn every_mistake_in_the_settings_is_told_in_its_line() {
    let directory = tempfile::tempdir().expect("there is room");
    let mut untold = Vec::new();
    for (line, key, value) in keys() {
        let meant =
            |with: &str| with == DEFAULT.lines().nth(line - 1).unwrap_or_default() || MEANT.contains(&with);
        for with in broken(key, value).into_iter().filter(|with| !meant(with)) {
            let mistakes = told(directory.path(), &with_line(line, &with));
            if !lines(&mistakes).iter().any(|told| told.abs_diff(line) <= 1) {
                untold.push(format!("{line}: {with}: told in {:?}", lines(&mistakes)));
            }
            for mistake in &mistakes {
                let said = &mistake.text;
                let helps = [
                    "write",
                    "default",
                    "expected",
                    "did you mean",
                    "set ",
                    "this is not TOML",
                    "give",
                    "lower",
                    "at most",
                ];
                assert!(helps.iter().any(|word| said.contains(word)), "no fix for {with}: {mistake}");
            }
        }
    }
    assert!(untold.is_empty(), "{} are not told:\n{}", untold.len(), untold.join("\n"));
}

/// What someone may mean: to keep nothing of what has ended, to stop at once, another kind of Redis, a node without shards, no
/// waiting for a balancer, no warm-up.
const MEANT: [&str; 7] = [
    "ended = \"0s\"",
    "drain_for = \"0s\"",
    "cluster_mode = true",
    "trust_store_durability = true",
    "weight = 0",
    "linger = \"0s\"",
    "warm_up_step = \"0s\"",
];

/// The line of a key, broken in every way that is a mistake whatever the key.
fn broken(key: &str, value: &str) -> Vec<String> {
    let mut all = vec![
        format!("{}x = {value}", &key[..key.len() - 1]),
        format!("{key} = "),
        format!("{key} ={value}{value}x"),
        format!("{key} = {{ oops = 1 }}"),
        format!("{key} = 1.5"),
        format!("{key} = true"),
        format!("{key} = -1"),
        format!("{key} = \"\""),
        format!("{key} = [17]"),
        format!("{key} = {value}\n{key} = {value}"),
        format!("{key} {value}"),
    ];
    if value.starts_with('"') {
        all.extend([
            format!("{key} = {}", value.trim_end_matches('"')),
            format!("{key} = {}", value.trim_matches('"')),
        ]);
    } else if value != "[]" {
        all.extend([
            format!("{key} = \"many\""),
            format!("{key} = 0"),
            format!("{key} = {}", "9".repeat(40)),
        ]);
    }
    let text = value.trim_matches('"');
    if syncline_actors::document::parse_duration(text).is_ok() {
        all.extend(["-5s", "5 parsecs", "5", "1.5h", "soon", "0s"].map(|time| format!("{key} = \"{time}\"")));
    }
    if text.ends_with("iB") {
        all.extend(["-1 MiB", "1 MB", "12", "big", "0 B"].map(|size| format!("{key} = \"{size}\"")));
    }
    all
}

#[test]
fn a_section_that_is_misspelled_or_cut_off_is_told() {
    let directory = tempfile::tempdir().expect("there is room");
    for (index, line) in DEFAULT.lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        for with in
            [line.replacen('[', "[x", 1), line.trim_end_matches(']').to_owned(), format!("{line}\n{line}")]
        {
            let mistakes = told(directory.path(), &with_line(index + 1, &with));
            let near = lines(&mistakes).iter().any(|told| (index..index + 20).contains(told));
            // A section without keys of its own may have any name: nothing is lost.
            let keys = keys().any(|(at, ..)| at > index + 1 && at < index + 8);
            assert!(near || !keys, "{with}: {mistakes:?}");
        }
    }
    let (whole, mut from) = (DEFAULT, 0);
    for line in whole.split_inclusive('\n').filter(|line| !line.starts_with('#')) {
        from = whole[from..].find(line).expect("it is there") + from;
        let cut = from + line.find('=').map_or(0, |at| at + 1);
        if cut > from {
            assert!(!told(directory.path(), &whole[..cut]).is_empty(), "cut in {line}");
        }
    }
}

#[test]
fn a_settings_file_that_is_not_there_is_told_by_name() {
    let gone = PathBuf::from("/nowhere/syncline.toml");
    let error = Settings::load(Some(&gone), [], &[]).expect_err("it is not there").to_string();
    assert!(error.contains("/nowhere/syncline.toml") && error.contains("--config"), "{error}");
}
