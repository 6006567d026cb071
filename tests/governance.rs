//! A node through a year of changes, at the command line: drift that is held and replayed, instances that go to a new version, journals
//! that are run on it before.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const PROCESS: &str = r#"
process: parcel
version: 1
title: Parcel
owner: {team: post, escalate: post-desk}
initial: received
fields: {at: text, weight: number}
messages:
  parcel.seen: {is: event, starts: true, out_of_turn: ignore}
  parcel.drop: {is: command}
effects: {}
states:
  received: {on: {parcel.seen: {set: {at: "data.at", weight: "dec(data.weight)"}, to: moving}}}
  moving:
    always: [{when: "parcel.weight > 30", to: heavy}]
    on: {parcel.drop: {to: dropped}}
    after: {10d: {to: dropped}}
  heavy: {hold: {reason: "'too heavy'"}, on: {retry: {to: dropped}, parcel.drop: {to: dropped}}}
  dropped: {end: cancelled}
"#;

const SOURCE: &str = r#"
source: depot
owner: {team: post, escalate: post-desk}
preset: standard-webhooks
secrets: [{id: current, ref: "env:DEPOT_SECRET"}]
messages:
  seen:
    schemas: {"1": depot/seen.v1.json}
    send:
      - event: parcel.seen
        to: {process: parcel, key: "body.id"}
        map: {at: "body.at", weight: "dec(body.weight)"}
"#;

const SCHEMA: &str = r#"{"type": "object", "required": ["id", "weight"],
  "properties": {"type": {"const": "seen"}, "id": {"type": "string"}, "at": {"type": "string"}, "weight": {"type": "number"}}}"#;

const PLAN: &str = "process: parcel\nfrom: 1\nto: 2\nsame: [moving]\nstay: [received, heavy]\nfields: {note: \"'was at ' + parcel.at\"}\n";

