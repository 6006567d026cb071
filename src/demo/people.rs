//! People: what they type at the screens of systems, and what they decide about entities. Who is not heard asks again.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value as Json, json};

use super::Stuck;
use super::stage::Stage;
use super::watch::{Pause, entity};
use crate::api::{Intervention, Refusal, Who};

impl Stage {
    /// A person types something at a screen of a system.
    pub(super) fn types(&self, system: &'static str, screen: &str, what: &Json) -> Result<(), Stuck> {
        match self.sandbox.act(system, Method::PUT, screen, what) {
            (200..300, _) => Ok(()),
            (status, body) => {
                Err(Stuck(format!("{system} does not take what is typed at {screen}: {status} {body}")))
            }
        }
    }

    /// A person gives a command; whether the entity took it.
    pub(super) async fn command(&self, kind: &str, key: &str, command: &str) -> Result<bool, Stuck> {
        self.commanded(kind, key, command, 0).await
    }

    /// A person decides about an entity that stands, or will stand, in this state: again, if it was somewhere else just then.
    pub(super) async fn decide(
        &self,
        kind: &str,
        key: &str,
        state: &str,
        command: &str,
    ) -> Result<(), Stuck> {
        let mut pause = Pause::default();
        for attempt in 1..100 {
            self.until(kind, key, &[state]).await?;
            if self.commanded(kind, key, command, attempt).await? {
                return Ok(());
            }
            pause.wait().await;
        }
        Err(Stuck(format!("{kind}/{key} never takes {command}")))
    }

    async fn commanded(&self, kind: &str, key: &str, command: &str, attempt: u32) -> Result<bool, Stuck> {
        let body = json!({"entity": format!("{kind}/{key}"), "command": command, "data": {"reason": "as people have it"}});
        let id = format!("{command} {kind}/{key} {attempt}");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let odd = |_odd| Stuck(format!("`{id}` does not fit into a header"));
        headers.insert("idempotency-key", HeaderValue::from_str(&id).map_err(odd)?);
        self.answered("/v1/commands", &headers, &body.to_string(), &id).await
    }

    /// A person looks at what a system says of a field that another owns: takes it, or keeps what the owner says.
    pub(super) async fn settle(&self, kind: &str, key: &str, take: bool) -> Result<(), Stuck> {
        let nobody = || Stuck(format!("{kind}/{key}: nobody disagrees, or nobody can settle it"));
        let settled = async {
            let (mut found, mut pause) = (false, Pause::default());
            loop {
                match self.exceptions(kind, key, "conflict").await.as_deref() {
                    Some([]) if found => return,
                    Some([conflict, ..]) => {
                        found = true;
                        self.intervene(conflict, take).await;
                    }
                    _ => {}
                }
                pause.wait().await;
            }
        };
        tokio::time::timeout(self.patience, settled).await.map_err(|_over| nobody())
    }

    /// A person tries the hold of an entity again; where an answer was lost on the way, it may have gone on without.
    pub(super) async fn release(&self, kind: &str, key: &str, hold: &str, beyond: &str) -> Result<(), Stuck> {
        self.until(kind, key, &[hold, beyond]).await?;
        let released = async {
            let mut pause = Pause::default();
            loop {
                if let Some(holds) = self.exceptions(kind, key, "hold").await {
                    let mut done = true;
                    for hold in &holds {
                        done &= self.intervene(hold, true).await;
                    }
                    if done {
                        return;
                    }
                }
                pause.wait().await;
            }
        };
        let over = tokio::time::timeout(self.patience, released).await;
        over.map_err(|_over| Stuck(format!("{kind}/{key}: the hold cannot be tried again")))
    }

    /// Open exceptions of a class, while the node can tell.
    async fn exceptions(&self, kind: &str, key: &str, class: &str) -> Option<Vec<String>> {
        let found = self.look(&entity(kind, key)).await?.exceptions;
        Some(found.into_iter().filter(|open| open.class == class).map(|open| open.id).collect())
    }

    /// Tries an exception again, or closes it; false when the node could not do it now.
    async fn intervene(&self, exception: &str, retry: bool) -> bool {
        let Some(operate) = self.operate().await else { return false };
        let (id, reason) = (exception.to_owned(), "looked into".to_owned());
        let ask = Intervention { id, reason, set: None, result: None };
        let who = Who("people".to_owned());
        let done = if retry { operate.retry(&who, ask).await } else { operate.resolve(&who, ask).await };
        match done {
            Ok(_) | Err(Refusal::NotFound(_) | Refusal::Conflict(_)) => true,
            Err(refusal) => {
                tracing::debug!(exception, %refusal, "asked again");
                false
            }
        }
    }

    /// What an entity must not take was refused, or not.
    pub(super) fn refused(taken: bool, what: &str) -> Result<(), Stuck> {
        if taken { Err(Stuck(format!("{what} was taken, and must not be"))) } else { Ok(()) }
    }
}
