//! `hi-diff completions`: what a shell needs to complete the program's arguments.

use clap::Command;
use clap_complete::Shell;

use crate::output;

/// Print a shell's completion script
///
/// Bash: `hi-diff completions bash > ~/.local/share/bash-completion/completions/hi-diff`. Zsh: to a file `_hi-diff` in a
/// folder of `$fpath`. Fish: to `~/.config/fish/completions/hi-diff.fish`. PowerShell: append it to `$PROFILE`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Always true: nothing can fail but the reader.
pub fn run(args: Args, mut program: Command) -> hi_diff::Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "hi-diff", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end());
    Ok(true)
}
