//! Tables for people: columns as wide as what is in them, and under a row what belongs to it.

/// How wide the lines under a row may get.
const WIDTH: usize = 110;

/// The rows of a table of `N` columns.
pub(super) struct Rows<const N: usize> {
    rows: Vec<([String; N], Vec<String>)>,
}

impl<const N: usize> Rows<N> {
    pub(super) fn new(heads: [&str; N]) -> Self {
        Self { rows: vec![(heads.map(str::to_owned), Vec::new())] }
    }

    /// Adds a row with the names that belong to it.
    pub(super) fn push(&mut self, cells: [String; N], below: &[String]) {
        self.rows.push((cells, below.to_vec()));
    }

    /// Every line begins with the margin; nothing where there is no row.
    pub(super) fn render(&self, margin: &str) -> String {
        if self.rows.len() < 2 {
            return String::new();
        }
        let mut widths = [0_usize; N];
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for (cells, below) in &self.rows {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            text.push_str(margin);
            text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
            for line in wrapped(below) {
                text.push_str(&format!("{margin}    {line}\n"));
            }
        }
        text
    }
}

fn wrapped(names: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() + 2 <= WIDTH => {
                line.push_str(", ");
                line.push_str(name);
            }
            Some(line) => {
                line.push(',');
                lines.push(name.clone());
            }
            None => lines.push(name.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_names_stand_below() {
        let mut rows = Rows::new(["A", "B"]);
        rows.push(["long".to_owned(), "x".to_owned()], &["one".to_owned(), "two".to_owned()]);
        rows.push(["é".to_owned(), String::new()], &[]);
        assert_eq!(rows.render("  "), "  A     B\n  long  x\n      one, two\n  é\n");
    }

    #[test]
    fn many_names_take_several_lines() {
        let names: Vec<String> = (0..40).map(|number| format!("name-{number}")).collect();
        let lines = wrapped(&names);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= WIDTH + 1), "{lines:?}");
        assert_eq!(lines.join(" ").split(", ").count(), 40);
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Rows::new(["A"]).render(""), "");
    }
}
