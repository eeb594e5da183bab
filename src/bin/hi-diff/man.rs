//! `hi-diff man`: the manual, a page for the program and one for each command.

use std::io::Write;
use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;
use hi_diff::Error;
use hi_diff::whole::write_whole;

use crate::output;

/// Write the manual pages
///
/// With a folder, such as `~/.local/share/man/man1`: one page for the program and one for each command. Without: the
/// program's page to standard output.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder for the pages
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Replace pages that exist
    #[arg(long, requires = "folder")]
    force: bool,
}

/// Always true: what fails is an error.
pub fn run(args: Args, program: Command) -> hi_diff::Result<bool> {
    let program = program.disable_help_subcommand(true);
    let Some(folder) = args.folder else {
        let page = render(&Man::new(program)).map_err(Error::io("standard output"))?;
        output::line(String::from_utf8_lossy(&page).trim_end());
        return Ok(true);
    };
    for page in pages(program) {
        let path = folder.join(page.get_filename());
        write_whole(&path, args.force, |file| {
            let text = render(&page).map_err(Error::io(&path))?;
            file.write_all(&text).map_err(Error::io(&path))
        })?;
        output::line(path.display());
    }
    Ok(true)
}

/// The program's page first.
fn pages(mut program: Command) -> Vec<Man> {
    program.build(); // names the commands' pages after the program
    let commands = program.get_subcommands().filter(|it| !it.is_hide_set());
    let commands: Vec<_> = commands.cloned().map(Man::new).collect();
    let mut pages = vec![Man::new(program)];
    pages.extend(commands);
    pages
}

fn render(page: &Man) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(text)
}
