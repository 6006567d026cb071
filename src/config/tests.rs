use super::*;

fn load(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Settings, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let set: Vec<_> = set.iter().map(|text| (*text).to_owned()).collect();
    Settings::load(Some(&path), environment, &set)
}

/// The mistakes as shown, with the file's directory left out.
fn mistakes(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Vec<String> {
    let Err(Error::Mistakes(mistakes)) = load(file, environment, set) else { panic!("it was accepted") };
    mistakes
        .into_iter()
        .map(|mut mistake| {
            if let Place::File { path, .. } = &mut mistake.place {
                *path = PathBuf::from(path.file_name().unwrap());
            }
            mistake.to_string()
        })
        .collect()
}

const TOKENS: &str = r#"[{ name = "ops", role = "operator", token = "env:OPS" }]"#;

#[test]
fn the_default_settings_are_right() {
    let settings = Settings::load(None, [], &[]).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:7171");
    assert_eq!(settings.http.body_max.bytes(), 1 << 20);
    assert_eq!(settings.limits.in_flight_per_entity.get(), 64);
    assert_eq!(settings.limits.residents_max.get(), 50_000);
    assert_eq!(settings.journal_path(), Path::new("data/journal.redb"));
}

#[test]
fn every_key_is_explained_where_it_is_set() {
    let mut lines = Vec::new();
    let mut section = String::new();
    let mut explained = false;
    for line in DEFAULT.lines() {
        let bare = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, _)) = bare.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            assert!(explained, "{section}.{key} has no comment above it");
            lines.push(format!("{section}.{key}"));
        }
        explained = line.starts_with('#');
    }
    for key in layer::keys() {
        assert!(lines.contains(&key.join(".")), "{key:?} does not stand in config/syncline.toml");
    }
}

#[test]
fn each_layer_goes_over_the_one_before() {
    let file = "[node]\nname = \"file\"\n[http]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\"\n";
    let environment = [("SYNCLINE_NODE__NAME", "variable"), ("SYNCLINE_HTTP__LISTEN", "127.0.0.1:2")];
    let settings = load(file, &environment, &["node.name=flag"]).unwrap();
    assert_eq!(settings.node.name, "flag");
    assert_eq!(settings.http.listen.port(), 2);
    assert_eq!(settings.log.level, LogLevel::Warn);
    assert_eq!(settings.log.format, LogFormat::Pretty);
}

