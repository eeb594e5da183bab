//! The choice of attention on the command line.

use std::str::FromStr;

use hi_diff::Config;
use hi_diff::inference::AttentionChoice;
use hi_diff::model::Attention;

/// Pixels a side of the windows for weights that do not say what suits them: what was published for networks like this one, one
/// and a half times a patch of 256.
const WINDOW: usize = 384;

/// The least window: a pixel at level 4.
const LEAST: usize = 8;

/// `--attention`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionArg {
    Auto,
    Global,
    Local(Option<usize>),
}

impl FromStr for AttentionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = |pixels: &str| {
            let pixels = pixels.parse().ok().filter(|pixels| *pixels >= LEAST);
            pixels.ok_or_else(|| {
                format!("expected a window of at least {LEAST} pixels, such as local:256")
            })
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "global" => Ok(Self::Global),
            None if text == "local" => Ok(Self::Local(None)),
            Some(("local", pixels)) => Ok(Self::Local(Some(size(pixels)?))),
            _ => Err("expected auto, global, local, or local:N".into()),
        }
    }
}

impl AttentionArg {
    /// For a model of this configuration, where no window is named the one that suits it.
    pub fn of(self, config: &Config) -> AttentionChoice {
        let suiting = config.model.transformer.window.unwrap_or(WINDOW);
        match self {
            Self::Auto => AttentionChoice::Auto(suiting),
            Self::Global => AttentionChoice::Always(Attention::Global),
            Self::Local(window) => {
                AttentionChoice::Always(Attention::Local(window.unwrap_or(suiting)))
            }
        }
    }
}
