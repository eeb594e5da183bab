//! `--set key=value`, beside every `--config`.

use std::path::Path;

use hi_diff::Config;
use hi_diff::config::Setting;

/// Changes to a configuration.
#[derive(clap::Args, Debug, Default)]
pub struct Changes {
    /// Change a key of the configuration, such as training.ema=0.999; repeatable. The value is TOML, or else a string
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
}

impl Changes {
    /// The preset or file of this name, changed.
    pub fn load(&self, name_or_path: &str) -> hi_diff::Result<Config> {
        Config::load_with(name_or_path, &self.settings)
    }

    /// The configuration that came with `weights`, changed.
    pub fn to(&self, config: Config, weights: &Path) -> hi_diff::Result<Config> {
        config.with(&weights.display().to_string(), &self.settings)
    }
}
