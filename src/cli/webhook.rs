//! `syncline webhook`: what a source's sender does, and what the node makes of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::json;
use syncline_actors::time::Timestamp;

use super::client::{http, unreachable};
use super::lint::plural;
use super::output::Output;
use super::{Failure, config_dir};
use crate::clock::{Clock as _, SystemClock};
use crate::ingress::sign::{Signed, Signer, identity_headers};
use crate::ingress::source::Source;
use crate::ingress::verify::{Request, Secret, Step, Verifier};
use crate::integration;
use crate::secret::SecretRef;

const EXAMPLES: &str = "\
Examples:
  syncline webhook send --source crm --body order.json --id msg_1 --count 2     the second is a duplicate
  syncline webhook sign --source crm --body order.json > headers.txt
  curl -H @headers.txt --data-binary @order.json http://127.0.0.1:7171/hooks/crm
  syncline webhook verify --source crm --headers headers.txt --body order.json  why it is refused
Secrets are read as config/sources/*.yaml says, e.g. from SYNCLINE_CRM_SECRET.";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Webhook {
    /// Print the headers that the source's sender would send.
    Sign {
        #[command(flatten)]
        of: Of,
        /// The message's id, where the source's sender says it in a header.
        #[arg(long, default_value = "msg_1")]
        id: String,
        /// When it is signed (RFC 3339); now unless given.
        #[arg(long)]
        at: Option<String>,
    },
    /// Say step by step whether a request is authentic, and which step failed.
    Verify {
        #[command(flatten)]
        of: Of,
        /// The request's headers, one `Name: value` a line.
        #[arg(long, value_name = "FILE")]
        headers: PathBuf,
        /// When it came (RFC 3339); now unless given.
        #[arg(long)]
        at: Option<String>,
    },
    /// Sign it and send it to a node.
    Send {
        #[command(flatten)]
        of: Of,
        /// The message's id; the same id again is a duplicate.
        #[arg(long)]
        id: Option<String>,
        /// The node.
        #[arg(long, value_name = "URL", env = "SYNCLINE_NODE", default_value = "http://127.0.0.1:7171")]
        node: String,
        /// Send it so many times under the same id.
        #[arg(long, default_value_t = 1)]
        count: u32,
    },
}

/// A source and a body.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The source, as `config/sources/` names it.
    #[arg(long)]
    source: String,
    /// The body: a file, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// The integration's directory.
    #[arg(long, value_name = "DIR", default_value_os_t = config_dir())]
    config_dir: PathBuf,
    /// The message's type, where the source's sender says it in a header; the source's first unless given.
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// Method and address that are signed, where the source signs them.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
}

/// A source with its secrets and a body.
struct Sender {
    source: Source,
    secrets: Vec<Secret>,
    event: String,
    path: String,
    body: Vec<u8>,
}

impl Webhook {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        match self {
            Self::Sign { of, id, at } => {
                let sender = of.open()?;
                let signed = sender.sign(&id, time(at.as_deref())?)?;
                show_signed(&signed, out)
            }
            Self::Verify { of, headers, at } => of.open()?.verify(&headers, time(at.as_deref())?, out),
            Self::Send { of, id, node, count } => {
                let sender = of.open()?;
                let id = id.unwrap_or_else(|| format!("msg_{:x}", SystemClock.now().0));
                for _ in 0..count {
                    sender.send(&node, &id, out).await?;
                }
                Ok(())
            }
        }
    }
}

impl Of {
    fn open(self) -> Result<Sender, Failure> {
        let read = integration::load(&self.config_dir).map_err(|error| Failure::Input(error.to_string()))?;
        let Some(mut integration) = read.integration else {
            let what = plural(read.problems.len(), "problem");
            return Err(Failure::Input(format!(
                "the integration has {what}: see `syncline lint {}`",
                self.config_dir.display()
            )));
        };
        let known = integration.sources.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let source = integration.sources.remove(self.source.as_str()).ok_or_else(|| {
            Failure::Input(format!("there is no source `{}`; there are: {known}", self.source))
        })?;
        let secrets = secrets(&source)?;
        let path = self.path.unwrap_or_else(|| format!("/hooks/{}", self.source));
        let event = event(&source, self.event)?;
        Ok(Sender { source, secrets, event, path, body: read_body(&self.body)? })
    }
}

/// The type to send, which the source must know.
fn event(source: &Source, asked: Option<String>) -> Result<String, Failure> {
    match asked {
        None => Ok(source.messages.keys().next().map_or("message", String::as_str).to_owned()),
        Some(event) if source.messages.contains_key(&event) => Ok(event),
        Some(event) => {
            let known = source.messages.keys().cloned().collect::<Vec<_>>().join(", ");
            Err(Failure::Input(format!(
                "source `{}` has no message `{event}`; there are: {known}",
                source.name
            )))
        }
    }
}

fn secrets(source: &Source) -> Result<Vec<Secret>, Failure> {
    let mut secrets = Vec::new();
    for def in &source.secrets {
        let reference: SecretRef = def
            .reference
            .value
            .parse()
            .map_err(|error: crate::secret::Error| Failure::Input(error.to_string()))?;
        match reference.resolve() {
            Ok(value) => {
                let secret = Secret::new(&*def.id, value.expose_secret());
                secrets.push(match def.not_after {
                    Some(at) => secret.until(at.0),
                    None => secret,
                });
            }
            Err(_) if def.optional => {}
            Err(error) => {
                return Err(Failure::Input(format!(
                    "secret `{}` of source `{}`: {error}",
                    def.id, source.name
                )));
            }
        }
    }
    Ok(secrets)
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut body).map(drop)
    } else {
        std::fs::read(path).map(|bytes| body = bytes)
    };
    read.map_err(|error| Failure::Input(format!("cannot read {}: {error}", path.display())))?;
    Ok(body)
}

fn time(text: Option<&str>) -> Result<Timestamp, Failure> {
    match text {
        None => Ok(SystemClock.now()),
        Some(text) => Timestamp::parse(text)
            .ok_or_else(|| Failure::Input(format!("`{text}` is no time: write e.g. 2026-11-23T10:00:00Z"))),
    }
}

fn show_signed(signed: &Signed, out: Output) -> Result<(), Failure> {
    let mut lines: Vec<(String, String)> = signed
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().escape_ascii().to_string()))
        .collect();
    if let Some((name, value)) = &signed.query {
        lines.push((format!("?{name}"), value.expose_secret().to_owned()));
    }
    if out.is_json() {
        let headers: serde_json::Map<_, _> =
            lines.into_iter().map(|(name, value)| (name, json!(value))).collect();
        return out.value(&headers, |_| String::new());
    }
    out.text(&lines.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n"))
}

impl Sender {
    fn request<'r>(&'r self, headers: &'r HeaderMap) -> Request<'r> {
        Request { method: "POST", url: &self.path, host: "", headers, body: &self.body }
    }

    /// All headers of a request under this id.
    fn sign(&self, id: &str, at: Timestamp) -> Result<Signed, Failure> {
        let signer = Signer::compile(&self.source.preset.verify, self.secrets.clone())
            .map_err(|mistakes| Failure::Input(mistakes.join("\n")))?;
        let mut headers = identity_headers(&self.source.preset.identify, id, &self.event)
            .map_err(|error| Failure::Input(error.to_string()))?;
        let signed =
            signer.sign(&self.request(&headers), at.0).map_err(|error| Failure::Input(error.to_string()))?;
        headers.extend(signed.headers);
        Ok(Signed { headers, query: signed.query })
    }

    fn verify(&self, headers: &Path, at: Timestamp, out: Output) -> Result<(), Failure> {
        let headers = read_headers(headers)?;
        let verifier = Verifier::compile(&self.source.preset.verify, self.secrets.clone())
            .map_err(|mistakes| Failure::Input(mistakes.join("\n")))?;
        let steps = verifier.explain(&self.request(&headers), at.0);
        let shown: Vec<_> = steps
            .iter()
            .map(|step| json!({"step": step.name, "ok": step.ok, "detail": step.detail}))
            .collect();
        out.value(&shown, |_| {
            let word = |step: &Step| {
                if step.name == "hint" {
                    ""
                } else if step.ok {
                    "ok"
                } else {
                    "FAILED"
                }
            };
            out.table(
                &["step", "", ""],
                steps.iter().map(|step| [step.name.to_owned(), word(step).to_owned(), step.detail.clone()]),
            )
        })?;
        let failed = steps.iter().find(|step| !step.ok && step.name != "hint");
        match failed {
            None => Ok(()),
            Some(step) => {
                Err(Failure::Failed(format!("not authentic: step `{}` failed: {}", step.name, step.detail)))
            }
        }
    }

    async fn send(&self, node: &str, id: &str, out: Output) -> Result<(), Failure> {
        let signed = self.sign(id, SystemClock.now())?;
        let url = format!("{}{}", node.trim_end_matches('/'), self.path);
        let mut request = http()?.post(&url).headers(signed.headers).body(self.body.clone());
        if let Some((name, value)) = &signed.query {
            request = request.query(&[(name.as_str(), value.expose_secret())]);
        }
        let response = request.header("content-type", "application/json").send().await;
        let response = response.map_err(|error| unreachable(node, &error))?;
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        out.value(&json!({"id": id, "status": status.as_u16(), "body": body}), |_| {
            format!("{id}: {status}{}{body}", if body.is_empty() { "" } else { "\n" })
        })?;
        if status.is_success() { Ok(()) } else { Err(Failure::Refused(format!("the node answers {status}"))) }
    }
}

fn read_headers(path: &Path) -> Result<HeaderMap, Failure> {
    let text = String::from_utf8_lossy(&read_body(path)?).into_owned();
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || {
            Failure::Input(format!(
                "{}:{}: `{line}` is no header: write `Name: value`",
                path.display(),
                number + 1
            ))
        };
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_odd| wrong())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_odd| wrong())?);
    }
    Ok(headers)
}