#[test]
fn a_variable_is_read_as_its_key_needs_it() {
    let environment = [
        ("SYNCLINE_NODE__NAME", "42"),
        ("SYNCLINE_LIMITS__RESIDENTS_MAX", "1000"),
        ("SYNCLINE_HTTP__BODY_MAX", "64KiB"),
        ("SYNCLINE_HTTP__TLS__CERT", "/c.pem"),
        ("SYNCLINE_HTTP__TLS__KEY", "/k.pem"),
        ("SYNCLINE_AUTH__TOKENS", TOKENS),
        ("SYNCLINE_RETENTION__ENDED", "1d12h"),
        ("SYNCLINE_TOKEN", "not a setting"),
        ("PATH", "/bin"),
    ];
    let settings = load("", &environment, &[]).unwrap();
    assert_eq!(settings.node.name, "42");
    assert_eq!(settings.limits.residents_max.get(), 1000);
    assert_eq!(settings.http.body_max, ByteSize(65_536));
    assert_eq!(settings.http.tls.files(), Some((Path::new("/c.pem"), Path::new("/k.pem"))));
    assert_eq!(settings.auth.tokens[0].token, SecretRef::Env("OPS".to_owned()));
    assert_eq!(settings.auth.tokens[0].role, Role::Operator);
    assert_eq!(settings.retention.ended, Duration::from_hours(36));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place_and_the_fix() {
    let file = r#"
[node]
nmae = "a"
[http]
listen = 7171
body_max = "1 MB"
idle = "5m"
[limits]
in_flight_per_entity = 0
residents_max = "many"
[journal]
store = "disk"
[outbox]
x = 1
[log]
level = "loud"
"#;
    let environment = [
        ("SYNCLINE_HTTP__REQUEST_TIMEOUT", "10"),
        ("SYNCLINE_HTTP_LISTEN", "127.0.0.1:80"),
        ("SYNCLINE_PASSIVATION__IDLE__X", "1"),
    ];
    let expected = [
        "node.toml:3:1: `node.nmae`: there is no such key; did you mean `node.name`?",
        "node.toml:5:1: `http.listen`: invalid type: integer `7171`, expected socket address; the default is `\"127.0.0.1:7171\"`",
        "node.toml:6:1: `http.body_max`: `1 MB` is not a size; write a whole number and B, KiB, MiB or GiB, e.g. `64 KiB`",
        "node.toml:7:1: `http.idle`: there is no such key here; did you mean `passivation.idle`?",
        "node.toml:9:1: `limits.in_flight_per_entity`: invalid value: integer `0`, expected a whole number above zero; the default is `64`",
        "node.toml:10:1: `limits.residents_max`: invalid type: string \"many\", expected a whole number above zero; the default is `50000`",
        "node.toml:12:1: `journal.store`: unknown variant `disk`, expected `embedded` or `redis`; the default is `\"embedded\"`",
        "node.toml:13:2: `outbox`: there is no such section; there are `auth`, `cluster`, `http`, `journal`, `limits`, `log`, `node`, `passivation`, `retention`, `shutdown`",
        "node.toml:16:1: `log.level`: unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`",
        "SYNCLINE_HTTP_LISTEN: this is not read; did you mean `SYNCLINE_HTTP__LISTEN` (two underscores)?",
        "SYNCLINE_HTTP__REQUEST_TIMEOUT: `http.request_timeout`: the duration `10` has no unit; the default is `\"10s\"`",
        "SYNCLINE_PASSIVATION__IDLE__X: `passivation.idle.x`: `passivation.idle` is a key, not a section",
        "--set drain: there is no value; write `--set section.key=value`",
        "--set http: `http`: this is a section, not a key; its keys are `body_max`, `connections_max`, `header_timeout`, `listen`, `request_timeout`, `tls`",
    ];
    assert_eq!(mistakes(file, &environment, &["drain", "http=1"]), expected);
}

#[test]
fn what_is_not_toml_is_told_with_line_and_column() {
    let found = mistakes("[node]\nname = node-1\n[http\n", &[], &[]);
    assert!(found[0].starts_with("node.toml:2:8: this is not TOML: "), "{found:?}");
    assert!(found.iter().any(|mistake| mistake.starts_with("node.toml:3:")), "{found:?}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Settings::load(Some(Path::new("/nowhere/node.toml")), [], &[]).unwrap_err().to_string();
    assert!(error.contains("/nowhere/node.toml") && error.contains("--config"), "{error}");
}

#[test]
fn listening_beyond_loopback_needs_tls_and_a_token() {
    let listen = |address: &str| format!("[http]\nlisten = \"{address}\"\n");
    let tls = "tls = { cert = \"c.pem\", key = \"k.pem\" }\n";
    let tokens = format!("[auth]\ntokens = {TOKENS}\n");

    let found = mistakes(&listen("0.0.0.0:80"), &[], &[]);
    assert_eq!(
        found,
        [
            "node.toml:2:1: `http.listen`: 0.0.0.0:80 can be reached from other machines, which needs TLS and a token: \
          set `http.tls.cert` and `http.tls.key` to PEM files, and set `auth.tokens` to at least one token, \
          e.g. `[{ name = \"ops\", role = \"operator\", token = \"env:SYNCLINE_TOKEN_OPS\" }]`; or listen on 127.0.0.1:80"
        ]
    );
    let found = mistakes(&(listen("[::]:80") + tls), &[], &[]);
    assert!(found[0].contains("auth.tokens") && !found[0].contains("http.tls.cert"), "{found:?}");
    let found = mistakes(&(listen("10.0.0.1:80") + &tokens), &[], &[]);
    assert!(found[0].contains("http.tls.cert") && !found[0].contains("auth.tokens"), "{found:?}");
    let found = mistakes("", &[("SYNCLINE_HTTP__LISTEN", "192.168.0.1:80")], &[]);
    assert!(found[0].starts_with("SYNCLINE_HTTP__LISTEN: "), "{found:?}");

    load(&(listen("0.0.0.0:443") + tls + &tokens), &[], &[]).unwrap();
    for loopback in ["127.0.0.1:80", "127.8.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        load(&listen(loopback), &[], &[]).unwrap();
    }
    let found = mistakes("[http]\ninsecure_listen = true\n", &[], &[]);
    assert!(found[0].contains("there is no such key"), "{found:?}");
}

#[test]
fn a_token_is_checked_key_by_key_and_never_shown() {
    let file = r#"
[auth]
tokens = [
  { name = "ops", role = "root", token = "s3cret-itself", expires = "1d" },
  { name = "grafana" },
  "s3cret-itself",
]
"#;
    let found = mistakes(file, &[], &[]);
    let expected = [
        "node.toml:4:19: `auth.tokens[0].role`: unknown variant `root`, expected one of `viewer`, `operator`, `admin`",
        "node.toml:4:34: `auth.tokens[0].token`: it must be a reference, not the secret itself: write `env:NAME` for an environment variable, or `file:/path` for a file",
        "node.toml:4:59: `auth.tokens[0].expires`: unknown field `expires`, expected one of `name`, `role`, `token`",
    ];
    assert_eq!(found[..3], expected);
    assert!(found[3].starts_with("node.toml:5:3: `auth.tokens[1]`: `role` is missing"), "{found:?}");
    assert!(found[4].starts_with("node.toml:5:3: `auth.tokens[1]`: `token` is missing"), "{found:?}");
    assert!(found[5].starts_with("node.toml:6:3: `auth.tokens[2]`: this must be a table"), "{found:?}");
    let found = mistakes("", &[("SYNCLINE_AUTH__TOKENS", "s3cret-itself")], &[]);
    assert!(found[0].contains("a list of tokens") && !found[0].contains("s3cret"), "{found:?}");
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    for (file, says) in [
        (
            "[http.tls]\ncert = \"c.pem\"\n",
            "node.toml:2:1: `http.tls.cert`: it is set alone; set `http.tls.key` too",
        ),
        (
            "[http.tls]\nkey = \"k.pem\"\n",
            "node.toml:2:1: `http.tls.key`: it is set alone; set `http.tls.cert` too",
        ),
        (
            "[http]\nbody_max = \"65 MiB\"\n",
            "node.toml:2:1: `http.body_max`: a body of 65 MiB would never be let in, as limits.in_flight_bytes is 64 MiB; lower this one or raise that one",
        ),
        (
            "[http]\nbody_max = \"0 B\"\n",
            "node.toml:2:1: `http.body_max`: no message would fit; write e.g. `1 MiB`",
        ),
        (
            "[http]\nheader_timeout = \"0s\"\n",
            "node.toml:2:1: `http.header_timeout`: no time at all is not enough; write e.g. `5s`",
        ),
        (
            "[node]\nname = \"a b\"\n",
            "node.toml:2:1: `node.name`: `a b` is not a name; write 1 to 63 letters, digits, `-`, `_` or `.`",
        ),
        (
            "[node]\ndata_dir = \"\"\n",
            "node.toml:2:1: `node.data_dir`: the path is empty; leave the key out to have the default",
        ),
    ] {
        assert_eq!(mistakes(file, &[], &[]), [says]);
    }
    let twice = r#"[auth]
tokens = [{ name = "a", role = "viewer", token = "env:A" }, { name = "a", role = "admin", token = "env:B" }]
"#;
    assert_eq!(
        mistakes(twice, &[], &[]),
        ["node.toml:2:1: `auth.tokens`: two tokens are called `a`; give each its own name"]
    );
}

#[test]
fn what_depends_on_a_wrong_key_is_not_told_as_well() {
    let file = format!(
        "[http]\nlisten = \"0.0.0.0:80\"\ntls = {{ cert = 1, key = \"k\" }}\n[auth]\ntokens = {TOKENS}\n"
    );
    let found = mistakes(&file, &[], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`http.tls.cert`"), "{found:?}");
}
