//! What all pages have.

use std::fmt::{self, Display};
use std::io::Write;
use std::path::Path;

use crate::drawing::Escaped;
use crate::error::{Error, Result};

const STYLE: &str = include_str!("assets/report.css");
const SCRIPT: &str = include_str!("assets/report.js");

/// Nothing but what the file itself holds.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A page as it is written.
pub(super) struct Page<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Page<'a> {
    /// Begins a page on `out`: `title` for the browser, `heading` and, below it, a line of what matters most.
    pub fn begin(
        out: &'a mut dyn Write,
        title: &str,
        heading: &str,
        below: &[String],
    ) -> Result<Self> {
        let mut page = Self { out };
        let title = Escaped(title);
        page.put(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n\
             <style>\n{STYLE}</style>\n<script>\n{SCRIPT}</script>\n</head>\n<body>\n"
        ))?;
        page.put(format_args!(
            "<header>\n<h1>{}</h1>\n<p class=\"quiet facts\">",
            Escaped(heading)
        ))?;
        for fact in below {
            page.put(format_args!("<span>{}</span> ", Escaped(fact)))?;
        }
        page.put(format_args!("</p>\n</header>\n<main>\n"))?;
        Ok(page)
    }

    /// Markup as it is: text in it must be [`Escaped`].
    pub fn put(&mut self, markup: fmt::Arguments<'_>) -> Result<()> {
        self.out
            .write_fmt(markup)
            .map_err(Error::io(Path::new("the report")))
    }

    /// Begins a part of the page; `id` is for links within.
    pub fn section(&mut self, id: &str, heading: &str) -> Result<()> {
        let heading = Escaped(heading);
        self.put(format_args!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{heading}</h2>\n"
        ))
    }

    pub fn end_section(&mut self) -> Result<()> {
        self.put(format_args!("</section>\n"))
    }

    /// A table that scrolls within its own box where it is wider than the page. The first column has the rows' names.
    pub fn table(&mut self, label: &str, headings: &[&str], rows: &[TableRow]) -> Result<()> {
        self.put(format_args!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\">\n<table>\n<thead><tr>",
            Escaped(label)
        ))?;
        for (column, heading) in headings.iter().enumerate() {
            let is_number = rows.first().is_some_and(|row| row.is_number(column));
            let class = if is_number { "number" } else { "" };
            self.put(format_args!(
                "<th scope=\"col\" class=\"{class}\">{}</th>",
                Escaped(heading)
            ))?;
        }
        self.put(format_args!("</tr></thead>\n<tbody>\n"))?;
        for row in rows {
            row.put(self)?;
        }
        self.put(format_args!("</tbody>\n</table>\n</div>\n"))
    }

    /// Names and values; a value that is `None` is left out.
    pub fn facts(&mut self, facts: &[(&str, Option<String>)]) -> Result<()> {
        self.put(format_args!("<dl class=\"facts\">\n"))?;
        for (name, value) in facts {
            if let Some(value) = value {
                self.put(format_args!(
                    "<dt>{}</dt><dd>{}</dd>\n",
                    Escaped(name),
                    Escaped(value)
                ))?;
            }
        }
        self.put(format_args!("</dl>\n"))
    }

    /// Lines as they are.
    pub fn code(&mut self, text: &str) -> Result<()> {
        let text = Escaped(text);
        self.put(format_args!(
            "<pre tabindex=\"0\"><code>{text}</code></pre>\n"
        ))
    }

    /// Lines as they are, behind a heading that opens them.
    pub fn folded_code(&mut self, heading: &str, text: &str) -> Result<()> {
        let heading = Escaped(heading);
        self.put(format_args!("<details><summary>{heading}</summary>\n"))?;
        self.code(text)?;
        self.put(format_args!("</details>\n"))
    }

    /// Ends the page.
    pub fn end(mut self) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        self.put(format_args!(
            "</main>\n<footer class=\"quiet\">Written by hi-diff {version}. This file needs no network and nothing beside it.</footer>\n</body>\n</html>\n"
        ))
    }
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

    fn put(&self, page: &mut Page) -> Result<()> {
        page.put(format_args!("<tr class=\"{}\">", self.class))?;
        for (index, cell) in self.cells.iter().enumerate() {
            match cell {
                Cell::Text(text) if index == 0 => page.put(format_args!(
                    "<th scope=\"row\"><bdi>{}</bdi></th>",
                    Escaped(text)
                ))?,
                Cell::Text(text) => {
                    page.put(format_args!("<td><bdi>{}</bdi></td>", Escaped(text)))?;
                }
                Cell::Number(text) => {
                    page.put(format_args!("<td class=\"number\">{}</td>", Escaped(text)))?;
                }
            }
        }
        page.put(format_args!("</tr>\n"))
    }
}

/// `count` with the word that it needs.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    let count_text = crate::numbers::thousands(count as u64);
    format!("{count_text} {}", if count == 1 { one } else { many })
}
