//! The command line as it was given, for reports.

use std::env;

/// This program's command line, as a shell would take it again.
pub fn command_line() -> String {
    let arguments = env::args_os().skip(1);
    let quoted = arguments.map(|argument| quoted(&argument.to_string_lossy()));
    ["hi-diff".to_string()]
        .into_iter()
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./,:=+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_string();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        let found = [
            "run/a-1.toml",
            "2..6",
            "",
            "my photos",
            "it's",
            "$HOME;",
            "日本",
        ]
        .map(quoted);
        let expected = [
            "run/a-1.toml",
            "2..6",
            "''",
            "'my photos'",
            r"'it'\''s'",
            "'$HOME;'",
            "日本",
        ];
        assert_eq!(found, expected);
    }
}