fn second() -> String {
    let text =
        PROCESS.replace("version: 1", "version: 2").replace("weight: number}", "weight: number, note: text}");
    text.replace("weight > 30", "weight > 20").replace("10d", "20d")
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// An integration and a node's data in one directory, and the node while it runs.
struct World {
    directory: tempfile::TempDir,
    node: Option<(Child, String)>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap(), node: None };
        world.write("config/processes/parcel.yaml", PROCESS);
        world.write("config/sources/depot.yaml", SOURCE);
        world.write("config/schemas/depot/seen.v1.json", SCHEMA);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
        command.current_dir(self.directory.path()).args(words).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNCLINE_")) {
            command.env_remove(name);
        }
        command.env("DEPOT_SECRET", SECRET);
        if let Some((_, address)) = &self.node {
            command.env("SYNCLINE_NODE", address);
        }
        command
    }

    fn start(&mut self) {
        let settings =
            ["http.listen=127.0.0.1:0", "log.format=json", "node.data_dir=data", "node.config_dir=config"];
        let mut words = vec!["run"];
        words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut child = self.command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = Vec::new();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let address = serde_json::from_str::<Value>(&line).ok()?["address"].as_str().map(str::to_owned);
            told.push(line);
            address
        });
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("it did not start: {told:?}"));
        self.node = Some((child, format!("http://{address}")));
    }

    fn kill(&mut self) {
        if let Some((mut child, _)) = self.node.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn restart(&mut self) {
        self.kill();
        self.start();
    }

    fn say(&self, words: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    #[track_caller]
    fn json(&self, code: i32, words: &[&str]) -> Value {
        let said = self.say(&[words, &["-o", "json"]].concat());
        assert_eq!(said.code, code, "{words:?}: {}{}", said.out, said.err);
        said.json()
    }

    #[track_caller]
    fn send(&self, id: &str, body: &Value) {
        self.write("body.json", &body.to_string());
        let said = self.say(&["webhook", "send", "--source", "depot", "--body", "body.json", "--id", id]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }

    fn parcel(&self, key: &str, weight: &Value) {
        self.send(&format!("msg_{key}"), &json!({"type": "seen", "id": key, "at": "dock", "weight": weight}));
    }

    fn status(&self, key: &str) -> (u64, String) {
        let entity = self.json(0, &["entity", "get", &format!("parcel/{key}")]);
        (entity["version"].as_u64().unwrap(), entity["status"].as_str().unwrap().to_owned())
    }
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

#[test]
fn drift_is_held_shown_and_replayed_when_the_schema_is_mended() {
    let mut world = World::new();
    world.start();
    world.parcel("A", &json!(3));
    world.parcel("B", &json!("4"));
    world.parcel("C", &json!("5"));
    world.send("msg_D", &json!({"type": "seen", "id": "D", "at": "dock", "weight": 1, "colour": "red"}));

    let report = world.json(0, &["drift", "--source", "depot"]);
    let items: Vec<_> = report["items"].as_array().unwrap().iter().collect();
    let shown = |item: &Value| {
        let text = |key: &str| item[key].as_str().unwrap().to_owned();
        (text("kind"), text("path"), item["count"].clone(), item["held"].clone(), item["waiting"].clone())
    };
    assert_eq!(shown(items[0]), ("new_field".into(), "/colour".into(), json!(1), json!(0), json!(0)));
    assert_eq!(shown(items[1]), ("type_change".into(), "/weight".into(), json!(2), json!(2), json!(2)));
    let mut entities: Vec<_> =
        items[1]["entities"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    entities.sort_unstable();
    assert_eq!(entities, ["parcel/B", "parcel/C"], "whom they were meant for");
    assert_eq!(world.status("D"), (1, "moving".into()), "a new field goes on");
    let table = world.say(&["drift"]);
    assert!(table.out.contains("/weight") && table.out.contains("depot seen"), "{}", table.out);

    let retry = [
        "exceptions",
        "retry",
        "--class",
        "quarantine",
        "--source",
        "depot",
        "--type",
        "seen",
        "--reason",
        "mended",
    ];
    let dry = world.json(0, &[&retry[..], &["--dry-run"]].concat());
    assert_eq!((&dry["matched"], &dry["taken"]), (&json!(2), &json!(0)), "{dry}");
    assert_eq!(dry["found"], json!({"quarantine hold depot seen": 2}));
    let none = ["exceptions", "retry", "--class", "quarantine", "--source", "shop", "--reason", "mended"];
    assert_eq!(world.json(0, &none)["matched"], 0, "of another source");
    let early = world.json(1, &retry);
    assert_eq!((&early["taken"], &early["refused"]), (&json!(0), &json!(2)), "{early}");
    assert!(early["why"][0][1].as_str().unwrap().contains("still not understood"), "{early}");

    world.write(
        "config/schemas/depot/seen.v1.json",
        &SCHEMA.replace(r#""type": "number""#, r#""type": ["number", "string"]"#),
    );
    world.restart();
    let report = world.json(0, &["drift"]);
    assert_eq!(report["items"][0]["waiting"], 2, "what waits outlives the node: {report}");
    let taken = world.json(0, &retry);
    assert_eq!((&taken["taken"], &taken["refused"]), (&json!(2), &json!(0)), "{taken}");
    assert_eq!((world.status("B"), world.status("C")), ((1, "moving".into()), (1, "moving".into())));
    assert_eq!(world.json(0, &retry)["matched"], 0);
}

#[test]
fn instances_go_to_a_new_version_by_an_explicit_mapping() {
    let mut world = World::new();
    world.start();
    for (key, weight) in [("A", 3), ("B", 25), ("C", 40)] {
        world.parcel(key, &json!(weight));
    }
    assert_eq!(world.status("C"), (1, "heavy".into()));
    copied(&world.path("config"), &world.path("new"));
    world.write("new/processes/parcel.v2.yaml", &second());
    world.write("new/migrations/parcel.1-2.yaml", PLAN);

    // Before it is deployed: what would change, for whom, and how would it have gone?
    let diff = world.json(0, &["diff", "config", "new", "--live"]);
    assert_eq!(
        (&diff["breaking"], &diff["changes"][0]["name"]),
        (&json!(false), &json!("parcel 2")),
        "{diff}"
    );
    assert_eq!(diff["changes"][0]["systems"], json!(["depot"]));
    assert_eq!(
        diff["live"]["parcel 1 moving"],
        json!({"count": 2, "ids": ["parcel/A", "parcel/B"]}),
        "{diff}"
    );
    let whatif = world.json(1, &["whatif", "--definitions", "new"]);
    let tally = &whatif["parcel 2"];
    assert_eq!(
        (&tally["run"], &tally["same"], &tally["different"]),
        (&json!(3), &json!(2), &json!(1)),
        "{whatif}"
    );
    assert_eq!(tally["groups"][0]["entities"], json!(["parcel/B"]));
    assert_eq!(tally["groups"][0]["cause"], "`parcel.seen`: in state `moving`, would be in `heavy`");
    assert_eq!(world.json(0, &["whatif", "--definitions", "config"])["parcel 1"]["same"], 3);
    let node = whatif;

    let undeployed = world.json(1, &["migrate", "parcel.1-2", "--config", "new"]);
    assert!(undeployed["stay"].to_string().contains("this node has no version 2"), "{undeployed}");

    world.kill();
    let store = world.json(1, &["whatif", "--definitions", "new", "--store", "data"]);
    assert_eq!(store, node, "a store tells the same as its node");
    let live = world.json(0, &["diff", "config", "new", "--live", "--store", "data"]);
    assert_eq!(live["live"], diff["live"]);
    fs::rename(world.path("config"), world.path("old")).unwrap();
    fs::rename(world.path("new"), world.path("config")).unwrap();
    world.start();

    let dry = world.json(0, &["migrate", "parcel.1-2"]);
    assert_eq!((&dry["applied"], &dry["moved"]), (&json!(false), &json!({"moving → moving": 2})), "{dry}");
    assert_eq!(
        dry["stay"]["the mapping leaves state `heavy` on the old version"]["ids"],
        json!(["parcel/C"])
    );
    assert_eq!(world.status("A"), (1, "moving".into()), "a dry run changes nothing");
    let said = world.say(&["migrate", "parcel.1-2", "--apply"]);
    assert_eq!(said.code, 2, "it wants to know why: {}", said.err);
    let done = world.json(0, &["migrate", "parcel.1-2", "--apply", "--reason", "version 2", "--limit", "1"]);
    assert_eq!(
        (&done["moved"], &done["next"]),
        (&json!({"moving → moving": 1}), &json!("A")),
        "it can be stopped"
    );
    let done = world.json(0, &["migrate", "parcel.1-2", "--apply", "--reason", "version 2"]);
    assert_eq!(
        (&done["moved"], &done["elsewhere"]),
        (&json!({"moving → moving": 1}), &json!(1)),
        "and goes on: {done}"
    );
    assert_eq!((world.status("A"), world.status("B")), ((2, "moving".into()), (2, "moving".into())));
    let entity = world.json(0, &["entity", "get", "parcel/A"]);
    assert_eq!(entity["fields"]["note"], "was at dock");
    assert!(entity["timers"]["moving.20d"].is_string(), "{entity}");
    let timeline = world.json(0, &["entity", "timeline", "parcel/A"]);
    let last = timeline["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["changes"][0], "goes on under version 2 in state moving", "{last}");
    let again = world.json(0, &["migrate", "parcel.1-2", "--apply", "--reason", "once more"]);
    assert_eq!((&again["moved"], &again["elsewhere"]), (&json!({}), &json!(2)), "{again}");

    // The old definition is in no file any more: its instances go on all the same.
    fs::remove_file(world.path("config/processes/parcel.yaml")).unwrap();
    fs::remove_file(world.path("config/migrations/parcel.1-2.yaml")).unwrap();
    world.restart();
    assert_eq!(world.status("C"), (1, "heavy".into()));
    let exceptions = world.json(0, &["exceptions", "list", "--kind", "parcel"]);
    let id = exceptions["items"][0]["id"].as_str().unwrap();
    let outcome = world.json(0, &["exceptions", "retry", id, "--reason", "dropped by hand"]);
    assert_eq!(outcome["status"], "dropped");
    world.parcel("E", &json!(1));
    assert_eq!(world.status("E"), (2, "moving".into()), "new ones begin under the new");
}
