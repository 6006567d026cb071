//! The suppliers: what people type at the screens of the sourcing tool, what they decide, and how each must end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use syncline_actors::id::EntityId;

use super::PATIENCE;
use super::stage::Stage;
use crate::sandbox::supplier::{Supplier, Variant};

/// Of so many suppliers every kind is one.
pub(super) const KINDS: u64 = 13;

/// Pause between two attempts to have a decision taken.
const PAUSE: Duration = Duration::from_millis(100);

/// One supplier.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) supplier: Supplier,
    pub(super) entity: EntityId,
    /// What people do about it, each when it stands in a state.
    then: Vec<(&'static str, Deed)>,
    /// Nobody types it in before that one is active.
    after: Option<EntityId>,
    pub(super) must: Must,
}

/// How a supplier must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Must {
    /// Active, and paid to its first account.
    Active,
    /// Active, and paid to another account, which a second person has approved.
    Moved,
    /// Held: nobody gives what it waits for.
    Hold,
    /// Not taken on, with everything undone.
    Refused,
    /// No longer bought from.
    Offboarded,
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Correct,
    Move,
    MoveWrongly,
    End,
    Decide(&'static str),
}

impl Must {
    pub(super) fn allows(self, state: &str) -> bool {
        match self {
            Self::Active | Self::Moved => state == "active",
            Self::Hold => state.ends_with("_hold"),
            Self::Refused => state == "refused",
            Self::Offboarded => state == "offboarded",
        }
    }
}

impl Case {
    /// All suppliers of a demo.
    pub(super) fn all(suppliers: u64) -> Vec<Self> {
        (1..=suppliers).map(Self::new).collect()
    }

    fn new(number: u64) -> Self {
        use Deed::{Correct, Decide, End, Move, MoveWrongly};
        let (approve, reject) =
            (Decide("supplier.approve_bank_change"), Decide("supplier.reject_bank_change"));
        let (variant, then, must) = match number % KINDS {
            1 => (Variant::Incomplete, vec![("compliance_hold", Correct)], Must::Active),
            2 => (Variant::WrongAccount, vec![("bank_hold", Correct)], Must::Active),
            3 => (Variant::UnknownAccount, vec![], Must::Hold),
            4 => (Variant::SlowBank, vec![], Must::Active),
            5 => (Variant::Unregistered, vec![("tax_hold", Correct)], Must::Active),
            6 => (Variant::SlowRegistry, vec![], Must::Active),
            7 => (Variant::Normal, vec![("active", MoveWrongly), ("change_hold", reject)], Must::Active),
            9 => (Variant::Twin, vec![("duplicate_hold", Decide("supplier.withdraw"))], Must::Refused),
            10 => (Variant::Unwanted, vec![], Must::Refused),
            11 => (Variant::Normal, vec![("active", Move), ("approval", approve)], Must::Moved),
            12 => (Variant::Normal, vec![("active", End)], Must::Offboarded),
            0 => (Variant::Normal, vec![("active", Move), ("approval", reject)], Must::Active),
            _ => (Variant::Normal, vec![], Must::Active),
        };
        let of = |number| Supplier { number, variant };
        let entity = |supplier: &Supplier| {
            EntityId::new("supplier", &supplier.key()).expect("supplier numbers are short and plain")
        };
        let supplier = of(number);
        let after = (variant == Variant::Twin).then(|| entity(&of(number - 1)));
        Self { entity: entity(&supplier), supplier, then, after, must }
    }

    /// The account that it must be paid to in the end.
    pub(super) fn iban(&self) -> String {
        match (self.must, self.supplier.variant) {
            (Must::Moved, _) => self.supplier.new_iban(),
            (_, Variant::SlowBank) => {
                self.supplier.approved()["remit-to"]["iban"].as_str().unwrap_or_default().to_owned()
            }
            _ => self.supplier.iban(),
        }
    }

    /// Every account that it was ever said to have.
    pub(super) fn ibans(&self) -> Vec<String> {
        let typed = [self.supplier.approved(), self.supplier.moved(), self.supplier.moved_wrongly()];
        let typed = typed.iter().filter_map(|typed| typed["remit-to"]["iban"].as_str().map(str::to_owned));
        typed.chain([self.supplier.iban()]).collect()
    }

    /// Does what people do about it, each in its time.
    pub(super) async fn play(self, stage: Arc<Stage>, people: Arc<People>) {
        if let Some(before) = &self.after {
            stage.wait_for(before, |state| state == "active").await;
        }
        self.types(&stage, &self.supplier.approved());
        for (state, deed) in &self.then {
            stage.wait_for(&self.entity, |found| found == *state).await;
            match deed {
                Deed::Correct => self.types(&stage, &self.supplier.corrected()),
                Deed::Move => self.types(&stage, &self.supplier.moved()),
                Deed::MoveWrongly => self.types(&stage, &self.supplier.moved_wrongly()),
                Deed::End => self.types(&stage, &self.supplier.ended()),
                Deed::Decide(command) => people.decide(&stage, &self.entity, state, command).await,
            }
        }
    }

    fn types(&self, stage: &Stage, what: &Value) {
        let (status, body) = stage.sandbox.act("sourcing", Method::PUT, &self.supplier.screen(), what);
        if status != 200 {
            tracing::warn!(entity = %self.entity, status, body, "the sourcing tool does not take it");
        }
    }
}

/// People who decide, by the node's API.
pub(super) struct People {
    client: Client<HttpConnector, Full<Bytes>>,
    node: SocketAddr,
}

impl People {
    pub(super) fn new(node: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()), node }
    }

    /// Has a decision taken: it is given again as long as the entity is somewhere else just then, or the node is away.
    async fn decide(&self, stage: &Stage, entity: &EntityId, state: &str, command: &str) {
        let taken = async {
            for attempt in 1.. {
                stage.wait_for(entity, |found| found == state).await;
                let key = format!("{command} {entity} {attempt}");
                if self.command(&key, entity, command).await == Some(200) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(PATIENCE, taken).await.is_err() {
            tracing::warn!(%entity, command, "the decision was not taken");
        }
    }

    /// The status of the answer, if one came.
    async fn command(&self, key: &str, entity: &EntityId, command: &str) -> Option<u16> {
        let body = json!({"entity": entity.to_string(), "command": command, "data": {"reason": "as the demo has it"}});
        let request = Request::post(format!("http://{}/v1/commands", self.node))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(Full::new(Bytes::from(body.to_string())))
            .ok()?;
        let answer = self.client.request(request).await.ok()?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await.ok()?;
        Some(status)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_supplier_is_among_the_first() {
        let cases = Case::all(KINDS);
        let variants: BTreeSet<_> = cases.iter().map(|case| case.supplier.variant).collect();
        assert_eq!(variants, Variant::ALL.into_iter().collect());
        for must in [Must::Active, Must::Moved, Must::Hold, Must::Refused, Must::Offboarded] {
            assert!(cases.iter().any(|case| case.must == must), "{must:?}");
        }
    }
}
