//! Completion scripts and manual pages know every command.
#![cfg(all(feature = "cli", feature = "flex"))]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn hi_diff(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hi-diff"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = text(hi_diff(&["--help"]));
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty()).then(|| name.to_string())
    });
    let names: Vec<_> = names.filter(|name| name != "help").collect();
    for expected in ["deblur", "synth", "completions", "man"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    names
}

/// Whether a program is there to test with.
fn found(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("left out: no {program} here");
    }
    found
}

/// Text in which bold letters are overstruck.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            '\u{8}' => _ = plain.pop(),
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn every_shells_script_names_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(hi_diff(&["completions", shell]));
        for command in commands() {
            assert!(script.contains(&command), "{shell} lacks {command}");
        }
        assert!(script.contains("seed"), "{shell} lacks the flags");
    }
    assert_eq!(hi_diff(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn bash_takes_its_script_and_completes() {
    if !found("bash") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let script = folder.path().join("hi-diff.bash");
    fs::write(&script, text(hi_diff(&["completions", "bash"]))).unwrap();
    let bash = |arguments: &[&str]| {
        let mut command = Command::new("bash");
        text(command.args(arguments).arg(&script).output().unwrap())
    };
    bash(&["-n"]);
    // What the shell does when Tab is pressed after `hi-diff deb`.
    let press_tab = r#"
        source "$0"
        COMP_WORDS=(hi-diff deb); COMP_CWORD=1
        registered=$(complete -p hi-diff)
        function=${registered#*-F }
        "${function%% *}" hi-diff deb hi-diff
        echo "${COMPREPLY[@]}"
    "#;
    assert_eq!(bash(&["-c", press_tab]).trim(), "deblur");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let folder = TempDir::new().unwrap();
    let man = folder.path().join("man1");
    text(hi_diff(&["man", man.to_str().unwrap()]));
    let mut expected: Vec<_> = commands()
        .iter()
        .map(|command| format!("hi-diff-{command}.1"))
        .collect();
    expected.push("hi-diff.1".into());
    expected.sort();
    let mut pages: Vec<_> = fs::read_dir(&man)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert_eq!(pages, expected);

    let page = fs::read_to_string(man.join("hi-diff-deblur.1")).unwrap();
    assert!(page.starts_with(r".ie \n(.g .ds Aq \(aq"), "{page}");
    assert!(page.contains(".TH hi-diff-deblur 1"), "{page}");
    assert_eq!(
        text(hi_diff(&["man"])).trim(),
        fs::read_to_string(man.join("hi-diff.1")).unwrap().trim()
    );
    // Pages are replaced only by force.
    let again = hi_diff(&["man", man.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    text(hi_diff(&["man", man.to_str().unwrap(), "--force"]));
}

#[test]
fn the_pages_render() {
    if !found("groff") {
        return;
    }
    let folder = TempDir::new().unwrap();
    text(hi_diff(&["man", folder.path().to_str().unwrap()]));
    let render = |name: &Path| {
        let output = Command::new("groff")
            .args(["-man", "-Tutf8", "-Kutf8", "-ww"])
            .arg(folder.path().join(name))
            .output()
            .unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(warnings, "", "{}", name.display());
        plain(&text(output))
    };
    for entry in fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let rendered = render(Path::new(&name));
        for section in ["NAME", "SYNOPSIS", "OPTIONS"] {
            assert!(rendered.contains(section), "{name:?}: {rendered}");
        }
    }
    let program = render(Path::new("hi-diff.1"));
    for command in commands() {
        assert!(program.contains(&command), "{command}: {program}");
    }
}
