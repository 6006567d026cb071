//! What people type at the screens of the sourcing tool: a supplier of every kind, by number.

use serde_json::{Value, json};

use super::bank::iban;

/// What is special about a supplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Nothing: it becomes active.
    Normal,
    /// Compliance data are missing: held until they are there.
    Incomplete,
    /// Its bank account is somebody else's: held until another is given.
    WrongAccount,
    /// Its bank account does not exist.
    UnknownAccount,
    /// Its bank takes its time.
    SlowBank,
    /// Its tax id is not registered: held until another is given.
    Unregistered,
    /// Its tax id is registered in a member state that is away the first time.
    SlowRegistry,
    /// It has the tax id of the supplier before it: held for a person.
    Twin,
    /// No organisation can buy from it: everything is undone.
    Unwanted,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Normal,
        Self::Incomplete,
        Self::WrongAccount,
        Self::UnknownAccount,
        Self::SlowBank,
        Self::Unregistered,
        Self::SlowRegistry,
        Self::Twin,
        Self::Unwanted,
    ];
}

/// A supplier of the sourcing tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supplier {
    /// Its number: everything else follows from it.
    pub number: u64,
    /// What is special about it.
    pub variant: Variant,
}

impl Supplier {
    /// Who types: whoever asks for new bank details must not approve them.
    pub const BUYER: &'static str = "anna";

    /// `SUP-<number>`.
    pub fn key(&self) -> String {
        format!("SUP-{:05}", self.number)
    }

    /// Where it is typed in, for [`Sandbox::act`](super::Sandbox::act).
    pub fn screen(&self) -> String {
        format!("screen/suppliers/{}", self.key())
    }

    /// Its approval, with everything that is special about it.
    pub fn approved(&self) -> Value {
        self.typed(self.variant)
    }

    /// What is wrong with it put right.
    pub fn corrected(&self) -> Value {
        self.typed(Variant::Normal)
    }

    /// New bank details.
    pub fn moved(&self) -> Value {
        json!({"remit-to": {"iban": self.new_iban()}, "updated-by": {"login": Self::BUYER}})
    }

    /// New bank details that are somebody else's.
    pub fn moved_wrongly(&self) -> Value {
        json!({"remit-to": {"iban": self.account("5", "409")}, "updated-by": {"login": Self::BUYER}})
    }

    /// It is no longer bought from.
    pub fn ended(&self) -> Value {
        json!({"status": "inactive", "updated-by": {"login": Self::BUYER}})
    }

    /// The account it has when nothing is wrong with it.
    pub fn iban(&self) -> String {
        self.account("3", "000")
    }

    /// The account of [`Supplier::moved`].
    pub fn new_iban(&self) -> String {
        self.account("4", "001")
    }

    fn account(&self, branch: &str, ending: &str) -> String {
        iban("DE", &format!("{branch}7040044{:07}{ending}", self.number % 10_000_000))
    }

    fn typed(&self, variant: Variant) -> Value {
        let missing = variant == Variant::Incomplete;
        let account = match variant {
            Variant::WrongAccount => self.account("3", "409"),
            Variant::UnknownAccount => self.account("3", "404"),
            Variant::SlowBank => self.account("3", "402"),
            _ => self.iban(),
        };
        let tax_id = match variant {
            Variant::Incomplete => String::new(),
            Variant::Unregistered => format!("DE{:08}X", self.number),
            Variant::SlowRegistry => format!("DE{:08}W", self.number),
            Variant::Twin => format!("DE{:09}", self.number.saturating_sub(1)),
            _ => format!("DE{:09}", self.number),
        };
        json!({
            "name": format!("Bolt and Nut {}", self.number),
            "status": "active",
            "tax-id": tax_id,
            "country": "DE",
            "currency": "EUR",
            "primary-contact": {"email": format!("billing-{}@supplier.example", self.number)},
            "remit-to": {"iban": account},
            "insured-until": if missing { "" } else { "2027-12-31" },
            "purchasing-org": if variant == Variant::Unwanted { "EU-NONE" } else { "EU01" },
            "updated-by": {"login": Self::BUYER},
        })
    }
}
