//! What all pages have.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use crate::error::{Error, Result};

const STYLE: &str = include_str!("assets/report.css");
const SCRIPT: &str = include_str!("assets/report.js");

/// Nothing but what the file itself holds.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page called `heading` with `main` in it; `below` is a line of what matters most.
pub(super) fn page(heading: &str, below: &[String], main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (heading) " · hi-diff" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                script { (PreEscaped(SCRIPT)) }
            }
            body {
                header { h1 { (heading) } (line(below)) }
                main { (main) }
                footer .quiet {
                    "Written by hi-diff " (env!("CARGO_PKG_VERSION"))
                    ". This file needs no network and nothing beside it."
                }
            }
        }
    }
}

/// Writes markup. Control characters are not allowed in it, and browsers make something else of them.
pub(super) fn put(out: &mut dyn Write, markup: &str) -> Result<()> {
    let is_not_allowed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    out.write_all(markup.replace(is_not_allowed, "\u{fffd}").as_bytes())
        .map_err(Error::io(Path::new("the report")))
}

/// A part of the page; `id` is for links within.
pub(super) fn section(id: &str, heading: &str, inside: Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-heading" } {
            h2 id={ (id) "-heading" } { (heading) }
            (inside)
        }
    }
}

/// Facts beside each other.
pub(super) fn line(facts: &[String]) -> Markup {
    html! { p .quiet.facts { @for fact in facts { span { (fact) } " " } } }
}

/// A table that scrolls within its own box where it is wider than the page. The first column has the rows' names.
pub(super) fn table(label: &str, headings: &[&str], rows: &[TableRow]) -> Markup {
    html! {
        div .scroll role="region" aria-label=(label) tabindex="0" {
            table {
                thead {
                    tr {
                        @for (column, heading) in headings.iter().enumerate() {
                            th .number[rows.first().is_some_and(|row| row.is_number(column))] scope="col" { (heading) }
                        }
                    }
                }
                tbody { @for row in rows { (row) } }
            }
        }
    }
}

/// Names and values.
pub(super) fn facts(facts: &[(&str, String)]) -> Markup {
    html! {
        dl .facts { @for (name, value) in facts { dt { (name) } dd { (value) } } }
    }
}

/// Lines as they are.
pub(super) fn code(text: &str) -> Markup {
    html! { pre tabindex="0" { code { (text) } } }
}

/// Lines as they are, behind a heading that opens them.
pub(super) fn folded_code(heading: &str, text: &str) -> Markup {
    html! { details { summary { (heading) } (code(text)) } }
}

/// A row of a table.
pub(super) struct TableRow {
    /// How it looks: nothing, or a class of the style.
    class: &'static str,
    cells: Vec<Cell>,
}

enum Cell {
    Text(String),
    Number(String),
}

impl TableRow {
    pub fn new(class: &'static str, name: impl Into<String>) -> Self {
        Self {
            class,
            cells: vec![Cell::Text(name.into())],
        }
    }

    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.cells.push(Cell::Text(text.into()));
        self
    }

    pub fn number(mut self, number: impl Display) -> Self {
        self.cells.push(Cell::Number(number.to_string()));
        self
    }

    fn is_number(&self, column: usize) -> bool {
        matches!(self.cells.get(column), Some(Cell::Number(_)))
    }
}

impl Render for TableRow {
    fn render(&self) -> Markup {
        html! {
            tr class=(self.class) {
                @for (index, cell) in self.cells.iter().enumerate() {
                    @match cell {
                        Cell::Text(text) if index == 0 => th scope="row" { bdi { (text) } },
                        Cell::Text(text) => td { bdi { (text) } },
                        Cell::Number(text) => td .number { (text) },
                    }
                }
            }
        }
    }
}

/// `count` with the word that it needs.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    let count_text = crate::numbers::thousands(count as u64);
    format!("{count_text} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_markup_is_text() {
        let hostile = "<script>alert('1')</script>&amp;\"\u{0}\u{1b}";
        let mut out = Vec::new();
        put(&mut out, &code(hostile).0).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<pre tabindex=\"0\"><code>&lt;script&gt;alert('1')&lt;/script&gt;&amp;amp;&quot;\u{fffd}\u{fffd}</code></pre>"
        );
    }
}
