//! What a user should know of the files of a dataset while it is read.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Hears of damaged files and files passed over, of each once. The default hears nothing.
#[derive(Clone, Default)]
pub struct Notes(Option<Arc<Listener>>);

struct Listener {
    told: Mutex<HashSet<String>>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl Notes {
    /// `tell` gets each text once, from whichever thread reads the file.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Listener {
            told: Mutex::default(),
            tell: Box::new(tell),
        })))
    }

    pub(in crate::data) fn tell(&self, text: String) {
        let Some(listener) = &self.0 else { return };
        let mut told = listener.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&text) {
            (listener.tell)(&text);
            told.insert(text);
        }
    }

    pub(super) fn tell_all(&self, texts: &[String]) {
        texts.iter().for_each(|text| self.tell(text.clone()));
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Notes"
        } else {
            "no notes"
        })
    }
}
