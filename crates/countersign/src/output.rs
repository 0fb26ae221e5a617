//! Output for people and programs: `-o table|json|yaml`.

use std::io::{self, Write};

use countersign_review::printable;
use serde::Serialize;

/// Form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For programs; stable fields.
    Json,
    /// For programs and diffs.
    Yaml,
}

impl OutputFormat {
    /// Writes `value` as JSON or YAML, or lets `table` write for people.
    pub(crate) fn write<T: Serialize>(
        self,
        out: &mut dyn Write,
        value: &T,
        table: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Table => table(out),
            Self::Json => {
                serde_json::to_writer_pretty(&mut *out, value)?;
                writeln!(out)
            }
            Self::Yaml => {
                let text = serde_saphyr::to_string(value)
                    .map_err(|error| io::Error::other(error.to_string()))?;
                out.write_all(text.as_bytes())
            }
        }
    }
}

/// Prints aligned `name  value` lines.
pub(crate) fn pairs(out: &mut dyn Write, rows: &[(&str, String)]) -> io::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        writeln!(out, "{name:width$}  {value}")?;
    }
    Ok(())
}

/// Prints rows under a head, columns as wide as their widest cell.
pub(crate) fn columns<const N: usize>(
    out: &mut dyn Write,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut all = vec![head.map(str::to_owned)];
    // Names come from clusters and files; none of them may move the cursor or begin a line.
    all.extend(
        rows.into_iter()
            .map(|row| row.map(|cell| printable(&cell).into_owned())),
    );
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
