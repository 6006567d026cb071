//! Waits until something is as it should be: by looking, as often as it takes, whatever happens to the node meanwhile.

use std::time::Duration;

use syncline_actors::id::EntityId;
use syncline_actors::value::Value;

use super::stage::Stage;
use super::{Must, Stuck};
use crate::api::{Entity, Operate, Refusal};

/// Between two looks: the first pause, and the longest.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(700);

impl Must {
    pub(super) fn new(kind: &str, key: &str, stands: &'static [&'static str]) -> Self {
        Self { entity: entity(kind, key), stands, may_be_absent: false }
    }

    /// The same, of an entity that may not have come to be.
    pub(super) fn or_absent(self) -> Self {
        Self { may_be_absent: true, ..self }
    }
}

/// The id of an entity.
pub(super) fn entity(kind: &str, key: &str) -> EntityId {
    EntityId::new(kind, key).expect("keys of the demo are short and plain")
}

/// Pauses between looks, each longer than the one before.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(LOOK)
    }
}

impl Pause {
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(LOOK_MAX);
    }
}

/// The fields of an entity, as values.
pub(super) fn fields(entity: &Entity) -> Value {
    let text = entity.fields.get();
    Value::from_json(text.as_bytes(), text.len()).unwrap_or_default()
}

/// Where an entity stands, and what it waits for.
fn standing(entity: &Entity) -> String {
    let pending: Vec<_> = entity.pending.iter().map(|effect| &*effect.name).collect();
    let open: Vec<_> = entity.exceptions.iter().map(|open| &*open.summary).collect();
    format!("in {}, waits for {pending:?}, open {open:?}", entity.status)
}

/// Effects that wait in the node's store, messages from entity to entity among them.
pub(super) async fn waiting(operate: &dyn Operate, connector: Option<&str>) -> Result<u64, Refusal> {
    let connectors = operate.connectors().await?.items;
    let of = connectors.iter().filter(|found| connector.is_none_or(|name| found.name == name));
    // One that cannot be counted now is not known to be empty.
    Ok(of.map(|found| found.waiting.unwrap_or(1)).sum())
}

impl Stage {
    /// An entity as it stands, while the node can tell.
    pub(super) async fn look(&self, id: &EntityId) -> Option<Entity> {
        self.operate().await?.entity(id).await.ok()
    }

    /// Waits until an entity stands in one of these states.
    pub(super) async fn until(&self, kind: &str, key: &str, states: &[&str]) -> Result<(), Stuck> {
        let there = self.fits(&entity(kind, key), |entity| states.contains(&&*entity.status)).await;
        there.map_err(|last| {
            let last = last.map_or_else(|| "nobody knows it".to_owned(), |entity| standing(&entity));
            Stuck(format!("{kind}/{key} does not come to {}: {last}", states.join(" or ")))
        })
    }

    /// Waits until the fields of an entity are as they should be.
    pub(super) async fn when(
        &self,
        kind: &str,
        key: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<(), Stuck> {
        let there = self.fits(&entity(kind, key), |entity| fits(&fields(entity))).await;
        there.map_err(|last| {
            let last =
                last.map_or_else(|| "nobody knows it".to_owned(), |entity| entity.fields.get().to_owned());
            Stuck(format!("{kind}/{key} is never as it should be: {last}"))
        })
    }

    /// Waits until an entity has come to its end: it must stand there when all is over.
    pub(super) async fn ends(
        &self,
        kind: &str,
        key: &str,
        stands: &'static [&'static str],
    ) -> Result<Must, Stuck> {
        self.until(kind, key, stands).await?;
        Ok(Must::new(kind, key, stands))
    }

    /// Waits until an entity is as it should be, or patience is over: then it is as it was seen last.
    async fn fits(&self, id: &EntityId, fits: impl Fn(&Entity) -> bool) -> Result<(), Option<Entity>> {
        let (mut last, mut pause) = (None, Pause::default());
        let there = async {
            loop {
                last = self.look(id).await.or_else(|| last.take());
                if last.as_ref().is_some_and(&fits) {
                    return;
                }
                pause.wait().await;
            }
        };
        let there = tokio::time::timeout(self.patience, there).await;
        there.map_err(|_over| last)
    }

    /// Waits until nothing is on its way any more: no system has anything to tell, and no effect waits. What a system has to tell comes
    /// from a call and leads to another, so the two are looked at as one: nothing to tell, then no effect, and nothing told in between.
    pub(super) async fn quiet(&self) -> Result<(), Stuck> {
        let mut pause = Pause::default();
        let mut last = String::new();
        let quiet = async {
            loop {
                let before = self.sandbox.telling();
                let waiting = match self.operate().await {
                    Some(operate) => waiting(&*operate, None).await.unwrap_or(1),
                    None => 1,
                };
                if before.under_way == 0 && waiting == 0 && self.sandbox.telling() == before {
                    return;
                }
                last = format!("{waiting} effects wait, systems have to tell {} things", before.under_way);
                pause.wait().await;
            }
        };
        let quiet = tokio::time::timeout(self.patience, quiet).await;
        quiet.map_err(|_over| Stuck(format!("it never becomes quiet: {last}")))
    }
}
