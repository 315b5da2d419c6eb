//! The kernel's command line as a file: one line of words, of which the first lines count. What is
//! there stays as it is; words are added at the end of that line.

/// What turns the memory cgroup on: the first is the kernel's, the second Raspberry Pi OS's older
/// kernels want as well.
const WANTED: [&str; 2] = ["cgroup_enable=memory", "cgroup_memory=1"];
/// What turns it off, among the same words.
const UNWANTED: &str = "cgroup_disable=memory";

/// The text with the memory cgroup turned on; `None` when it says so already. Only the words that
/// matter here differ; other lines, spaces and the end of the file stay.
#[must_use]
pub fn with_memory(text: &str) -> Option<String> {
    let at = text.len() - text.trim_start_matches(['\r', '\n', ' ', '\t']).len();
    let end = text[at..].find(['\r', '\n']).map_or(text.len(), |found| at + found);
    let line = &text[at..end];
    let has = |word: &str| line.split_ascii_whitespace().any(|found| found == word);
    if WANTED.iter().all(|word| has(word)) && !has(UNWANTED) {
        return None;
    }
    let mut new = line.to_owned();
    while let Some(found) = word_at(&new, UNWANTED) {
        let until = (found + UNWANTED.len()..new.len())
            .find(|i| !new.as_bytes()[*i].is_ascii_whitespace())
            .unwrap_or(new.len());
        new.replace_range(found..until, "");
    }
    let mut new = new.trim_end().to_owned();
    for word in WANTED.iter().filter(|word| !has(word)) {
        if !new.is_empty() {
            new.push(' ');
        }
        new.push_str(word);
    }
    let tail = if text[end..].is_empty() { "\n" } else { &text[end..] };
    Some(format!("{}{new}{tail}", &text[..at]))
}

fn word_at(line: &str, word: &str) -> Option<usize> {
    let whole = |at: &usize| {
        let around = [line[..*at].chars().next_back(), line[at + word.len()..].chars().next()];
        around.into_iter().flatten().all(|c| c.is_ascii_whitespace())
    };
    line.match_indices(word).map(|(at, _)| at).find(whole)
}

#[cfg(test)]
mod tests {
    use super::with_memory;

    #[test]
    fn words_are_added_to_the_line_and_the_rest_stays() {
        let pi = "console=serial0,115200 root=PARTUUID=ab-02 rootwait quiet\n";
        let want = "console=serial0,115200 root=PARTUUID=ab-02 rootwait quiet \
                    cgroup_enable=memory cgroup_memory=1\n";
        assert_eq!(with_memory(pi).as_deref(), Some(want));
        assert_eq!(with_memory(want), None, "again changes nothing");
        let half = "a cgroup_memory=1 b\r\n# kept\r\n";
        let want = "a cgroup_memory=1 b cgroup_enable=memory\r\n# kept\r\n";
        assert_eq!(with_memory(half).as_deref(), Some(want));
        let off = "a cgroup_disable=memory  b xcgroup_disable=memory";
        let want = "a b xcgroup_disable=memory cgroup_enable=memory cgroup_memory=1\n";
        assert_eq!(with_memory(off).as_deref(), Some(want));
        let empty = "cgroup_enable=memory cgroup_memory=1\n";
        assert_eq!(with_memory("").as_deref(), Some(empty));
    }
}
