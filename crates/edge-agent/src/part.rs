//! edged's lines in a file that people write into as well: a part of it, between two lines that
//! say whose it is. All else in the file is nobody's but theirs.

use std::fmt;

/// The two lines around a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) begin: &'static str,
    pub(crate) end: &'static str,
}

/// A part whose last line is missing: where it ends can't be told, so it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn(Part);

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part { begin, end } = self.0;
        write!(
            f,
            "the line \"{begin}\" has no \"{end}\" after it, so which lines are edged's can't be \
             told, and nothing in it was changed: write that line behind them"
        )
    }
}

impl Part {
    /// The file without it.
    ///
    /// # Errors
    /// When its end is missing.
    pub(crate) fn without(self, text: &str) -> Result<String, Torn> {
        self.split(text).map(|(rest, _)| rest)
    }

    /// What is in it; nothing where it is missing or torn.
    pub(crate) fn within(self, text: &str) -> String {
        self.split(text).map(|(_, part)| part).unwrap_or_default()
    }

    /// A file of others' with this in it, at its end.
    pub(crate) fn add(self, rest: &str, part: &str) -> String {
        let between = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
        format!("{rest}{between}{}\n{part}{}\n", self.begin, self.end)
    }

    /// The lines of others, and those within.
    fn split(self, text: &str) -> Result<(String, String), Torn> {
        let (mut rest, mut part, mut open) = (String::new(), String::new(), false);
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end();
            match open {
                true if bare == self.begin => return Err(Torn(self)),
                false if bare == self.begin => open = true,
                true if bare == self.end => open = false,
                true => part.push_str(line),
                false => rest.push_str(line),
            }
        }
        if open { Err(Torn(self)) } else { Ok((rest, part)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part { begin: "# begin: x", end: "# end: x" };

    #[test]
    fn others_lines_stay_as_they_are() {
        for others in ["", "a\n", "a", "# begin: xy\n# end: x\n"] {
            let with = PART.add(others, "b\nc\n");
            assert_eq!(PART.within(&with), "b\nc\n");
            assert_eq!(PART.without(&with).unwrap().trim_end(), others.trim_end());
            assert_eq!(PART.without(others), Ok(others.to_owned()));
        }
        // Between them, behind, twice, and without the last line's end.
        let text = "a\n# begin: x\nb\n# end: x\r\nc\n# begin: x\nd\n# end: x";
        assert_eq!(PART.without(text).unwrap(), "a\nc\n");
    }

    #[test]
    fn a_part_without_an_end_is_left_alone() {
        for text in ["a\n# begin: x\nb\n", "# begin: x\nb\n# begin: x\nc\n# end: x\n"] {
            let told = PART.without(text).unwrap_err().to_string();
            assert!(told.starts_with("the line \"# begin: x\" has no \"# end: x\""), "{told}");
            assert_eq!(PART.within(text), "");
        }
    }
}
