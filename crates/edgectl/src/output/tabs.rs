//! Columns that fit their content, by the rules of Go's `text/tabwriter`, which `kubectl` prints
//! with: a column is a run of lines that have a tab-terminated cell at the same place.

/// Widths and gaps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tabs {
    /// No column is narrower.
    pub(crate) min_width: usize,
    /// Spaces after the widest cell.
    pub(crate) padding: usize,
}

/// How `describe` prints.
pub(crate) const DESCRIBE: Tabs = Tabs { min_width: 0, padding: 2 };

impl Tabs {
    /// Replaces tabs by as many spaces as line the columns up.
    pub(crate) fn align(self, text: &str) -> String {
        let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
        let mut out = String::with_capacity(text.len() * 2);
        let mut widths = Vec::new();
        self.block(&lines, 0, lines.len(), &mut widths, &mut out);
        out.pop();
        out
    }

    fn block(
        self,
        lines: &[Vec<&str>],
        from: usize,
        to: usize,
        widths: &mut Vec<usize>,
        out: &mut String,
    ) {
        let column = widths.len();
        let (mut start, mut this) = (from, from);
        while this < to {
            if column + 1 >= lines[this].len() {
                this += 1;
                continue;
            }
            write_lines(&lines[start..this], widths, out);
            start = this;
            let mut width = self.min_width;
            while this < to && column + 1 < lines[this].len() {
                width = width.max(chars(lines[this][column]) + self.padding);
                this += 1;
            }
            widths.push(width);
            self.block(lines, start, this, widths, out);
            widths.pop();
            start = this;
            this += 1;
        }
        write_lines(&lines[start..to], widths, out);
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn write_lines(lines: &[Vec<&str>], widths: &[usize], out: &mut String) {
    for line in lines {
        for (n, cell) in line.iter().enumerate() {
            out.push_str(cell);
            let last = n + 1 == line.len();
            if let Some(width) = widths.get(n).filter(|_| !last) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(chars(cell))));
            }
        }
        out.push('\n');
    }
}

/// A table whose columns never get narrower, so that lines added later still line up.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    widths: Vec<usize>,
}

impl Rows {
    /// The least width of a column, and the gap between columns, as `kubectl get` has them.
    const MIN_WIDTH: usize = 6;
    const PADDING: usize = 3;

    /// Prints rows, all of one length.
    pub(crate) fn render(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            self.widths.resize(self.widths.len().max(row.len()), Rows::MIN_WIDTH);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(chars(cell) + Rows::PADDING);
            }
        }
        let mut out = String::new();
        for row in rows {
            for (n, cell) in row.iter().enumerate() {
                out.push_str(cell);
                if n + 1 < row.len() {
                    let gap = self.widths[n].saturating_sub(chars(cell));
                    out.extend(std::iter::repeat_n(' ', gap));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_runs_of_lines() {
        let text = "Name:\tweb\nNamespace:\tdefault\nEvents:\n  A\tB\n  long cell\tC\nEnd:\tx\n";
        assert_eq!(
            DESCRIBE.align(text),
            "Name:       web\nNamespace:  default\nEvents:\n  A          B\n  long cell  C\n\
             End:         x\n"
        );
    }

    #[test]
    fn nested_columns_and_empty_cells() {
        let text = "a\tb\tc\nlonger\t\tz\nx\ty\n";
        assert_eq!(DESCRIBE.align(text), "a       b  c\nlonger     z\nx       y\n");
    }

    #[test]
    fn rows_remember_their_widths() {
        let mut rows = Rows::default();
        let row = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        assert_eq!(
            rows.render(&[row("NAME", "AGE"), row("a-long-name", "5s")]),
            "NAME          AGE\na-long-name   5s\n"
        );
        assert_eq!(rows.render(&[row("b", "6s")]), "b             6s\n");
        assert_eq!(Rows::default().render(&[row("A", "B")]), "A     B\n");
    }
}
